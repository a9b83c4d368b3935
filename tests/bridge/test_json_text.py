"""Tensors written as JSON: read back bit for bit, or refused."""

import json
import struct

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
    decoded,
    encoded,
    read_all,
    write,
    write_all,
)
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_cut import MARK
from inferbridge.bridge.json_tensors import TensorSink
from inferbridge.bridge.values import Buffer


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
