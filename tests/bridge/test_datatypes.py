"""Shapes, datatypes and raw data are checked before anything else looks at them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.tensor_bodies import DATATYPES as NAMES
from inferbridge.bridge.datatypes import DATATYPES, check_raw, element_count, join_elements, split_elements
from inferbridge.bridge.errors import BridgeError

SIZES = {"BOOL": 1, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}


def test_the_protocol_has_fourteen_datatypes() -> None:
    """The table has the datatypes of the Open Inference Protocol, with their sizes and ranges."""
    assert sorted(DATATYPES) == sorted(NAMES)
    assert len(DATATYPES) == 14
    for name, size in SIZES.items():
        assert DATATYPES[name].size == size
    assert (DATATYPES["INT16"].size, DATATYPES["INT16"].low, DATATYPES["INT16"].high) == (2, -32768, 32767)
    assert (DATATYPES["UINT64"].low, DATATYPES["UINT64"].high) == (0, 2**64 - 1)


@pytest.mark.parametrize(
    ("shape", "count"),
    [([], 1), ([0], 0), ([3], 3), ([2, 3], 6), ([2, 0, 5], 0), ([2**31 - 1], 2**31 - 1), ([1] * 64, 1)],
)
def test_elements_of_a_shape(shape: list[int], count: int) -> None:
    """A tensor has as many elements as the product of its dimensions; none at all is one."""
    assert element_count(shape, "x") == count


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([-1], "tensor 'x': shape [-1] has a negative dimension"),
        ([2, -3], "tensor 'x': shape [2,-3] has a negative dimension"),
        ([0, -1], "tensor 'x': shape [0,-1] has a negative dimension"),
        ([2**31], "tensor 'x': shape [2147483648] has 2**31 elements or more"),
        ([65536, 65536], "tensor 'x': shape [65536,65536] has 2**31 elements or more"),
        ([2**62, 4], f"tensor 'x': shape [{2**62},4] has 2**31 elements or more"),
        ([2**63 - 1] * 60, None),
        ([2**40, 0], f"tensor 'x': shape [{2**40},0] has 2**31 elements or more"),
        ([1] * 65, "tensor 'x': shape has 65 dimensions, more than 64"),
    ],
)
def test_impossible_shapes(shape: list[int], message: str | None) -> None:
    """Negative dimensions and products that overflow a runtime's counter are refused by name."""
    with pytest.raises(BridgeError) as caught:
        element_count(shape, "x")
    assert message is None or caught.value.message == message


@pytest.mark.parametrize("name", NAMES)
def test_raw_data_passes_as_it_is(name: str) -> None:
    """Raw data of the right size is handed on without a copy."""
    size = DATATYPES[name].size
    raw = memoryview(b"\1" * 6 * size if size else b"\1\0\0\0a" * 6)
    assert check_raw(raw, name, [2, 3], "x") is raw
    assert check_raw(b"", name, [2, 0], "x") == b""


@pytest.mark.parametrize("name", [name for name in NAMES if name != "BYTES"])
@pytest.mark.parametrize("wrong", [-1, 1])
def test_raw_data_of_a_wrong_size(name: str, wrong: int) -> None:
    """A byte too many or too few is an error that names tensor, shape and both sizes."""
    size = 6 * DATATYPES[name].size
    with pytest.raises(BridgeError) as caught:
        check_raw(b"\1" * (size + wrong), name, [2, 3], "x")
    assert (
        caught.value.message == f"tensor 'x': shape [2,3] of {name} needs {size} bytes, the raw data has {size + wrong}"
    )


@pytest.mark.parametrize("wrong", [2, 255])
def test_raw_booleans_are_zero_or_one(wrong: int) -> None:
    """Any other byte would be undefined behaviour in a runtime."""
    with pytest.raises(BridgeError, match="tensor 'x': a byte of raw BOOL data is neither 0 nor 1"):
        check_raw(bytes([0, 1, wrong]), "BOOL", [3], "x")


@pytest.mark.parametrize(
    ("raw", "count", "message"),
    [
        (b"\1", 1, "tensor 'x': element 0 of raw BYTES data is cut off"),
        (b"\1\0\0\0", 1, "tensor 'x': element 0 of raw BYTES data is cut off"),
        (b"\0\0\0\0\2\0\0\0a", 2, "tensor 'x': element 1 of raw BYTES data is cut off"),
        (b"\xff\xff\xff\xffa", 1, "tensor 'x': element 0 of raw BYTES data is cut off"),
        (b"\0\0\0\0\0\0\0", 1, "tensor 'x': element 1 of raw BYTES data is cut off"),
        (b"", 1, "tensor 'x': shape [1] needs 1 element, raw data has 0"),
        (b"\0\0\0\0" * 3, 2, "tensor 'x': shape [2] needs 2 elements, raw data has 3"),
        (b"\0\0\0\0", 0, "tensor 'x': shape [0] needs 0 elements, raw data has 1"),
    ],
)
def test_framing_of_bytes(raw: bytes, count: int, message: str) -> None:
    """The lengths of BYTES elements must lead exactly to the end, over exactly as many elements as the shape has."""
    with pytest.raises(BridgeError) as caught:
        check_raw(raw, "BYTES", [count], "x")
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("name", "hint"),
    [("FP23", "FP32"), ("fp32", "FP32"), ("INT46", "INT64"), ("STRING", None), ("FLOAT32", None), ("BYTE", "BYTES")],
)
def test_an_unknown_datatype_has_a_suggestion(name: str, hint: str | None) -> None:
    """The error names the nearest datatype, if one is near, and all there are."""
    with pytest.raises(BridgeError) as caught:
        check_raw(b"", name, [0], "x")
    message = caught.value.message
    assert message.startswith(f"tensor 'x': unknown datatype {name!r}")
    assert hint is None or f"did you mean {hint}?" in message
    assert "known: BOOL, UINT8" in message


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=1500), max_size=20))
def test_bytes_elements_survive_framing(elements: list[bytes]) -> None:
    """Splitting raw BYTES data gives back the elements it was joined from, and the joined form passes the check."""
    raw = join_elements(elements)
    assert split_elements(raw) == elements
    assert check_raw(raw, "BYTES", [len(elements)], "x") == raw
