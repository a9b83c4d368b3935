"""The 14 datatypes of the Open Inference Protocol, and the checks on raw tensor bytes.

Raw bytes are little-endian and row-major; BOOL is one byte, 0 or 1; a BYTES element is its length as u32, then its
bytes (KServe, "binary tensor data extension").
"""

import struct
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.values import Buffer

ITEM_SIZES: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
    "BYTES": 0,
}
"""Bytes of one element; 0 for BYTES, whose elements carry their length."""

MAX_ELEMENTS = 2**31 - 1
"""Runtimes abort on shapes whose product overflows (Triton 2.51), so no tensor may have more."""

_LENGTH = struct.Struct("<I")


def element_count(shape: Sequence[int], name: str) -> int:
    """Number of elements of a tensor; refuses negative dimensions and absurd products."""
    count = 1
    for dimension in shape:
        if dimension < 0:
            raise invalid(f"tensor '{name}': shape {list(shape)} has a negative dimension")
        count *= dimension
    if count > MAX_ELEMENTS:
        raise invalid(f"tensor '{name}': shape {list(shape)} has more than {MAX_ELEMENTS} elements")
    return count


def item_size(datatype: str, name: str) -> int:
    """Bytes of one element; refuses an unknown datatype."""
    size = ITEM_SIZES.get(datatype)
    if size is None:
        raise unknown_datatype(datatype, name)
    return size


def unknown_datatype(datatype: str, name: str) -> BridgeError:
    """The error for a datatype that the protocol does not have."""
    nearest = get_close_matches(datatype.upper(), ITEM_SIZES, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return invalid(f"tensor '{name}': unknown datatype '{datatype}'{hint}")


def check_raw(raw: Buffer, datatype: str, shape: Sequence[int], name: str) -> Buffer:
    """The raw bytes, when they are what datatype and shape say."""
    count = element_count(shape, name)
    size = item_size(datatype, name)
    if size == 0:
        _check_bytes(raw, count, shape, name)
    elif len(raw) != count * size:
        wanted = f"{count} elements of {datatype} ({count * size} bytes)"
        raise invalid(f"tensor '{name}': shape {list(shape)} needs {wanted}, the data has {len(raw)} bytes")
    elif datatype == "BOOL" and bytes(raw).translate(None, b"\0\1"):
        raise invalid(f"tensor '{name}': a BOOL is the byte 0 or 1")
    return raw


def _check_bytes(raw: Buffer, count: int, shape: Sequence[int], name: str) -> None:
    found = sum(1 for _ in bytes_elements(raw, name))
    if found != count:
        raise invalid(f"tensor '{name}': shape {list(shape)} needs {count} elements, the data has {found}")


def bytes_elements(raw: Buffer, name: str) -> Iterator[Buffer]:
    """The elements of a raw BYTES tensor."""
    at, end = 0, len(raw)
    while at < end:
        if at + 4 > end:
            raise invalid(f"tensor '{name}': a BYTES element is cut off")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += 4 + size
        if at > end:
            raise invalid(f"tensor '{name}': a BYTES element is cut off")
        yield raw[at - size : at]


def frame_bytes(elements: Sequence[Buffer]) -> bytes:
    """The raw form of BYTES elements."""
    parts: list[Buffer] = []
    for element in elements:
        parts += (_LENGTH.pack(len(element)), element)
    return b"".join(parts)
