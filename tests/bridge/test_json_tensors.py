"""Tensors in JSON bodies: small ones, binary ones, where big ones are cut out, and how they are written."""

import json
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tensor_bodies import (
    DATATYPES,
    FLOATS,
    INTEGERS,
    Body,
    Tensor,
    body,
    decoded,
    encoded,
    read,
    read_all,
    rounded,
    tensor,
    write,
    write_all,
)
from inferbridge.bridge import json_numbers
from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import DATATYPES as DATATYPES_BY_NAME
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_cut import MARK
from inferbridge.bridge.json_numbers import LARGE
from inferbridge.bridge.json_tensors import TensorSink, TensorSource
from inferbridge.bridge.values import Buffer

BIG = f"[{','.join(['1.5'] * 3000)}]"
BIG_RAW = struct.pack("<3000f", *[1.5] * 3000)


def refused(text: Buffer, nan: NanPolicy = "reject", header_length: int | None = None) -> str:
    """The message with which a body is refused."""
    with pytest.raises((BridgeError, msgspec.DecodeError)) as caught:
        read_all(text, header_length, nan)
    return str(caught.value)


# Small arrays


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


# Where arrays are cut out


def test_a_big_array_does_not_reach_the_struct_decoder() -> None:
    """The JSON part is small whatever the tensors are; the text around stays as it was."""
    text = b' {"id":"a", "inputs" : [' + tensor(BIG) + b" , " + tensor(BIG) + b"]}\n"
    source = TensorSource(text, None, "reject")
    assert len(source.json) < 250
    assert source.json == text.replace(BIG.encode(), MARK + b"00001", 1).replace(BIG.encode(), MARK + b"00002", 1)
    assert read_all(text) == [BIG_RAW, BIG_RAW]


@pytest.mark.parametrize(
    "key", [b'"data"', b'"d\\u0061ta"', b'"\\u0064\\u0061\\u0074\\u0061"', b' "data"\n\t\r ', b'"data" ']
)
@pytest.mark.parametrize("before", [b"", b" ", b"\n\t\r "])
def test_any_spelling_of_the_key(key: bytes, before: bytes) -> None:
    """White space and escapes in the key change nothing."""
    text = body(tensor(BIG)).replace(b'"data":[', key + b":" + before + b"[ \n")
    assert read_all(text) == [BIG_RAW]


@pytest.mark.parametrize("string", [r"\"data\":[1,2,", r"\\\"data\":[1", r"\"data\":[[1]]}", "\\\\", "data", "]}["])
def test_strings_that_look_like_data(string: str) -> None:
    """Text inside strings is never taken for an array."""
    text = body(tensor(BIG), tensor(f'["{string}","b"]', "BYTES", [2]), tensor(BIG))
    text = text[:-1] + b',"id":"' + string.encode() + b'"}'
    value = json.loads(f'"{string}"').encode()
    assert read_all(text) == [BIG_RAW, struct.pack("<I", len(value)) + value + b"\1\0\0\0b", BIG_RAW]
    source = TensorSource(text, None, "reject")
    assert msgspec.json.decode(source.json, type=Body).id == json.loads(f'"{string}"')


def forged(data: str, extra: str = "") -> bytes:
    """A body with this text for data, and a big array that may be cut out elsewhere."""
    head = json.dumps({"name": "x", "datatype": "FP32", "shape": [3000]})[:-1]
    return f'{{"inputs":[{head},"data":{data}{extra}}}]}}'.encode()


MARKERS = ["-0.0E-00001", "-0.0E-1", "-1", "-0", "-0.0", '"-0.0E-00001"', "[-0.0E-00001]"]


@pytest.mark.parametrize("data", MARKERS)
@pytest.mark.parametrize(
    "extra",
    ["", f',"parameters":{{"data":{BIG}}}', f',"parameters":{{"a":{{"data":{BIG}}}}}'],
)
def test_a_marker_cannot_be_forged(data: str, extra: str) -> None:
    """A client that writes a marker gets an error, also when a real array was cut out elsewhere."""
    refused(forged(data, extra))
    refused(forged(data, extra) + b" " * LARGE)


def test_markers_in_values_are_only_values() -> None:
    """A body that has something like a marker in it is read all the same, without cutting."""
    text = body(tensor(BIG), tensor("[-0.0E-00001]", "FP32"))
    assert read_all(text) == [BIG_RAW, struct.pack("<f", -0.0)]
    assert read_all(body(tensor(BIG, name="-0.0E-00001"))) == [BIG_RAW]


