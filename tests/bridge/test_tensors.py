"""Tensor data of gRPC messages: typed contents and raw contents are two forms of the same bytes."""

import struct
from typing import Any

import msgspec
import pytest

from bridge.tensor_bodies import DATATYPES, INTEGERS
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.tensors import FIELDS, check_raw_count, tensor_data, to_contents


class Contents(msgspec.Struct):
    """InferTensorContents as a generated codec decodes it."""

    bool_contents: bytes = b""
    int_contents: list[int] = msgspec.field(default_factory=list)
    int64_contents: list[int] = msgspec.field(default_factory=list)
    uint_contents: list[int] = msgspec.field(default_factory=list)
    uint64_contents: list[int] = msgspec.field(default_factory=list)
    fp32_contents: bytes = b""
    fp64_contents: bytes = b""
    bytes_contents: list[bytes] = msgspec.field(default_factory=list)


RAW: dict[str, tuple[Any, bytes]] = {
    "BOOL": (b"\1\0", b"\1\0"),
    "INT8": ([-128, 127], b"\x80\x7f"),
    "INT16": ([-32768, 32767], struct.pack("<hh", -32768, 32767)),
    "INT32": ([-(2**31), 2**31 - 1], struct.pack("<ii", -(2**31), 2**31 - 1)),
    "INT64": ([-(2**63), 2**63 - 1], struct.pack("<qq", -(2**63), 2**63 - 1)),
    "UINT8": ([0, 255], b"\0\xff"),
    "UINT16": ([0, 65535], b"\0\0\xff\xff"),
    "UINT32": ([1, 2**32 - 1], struct.pack("<II", 1, 2**32 - 1)),
    "UINT64": ([1, 2**64 - 1], struct.pack("<QQ", 1, 2**64 - 1)),
    "FP32": (struct.pack("<ff", 0.1, -0.0), struct.pack("<ff", 0.1, -0.0)),
    "FP64": (struct.pack("<dd", 0.1, 1e300), struct.pack("<dd", 0.1, 1e300)),
    "BYTES": ([b"\xff\0", b""], b"\2\0\0\0\xff\0\0\0\0\0"),
}
"""Two elements as the codec decodes them, and as raw data."""


@pytest.mark.parametrize("datatype", RAW)
def test_contents_and_raw_contents_are_the_same(datatype: str) -> None:
    """Either form gives the same raw data, and contents made of it are the contents it came from."""
    values, raw = RAW[datatype]
    contents = Contents(**{FIELDS[datatype]: values})
    assert bytes(tensor_data(contents, [], 0, datatype, [2], "x")) == raw
    assert bytes(tensor_data(Contents(), [b"", raw], 1, datatype, [2], "x")) == raw
    assert to_contents(raw, datatype, Contents) == contents


@pytest.mark.parametrize("datatype", INTEGERS)
@pytest.mark.parametrize("count", [3, 1000])
def test_many_integers(datatype: str, count: int) -> None:
    """Long lists take another way to the same bytes."""
    values = [number % 100 for number in range(count)]
    field: dict[str, Any] = {FIELDS[datatype]: values}
    raw = tensor_data(Contents(**field), [], 0, datatype, [count], "x")
    assert to_contents(raw, datatype, Contents) == Contents(**field)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_empty_tensors(datatype: str) -> None:
    """A tensor without elements needs no contents; one with elements does."""
    for contents in (None, Contents()):
        assert tensor_data(contents, [], 0, datatype, [2, 0], "x") == b""
        with pytest.raises(BridgeError) as caught:
            tensor_data(contents, [], 0, datatype, [2], "x")
        assert caught.value.message == "tensor 'x': shape [2] needs 2 elements, contents has 0"


@pytest.mark.parametrize("datatype", RAW)
def test_a_wrong_count_is_named(datatype: str) -> None:
    """Contents of another length than the shape has is an error with both numbers."""
    contents = Contents(**{FIELDS[datatype]: RAW[datatype][0]})
    with pytest.raises(BridgeError) as caught:
        tensor_data(contents, [], 0, datatype, [3], "x")
    assert caught.value.message == f"tensor 'x': shape [3] needs 3 elements, {FIELDS[datatype]} has 2"


@pytest.mark.parametrize(
    ("datatype", "value"),
    [("INT8", 128), ("INT8", -129), ("INT16", 2**15), ("UINT8", 256), ("UINT16", 65536)],
)
@pytest.mark.parametrize("count", [1, 100])
def test_narrow_integers_are_checked(datatype: str, value: int, count: int) -> None:
    """A value that int_contents can hold but the datatype cannot is refused, not wrapped."""
    field: dict[str, Any] = {FIELDS[datatype]: [0] * (count - 1) + [value]}
    contents = Contents(**field)
    with pytest.raises(BridgeError, match=rf"tensor 'x': {value} is not from .* \({datatype}\)"):
        tensor_data(contents, [], 0, datatype, [count], "x")


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("filled", sorted(set(FIELDS.values())))
def test_data_in_the_wrong_field(datatype: str, filled: str) -> None:
    """The error names the datatype's own field, or that it has none, and the one that was filled."""
    if FIELDS.get(datatype) == filled:
        return
    contents = Contents(**{filled: RAW[next(name for name in RAW if FIELDS[name] == filled)][0]})
    with pytest.raises(BridgeError) as caught:
        tensor_data(contents, [], 0, datatype, [2], "x")
    own = FIELDS.get(datatype)
    place = f"belongs in {own}" if own else "travels only in raw contents"
    assert caught.value.message == f"tensor 'x': {datatype} data {place}, not in {filled}"


def test_two_filled_fields() -> None:
    """Data in two fields means two things."""
    contents = Contents(fp32_contents=RAW["FP32"][0], fp64_contents=RAW["FP64"][0])
    with pytest.raises(BridgeError, match="belongs in fp32_contents, not in fp32_contents and fp64_contents"):
        tensor_data(contents, [], 0, "FP32", [2], "x")


def test_both_forms_at_once() -> None:
    """Raw contents beside filled contents is an error; beside empty contents (MLServer) it is not."""
    raw = RAW["FP32"][1]
    assert tensor_data(Contents(), [raw], 0, "FP32", [2], "x") == raw
    with pytest.raises(BridgeError, match="tensor 'x': has both contents and raw contents"):
        tensor_data(Contents(int_contents=[1]), [raw], 0, "FP32", [2], "x")


def test_raw_contents_are_checked() -> None:
    """Raw contents pass the checks of raw data, and every tensor needs an entry of its own."""
    with pytest.raises(BridgeError, match="needs 8 bytes, the raw data has 7"):
        tensor_data(None, [b"\0" * 7], 0, "FP32", [2], "x")
    with pytest.raises(BridgeError, match="tensor 'x': has no raw contents, which have 1 entries"):
        tensor_data(None, [b""], 1, "FP32", [2], "x")
    check_raw_count([], 3, "raw_input_contents")
    check_raw_count([b"", b""], 2, "raw_input_contents")
    with pytest.raises(BridgeError, match="raw_input_contents has 2 entries for 3 tensors"):
        check_raw_count([b"", b""], 3, "raw_input_contents")


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_floats_have_no_contents(datatype: str) -> None:
    """A runtime that reads no raw contents cannot get them."""
    with pytest.raises(BridgeError, match=f"{datatype} data travels only in raw contents"):
        to_contents(b"\0\0", datatype, Contents)
