"""Small JSON arrays: every datatype's values exactly, every wrong one named."""

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tensor_bodies import (
    DATATYPES,
    FLOATS,
    body,
    decoded,
    read,
    read_all,
    refused,
    rounded,
    tensor,
)
from inferbridge.bridge import json_numbers
from inferbridge.bridge.datatypes import DATATYPES as DATATYPES_BY_NAME
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_numbers import LARGE


@pytest.mark.parametrize(
    ("datatype", "data", "raw"),
    [
        ("BOOL", "[true, false]", b"\1\0"),
        ("INT8", "[-128,127]", b"\x80\x7f"),
        ("UINT8", "[0,255]", b"\0\xff"),
        ("INT64", f"[{-(2**63)},{2**63 - 1}]", struct.pack("<qq", -(2**63), 2**63 - 1)),
        ("UINT64", f"[{2**64 - 1},{2**53 + 1}]", struct.pack("<QQ", 2**64 - 1, 2**53 + 1)),
        ("FP16", "[65504,6e-8]", struct.pack("<ee", 65504, 6e-8)),
        ("FP16", "[65519.99,0.1]", struct.pack("<ee", 65504, 0.1)),
        ("BF16", "[1,-2.5]", b"\x80\x3f\x20\xc0"),
        ("BF16", "[3.3895313892515355e38,1e-40]", b"\x7f\x7f\x01\x00"),
        ("FP32", "[0.1,1]", struct.pack("<ff", 0.1, 1)),
        ("FP32", "[-0.0,1e-46]", struct.pack("<ff", -0.0, 0)),
        ("FP32", "[3.4028235677973366e38,0]", struct.pack("<ff", 3.4028234663852886e38, 0)),
        ("FP64", f"[0.1,{2**70}]", struct.pack("<dd", 0.1, 2.0**70)),
        ("BYTES", r'["a\"\u00e9\ud83d\ude00\n","é"]', b'\t\0\0\0a"\xc3\xa9\xf0\x9f\x98\x80\n\2\0\0\0\xc3\xa9'),
        ("BYTES", r'["\u0000",""]', b"\1\0\0\0\0\0\0\0\0"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_small_arrays(datatype: str, data: str, raw: bytes, nested: bool) -> None:
    """Each datatype's values come out exactly, flat or nested."""
    if nested:
        first, second = data[1:-1].rsplit(",", 1)
        assert read(f"[ [{first}], [{second} ]\n]", datatype, [2, 1]) == raw
        assert read(f"[[[{first},{second}]]]", datatype, [1, 1, 2]) == raw
    else:
        assert read(data, datatype) == raw


@pytest.mark.parametrize(
    ("datatype", "data", "message"),
    [
        ("INT8", "[128]", "128 is not from -128 to 127 (INT8)"),
        ("UINT8", "[-1]", "-1 is not from 0 to 255 (UINT8)"),
        ("INT64", f"[{2**63}]", f"{2**63} is not from {-(2**63)} to {2**63 - 1} (INT64)"),
        ("UINT64", f"[{2**64}]", f"{2**64} is not from 0 to {2**64 - 1} (UINT64)"),
        ("INT32", "[1,1.0]", "element 1 is 1.0, INT32 needs an integer"),
        ("INT32", "[1e2]", "element 0 is 100.0, INT32 needs an integer"),
        ("INT32", "[true]", "element 0 is true, INT32 needs an integer"),
        ("INT32", '["1"]', 'element 0 is "1", INT32 needs an integer'),
        ("INT32", "[null]", "element 0 is null, INT32 needs an integer"),
        ("FP32", "[false]", "element 0 is false, FP32 needs a number"),
        ("FP32", '["1"]', 'element 0 is "1", FP32 needs a number'),
        ("FP32", "[{}]", "element 0 is an object, FP32 needs a number"),
        ("FP32", "[1e39]", "1e+39 is out of the range of FP32"),
        ("FP32", "[3.4028235677973367e38]", "3.4028235677973366e+38 is out of the range of FP32"),
        ("FP16", "[65520]", "65520.0 is out of the range of FP16"),
        ("BF16", "[3.39e38,3.4e38]", "3.4e+38 is out of the range of BF16"),
        ("FP64", "[1e309]", "data is not valid: 1e309 is out of range"),
        ("FP64", f"[{'9' * 309}]", f"{'9' * 40}… is out of range"),
        ("FP64", f"[0.{'1' * 400}]", "a number in data is longer than 400 characters"),
        ("INT64", f"[{'1' * 5000}]", "a number in data is longer than 400 characters"),
        ("BOOL", "[0]", "element 0 is 0, BOOL needs true or false"),
        ("BOOL", '["true"]', 'element 0 is "true", BOOL needs true or false'),
        ("BYTES", "[1]", "element 0 is 1, BYTES needs a string"),
        ("BYTES", "[null]", "element 0 is null, BYTES needs a string"),
        ("FP32", "1", "data must be an array, not 1"),
        ("FP32", '"1"', 'data must be an array, not "1"'),
        ("FP32", "{}", "data must be an array, not an object"),
        ("BYTES", '"a"', 'data must be an array, not "a"'),
    ],
)
def test_wrong_values(datatype: str, data: str, message: str) -> None:
    """What the datatype cannot hold is refused; the error names the tensor and the value."""
    assert refused(body(tensor(data, datatype))) == f"tensor 'x': {message}"


@pytest.mark.parametrize("text", [r'["\ud800"]', r'["\udc00\ud800"]', r'["a\udfff"]', r'[["\ud800x"]]'])
def test_lone_surrogates(text: str) -> None:
    """Half a character is refused by the struct decoder, and by the reader of strings should one get so far."""
    refused(body(tensor(text, "BYTES", [1])))
    with pytest.raises(BridgeError, match="tensor 'x': a string in data has a lone surrogate"):
        json_numbers.read(text.encode(), DATATYPES_BY_NAME["BYTES"], [1] * (text.count("[")), 1, "x", "reject")


@pytest.mark.parametrize(
    ("data", "shape", "message"),
    [
        ("[1,2,3,4,5]", [2, 3], "shape [2,3] needs 6 elements, data has 5"),
        ("[]", [1], "shape [1] needs 1 element, data has 0"),
        ("[1]", [0], "shape [0] needs 0 elements, data has 1"),
        ("[[1,2],[3]]", [2, 2], "data is nested, but not as shape [2,2] says (or ragged)"),
        ("[[1,2,3],[4]]", [2, 2], "data is nested, but not as shape [2,2] says (or ragged)"),
        ("[[1,2],3,4]", [2, 2], "data is nested, but not as shape [2,2] says (or ragged)"),
        ("[1,[2,3]]", [3], "data is nested, but not as shape [3] says (or ragged)"),
        ("[[1,2,3,4]]", [2, 2], "data is nested, but not as shape [2,2] says (or ragged)"),
        ("[[[1],[2]]]", [1, 2], "data is nested, but not as shape [1,2] says (or ragged)"),
        ("[[1],[2]]", [1, 2], "data is nested, but not as shape [1,2] says (or ragged)"),
        ("[[]]", [1, 1], "data is nested, but not as shape [1,1] says (or ragged)"),
        ("[[1],[]]", [2, 1], "data is nested, but not as shape [2,1] says (or ragged)"),
    ],
)
@pytest.mark.parametrize("datatype", ["FP32", "INT16", "BYTES", "BOOL"])
def test_wrong_shapes(data: str, shape: list[int], message: str, datatype: str) -> None:
    """Flat data has the shape's element count, nested data the shape's nesting."""
    if datatype in {"BYTES", "BOOL"}:
        for digit in "12345":
            data = data.replace(digit, '"a"' if datatype == "BYTES" else "true")
    assert refused(body(tensor(data, datatype, shape))) == f"tensor 'x': {message}"


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize(
    ("data", "shape"), [("[]", [0]), ("[]", [0, 3]), ("[[],[]]", [2, 0]), ("[ ]", [2, 0]), ("null", [0])]
)
def test_empty_tensors(datatype: str, data: str, shape: list[int]) -> None:
    """A tensor without elements is empty data, flat or nested, or none at all."""
    assert read(data, datatype, shape) == b""
    text = body(tensor(data, datatype, shape)).replace(b',"data":' + data.encode(), b"")
    assert read_all(text) == [b""]


@pytest.mark.parametrize("spaces", [2 * LARGE, 0])
@pytest.mark.parametrize("datatype", ["FP32", "BOOL", "BYTES"])
def test_long_empty_tensors(datatype: str, spaces: int) -> None:
    """White space and brackets alone are no elements, however many."""
    assert read(f"[{' ' * spaces}]", datatype, [0]) == b""
    rows = 3000
    assert read(f"[{','.join(['[]'] * rows)}]", datatype, [rows, 0]) == b""


def test_a_scalar_is_one_element() -> None:
    """A shape without dimensions takes an array of one."""
    assert read("[2]", "INT8", []) == b"\2"


@pytest.mark.parametrize("depth", [65, 1000, 100_000])
def test_deep_nesting(depth: int) -> None:
    """Brackets by the thousand are an error, not a crash."""
    text = body(tensor("[" * depth + "1" + "]" * depth, "FP32", [1] * 64))
    try:
        message = refused(text)
    except RecursionError:  # msgspec's, for the skeleton; the caller turns it into an error
        return
    assert "nest" in message


@pytest.mark.parametrize(
    "data", ["[1,,2]", "[1,2,]", "[,1]", "[1 2]", "[01,2]", "[1.,2]", "[.5,2]", "[+1,2]", "[0x1,2]", "[1e,2]"]
)
@pytest.mark.parametrize("size", [0, 2000])
def test_malformed_arrays(data: str, size: int) -> None:
    """Only JSON is JSON, in small arrays and in large ones."""
    text = data[:-1] + ",1.5" * size + "]"
    for count in (1, 2, 3):
        refused(body(tensor(text, "FP32", [count + size])))


@pytest.mark.parametrize("datatype", FLOATS)
def test_special_numbers_by_policy(datatype: str) -> None:
    """null is NaN with "null"; NaN and Infinity are values with "literal"; else both are errors."""
    words = "[1,NaN,-Infinity, Infinity ]"
    raw = read(words, datatype, nan="literal")
    size = len(raw) // 4
    assert [repr(decoded(raw[at : at + size], datatype)) for at in range(0, len(raw), size)] == [
        "1.0",
        "nan",
        "-inf",
        "inf",
    ]
    assert read("[[1],[NaN]]", datatype, [2, 1], nan="literal") == raw[: 2 * size]
    assert read("[1,null]", datatype, nan="null") == raw[: 2 * size]
    assert "element 1 is null" in refused(body(tensor("[1,null]", datatype)))
    assert "element 1 is null" in refused(body(tensor("[1,null]", datatype)), nan="literal")
    for nan in ("reject", "null"):
        refused(body(tensor(words, datatype)), nan)
    assert "1e999 is out of range" in refused(body(tensor("[NaN,1e999]", datatype)), nan="literal")


def test_words_in_strings_are_text() -> None:
    """NaN in a BYTES tensor is a string, with every policy."""
    assert read('["NaN","-Infinity"]', "BYTES", nan="literal") == b"\3\0\0\0NaN\x09\0\0\0-Infinity"


@settings(max_examples=200)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=None), min_size=1, max_size=8))
@pytest.mark.parametrize("datatype", FLOATS)
def test_any_decimal_is_rounded_once(datatype: str, values: list[Any]) -> None:
    """Any decimal text becomes the nearest float of the datatype, or is out of range."""
    texts = [str(value) for value in values if abs(value.adjusted()) < 400]
    texts = [text for text in texts if len(text) <= 400 and text.lstrip("-") != "0"]
    expected = [rounded(text, datatype) for text in texts]
    if None in expected:
        assert "range" in refused(body(tensor(f"[{','.join(texts)}]", datatype)))
    elif texts:
        assert read(f"[{','.join(texts)}]", datatype) == b"".join(part for part in expected if part)