def test_an_array_where_no_data_belongs() -> None:
    """An array called data among parameters was cut out but nobody asked for it."""
    message = refused(forged(BIG, f',"parameters":{{"data":{BIG}}}'))
    assert message == 'the key "data" with an array stands where no tensor has its data, or twice in one tensor'


@pytest.mark.parametrize("first", [BIG, "[1]", "-1", '["a"]', "[[1]]", "null"])
@pytest.mark.parametrize("second", [BIG, "[2]"])
def test_data_twice(first: str, second: str) -> None:
    """Data given twice is an error, whichever of them a decoder would take."""
    head = json.dumps({"name": "x", "datatype": "FP32", "shape": [3000 if second == BIG else 1]})[:-1]
    assert "twice" in refused(f'{{"inputs":[{head},"data":{first},"data":{second}}}]}}'.encode())


def test_a_parameter_called_data_is_only_a_parameter() -> None:
    """The key data elsewhere, with a plain value, is nothing special."""
    assert read_all(forged(BIG, ',"parameters":{"data":5}')) == [BIG_RAW]
    assert read_all(body(tensor("[1]")[:-1] + b',"parameters":{"data":"[1,2]"}}')) == [struct.pack("<f", 1)]


@pytest.mark.parametrize(
    "text", [b"", b"{", b'{"inputs":[{"data":[1', b'"data":[1,', b'"data":[[1,2]', b'"data"', b"\xff\xfe"]
)
@pytest.mark.parametrize("padding", [0, LARGE])
def test_torn_bodies(text: bytes, padding: int) -> None:
    """Half a body is the struct decoder's to refuse, not ours to crash on."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        msgspec.json.decode(TensorSource(text + b" " * padding, None, "literal").json, type=Body)


def test_many_openings_are_read_in_linear_time() -> None:
    """A body of nothing but beginnings of arrays is scanned once, not once for each."""
    for opening in (b'"data":[1,', b'"data":[[1],', b'"data":[[', b'"data":[' + b"[" * 50, b'"data":' + b" " * 50):
        text = opening * 100_000
        assert TensorSource(text, None, "reject").json == text


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(kind: type) -> None:
    """A body may be any kind of buffer."""
    assert read_all(kind(body(tensor(BIG)))) == [BIG_RAW]
    text = body(tensor("[1]"))
    assert read_all(kind(text), len(text)) == [struct.pack("<f", 1)]


PIECES = ["[1,2]", BIG, f"[{BIG},{BIG}]", '["a]"]', "[true]", "null", "-0.0E-00001", '"data"', "[[],[]]"]
PIECES += ['{"data":[1]}', f'{{"data":{BIG}}}']


@settings(max_examples=100)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.booleans())
def test_cutting_is_the_same_as_not_cutting(values: list[str], escaped: bool) -> None:
    """A cut body means what the whole body means to a JSON parser, or is refused."""
    items = [f'{{"name":"x","datatype":"FP32","shape":[3000],"data":{value}}}' for value in values]
    text = f'{{"inputs":[{",".join(items)}]}}'
    if escaped:
        text = text.replace('"data"', '"dat\\u0061"')
    whole = [item["data"] for item in json.loads(text)["inputs"]]
    try:
        found = read_all(text.encode())
    except BridgeError:
        assert any(not isinstance(data, list) or len(data) != 3000 for data in whole)
    else:
        assert found == [struct.pack("<3000f", *data) for data in whole]


# Binary data behind the JSON part


def binary_body(sizes: list[Any], tail: bytes, data: str = "") -> tuple[bytes, int]:
    """A body with UINT8 tensors of these sizes in the tail, and the length of its JSON part."""
    items = [
        f'{{"name":"t{number}","datatype":"UINT8","shape":[2],"parameters":{{"binary_data_size":{json.dumps(size)}}}{data}}}'
        for number, size in enumerate(sizes)
    ]
    text = f'{{"inputs":[{",".join(items)}]}}'.encode()
    return text + tail, len(text)


def test_binary_tensors_are_taken_in_order() -> None:
    """Each tensor gets its bytes from behind the JSON part, as views of the body."""
    assert read_all(*binary_body([2, 2], b"abcd")) == [b"ab", b"cd"]
    text, length = binary_body([2], b"ab")
    source = TensorSource(text, length, "reject")
    assert isinstance(source.take(msgspec.UNSET, "UINT8", [2], {"binary_data_size": 2}, "x"), memoryview)


def test_binary_and_json_tensors_in_one_body() -> None:
    """Both forms mix in one body."""
    text = body(
        tensor("[1,2]", "INT8"),
        tensor("", "INT8", [3])[: -len(b',"data":}')] + b',"parameters":{"binary_data_size":3}}',
    )
    assert read_all(text + b"abc", len(text)) == [b"\1\2", b"abc"]


@pytest.mark.parametrize(
    ("sizes", "tail", "data", "message"),
    [
        ([2], b"a", "", "tensor 't0': binary_data_size is 2, behind the JSON part are 1 bytes left"),
        ([2, 2], b"abc", "", "tensor 't1': binary_data_size is 2, behind the JSON part are 1 bytes left"),
        ([2], b"abc", "", "1 bytes are left behind the last binary tensor"),
        ([3], b"abc", "", "tensor 't0': shape [2] of UINT8 needs 2 bytes, the raw data has 3"),
        ([-1], b"abc", "", "tensor 't0': binary_data_size is -1, behind the JSON part are 3 bytes left"),
        ([True], b"a", "", "tensor 't0': binary_data_size is True, behind the JSON part are 1 bytes left"),
        (["2"], b"ab", "", "tensor 't0': binary_data_size is '2', behind the JSON part are 2 bytes left"),
        ([2.0], b"ab", "", "tensor 't0': binary_data_size is 2.0, behind the JSON part are 2 bytes left"),
        ([2], b"ab", ',"data":[1,2]', "tensor 't0': has both data and the parameter binary_data_size"),
    ],
)
def test_binary_tails_that_do_not_fit(sizes: list[Any], tail: bytes, data: str, message: str) -> None:
    """Every byte behind the JSON part belongs to one tensor."""
    text, length = binary_body(sizes, tail, data)
    assert refused(text, header_length=length) == message


def test_binary_data_without_its_header() -> None:
    """A size without the header that says where the JSON part ends cannot be used."""
    text, _ = binary_body([2], b"")
    assert "behind the JSON part are 0 bytes left" in refused(text)


def test_neither_form() -> None:
    """A tensor with elements must have data."""
    text = body(tensor("null", "FP32", [1]))
    assert refused(text) == "tensor 'x': has neither data nor the parameter binary_data_size"
    assert refused(text.replace(b',"data":null', b"")) == refused(text)


def test_an_unknown_datatype() -> None:
    """The datatype is looked at before the data."""
    assert "unknown datatype 'FP23', did you mean FP32?" in refused(body(tensor("[1]", "FP23")))


# Writing


@pytest.mark.parametrize("count", [1, 64, 65, 5000])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_written_arrays_are_read_back(datatype: str, count: int) -> None:
    """All 14 datatypes survive raw → JSON → raw bit for bit, in small, large and very large arrays."""
    raw = random_raw(datatype, count)
    text, header_length = write_all([(raw, datatype, [count], False)])
    assert header_length is None
    assert json.loads(text)["inputs"][0]["shape"] == [count]
    assert read_all(text) == [raw]


def random_raw(datatype: str, count: int) -> bytes:
    """Raw data of random finite values."""
    random = np.random.default_rng(count)
    if datatype == "BYTES":
        elements = ['é\0"\\\n' + "x" * int(number) for number in random.integers(0, 9, count)]
        return b"".join(struct.pack("<I", len(element.encode())) + element.encode() for element in elements)
    if datatype == "BOOL":
        return bytes(random.integers(0, 2, count, np.uint8))
    if datatype in INTEGERS:
        return random.bytes(count * INTEGERS[datatype][1] // 8)
    if datatype == "BF16":
        bits = random.integers(0, 2**16, count, np.uint16)
        return np.where(bits & 0x7F80 == 0x7F80, 0, bits).astype("<u2").tobytes()
    kind = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}[datatype]
    values = np.frombuffer(random.bytes(count * np.dtype(kind).itemsize), kind)
    return np.where(np.isfinite(values), values, 0).astype(kind).tobytes()


@settings(max_examples=100)
@given(st.data())
@pytest.mark.parametrize("datatype", DATATYPES)
def test_any_values_survive_json(datatype: str, data: st.DataObject) -> None:
    """Whatever finite values a tensor has, its JSON gives them back bit for bit."""
    if datatype == "BYTES":
        texts = data.draw(st.lists(st.text(max_size=20), max_size=10))
        parts = [struct.pack("<I", len(text.encode())) + text.encode() for text in texts]
    elif datatype == "BOOL":
        parts = [bytes([value]) for value in data.draw(st.lists(st.booleans(), max_size=10))]
    elif datatype in INTEGERS:
        size = INTEGERS[datatype][1] // 8
        parts = data.draw(st.lists(st.binary(min_size=size, max_size=size), max_size=10))
    else:
        width = {"FP16": 16, "BF16": 16, "FP32": 32, "FP64": 64}[datatype]
        parts = data.draw(st.lists(st.binary(min_size=width // 8, max_size=width // 8), max_size=10))
        parts = [part for part in parts if np.isfinite(decoded(part, datatype))]
    raw = b"".join(parts)
    assert read_all(write_all([(raw, datatype, [len(parts)], False)])[0]) == [raw]


def test_floats_are_widened_to_doubles() -> None:
    """FP32, FP16 and BF16 are written as the double they are equal to, as every runtime does."""
    assert write(struct.pack("<ff", 0.1, 1), "FP32", [2]) == b"[0.10000000149011612,1.0]"
    assert write(struct.pack("<e", 0.1), "FP16", [1]) == b"[0.0999755859375]"
    assert write(struct.pack("<f", 0.1)[2:], "BF16", [1]) == b"[0.099609375]"
    assert write(struct.pack("<d", 0.1), "FP64", [1]) == b"[0.1]"
    assert json.loads(write(struct.pack("<f", 0.1) * 100, "FP32", [100])) == [0.10000000149011612] * 100


@pytest.mark.parametrize("count", [3, 300])
@pytest.mark.parametrize("datatype", FLOATS)
def test_special_numbers_are_written_by_policy(datatype: str, count: int) -> None:
    """NaN and Infinity are refused, null, or written as words."""
    values = [1.5, float("nan"), float("-inf"), float("inf")]
    raw = b"".join(encoded(value, datatype) for value in values) * count
    shape = [4 * count]
    assert json.loads(write(raw, datatype, shape, "null")) == [1.5, None, None, None] * count
    assert write(raw, datatype, shape, "literal") == b"[" + b",".join([b"1.5,NaN,-Infinity,Infinity"] * count) + b"]"
    with pytest.raises(BridgeError, match="tensor 't0': has NaN, which JSON cannot carry"):
        write(raw, datatype, shape)


@pytest.mark.parametrize("element", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80"])
def test_bytes_that_are_not_text(element: bytes) -> None:
    """JSON carries text only; the client can ask for binary data."""
    raw = b"\1\0\0\0a" + struct.pack("<I", len(element)) + element
    with pytest.raises(
        BridgeError, match="tensor 't0': element 1 is not UTF-8, so JSON cannot carry it; ask for binary data"
    ):
        write_all([(raw, "BYTES", [2], False)])
    assert write_all([(raw, "BYTES", [2], True)])[0].endswith(raw)


def test_binary_tensors_are_written_behind_the_json_part() -> None:
    """Binary tensors follow in order, uncopied; the length of the JSON part is told."""
    big = np.arange(30_000, dtype="<f8").tobytes()
    tensors: list[tuple[Buffer, str, list[int], bool]] = [
        (b"\1\2", "INT8", [2], True),
        (big, "FP64", [30_000], False),
        (b"\3", "INT8", [1], False),
        (big, "FP64", [30_000], True),
    ]
    text, length = write_all(tensors)
    assert length is not None
    assert text[length:] == b"\1\2" + big
    assert read_all(text, length) == [b"\1\2", big, b"\3", big]
    sink = TensorSink("reject")
    assert sink.put(big, "FP64", [30_000], "x", True) == (msgspec.UNSET, len(big))
    assert sink.finish(b"{}") == ((b"{}", big), 2)


def test_big_arrays_are_chunks_of_their_own() -> None:
    """The text of a big array is not copied into the body; names cannot be taken for its marker."""
    raw = np.arange(30_000, dtype="<f8").tobytes()
    sink = TensorSink("reject")
    evil = f'"data":{MARK.decode()}00001'
    items = []
    for name in (evil, f"\\{evil}", evil):
        data, size = sink.put(raw, "FP64", [30_000], name, False)
        assert size is None
        items.append(Tensor(name, [30_000], "FP64", data=data))
    chunks, length = sink.finish(msgspec.json.encode(Body(items, id=evil)))
    assert length is None
    assert len(chunks) == 7
    whole = json.loads(b"".join(chunks))
    assert [item["data"][-1] for item in whole["inputs"]] == [29_999.0] * 3
    assert whole["id"] == evil
