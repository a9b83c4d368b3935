"""What Open Inference calls and replies mean, in one form for both protocols, for tests to compare.

`v2_rest` and `v2_grpc` turn the recorded forms of either protocol into a plain dictionary, slowly and independently of
the product. Two calls mean the same when the dictionaries are equal: tensors are compared as their row-major
little-endian memory, parameters with their type, and how a tensor was written down (JSON, binary, typed contents) and
the order of keys do not count. The reading is strict: what the protocol does not allow raises Unreadable.
"""

import struct
from typing import Any

import numpy

NUMBERS = {
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BF16": "<u2",  # its bits
    "BOOL": "?",
}
BINARY_PARAMETERS = ("binary_data_size", "binary_data", "binary_data_output")  # they say how, not what

type Meaning = dict[str, Any]


class Unreadable(Exception):
    """The protocol does not allow this, and why."""


class Unrouted(Exception):
    """No call of the Open Inference protocol."""


def packed(kind: str, elements: list[Any]) -> bytes:
    """The memory of elements; Unreadable when one does not fit the NumPy type."""
    try:
        with numpy.errstate(over="raise"):
            return numpy.array(elements, dtype=kind).tobytes()
    except (OverflowError, FloatingPointError, ValueError) as problem:
        raise Unreadable(str(problem)) from None


def framed(items: list[bytes]) -> bytes:
    """BYTES elements as raw tensor data."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def check_size(datatype: str, shape: list[int], raw: bytes) -> None:
    """Check that raw data holds as many elements as the shape says."""
    count = 1
    for size in shape:
        count *= size
    if datatype == "BYTES":
        found = _count_framed(raw)
    elif datatype in NUMBERS:
        found, rest = divmod(len(raw), numpy.dtype(NUMBERS[datatype]).itemsize)
        found = -1 if rest else found
    else:
        raise Unreadable(f"datatype {datatype}")
    if found != count:
        raise Unreadable(f"{found} elements for {shape}")


def _count_framed(raw: bytes) -> int:
    position = count = 0
    while position + 4 <= len(raw):
        position += 4 + int.from_bytes(raw[position : position + 4], "little")
        count += 1
    return count if position == len(raw) else -1


def checked_shape(shape: Any) -> list[int]:
    """The shape, if it is one."""
    if not isinstance(shape, list) or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise Unreadable("shape must be a list of non-negative integers")
    return shape


def typed(value: Any) -> tuple[str, Any]:
    """A parameter with the name of its type."""
    return type(value).__name__, value
