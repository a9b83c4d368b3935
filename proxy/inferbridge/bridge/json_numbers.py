"""JSON arrays to raw tensor data: the fast reader of small arrays, and the choice of reader for all.

Small arrays go through typed decoders, which check every element in C, and `struct`. Whatever those refuse is read
again the careful way (`json_values`). Large ones never become Python objects (`json_arrays`).
"""

import struct
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import msgspec

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import DATATYPES, Datatype, join_elements, pack_integers, wrong_count
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.json_cut import Region
from inferbridge.bridge.json_nesting import flattened
from inferbridge.bridge.json_values import MAX_DIGITS, number_texts, read_elements, refuse_long_numbers
from inferbridge.bridge.values import Buffer

LARGE = 4096
"""Bytes of JSON from which parsing into arrays is cheaper than into lists."""
_LANES = 256
"""FP32 elements up to which long integers examine them faster than numpy."""


def _decoder(kind: Datatype) -> Callable[[bytes], list[Any]]:
    element: Any = {"bool": bool, "int": int, "float": float, "bytes": str}[kind.kind]
    if kind.kind == "int" and kind.size < 8:
        element = Annotated[int, msgspec.Meta(ge=kind.low, le=kind.high)]
    return msgspec.json.Decoder(list[element]).decode


_DECODERS = {name: _decoder(kind) for name, kind in DATATYPES.items()}
_REFUSALS = (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(text: bytes, kind: Datatype, shape: list[int], count: int, name: str, nan: NanPolicy) -> Buffer:
    """Raw data of a JSON array, flat or nested as the shape says; `count` is the shape's element count."""
    if len(text) >= LARGE and kind.size and count:
        return read_region(Region(text, 0, len(text)), kind, shape, count, name, nan)
    if len(text) > MAX_DIGITS and kind.size:
        refuse_long_numbers(text, name)
    flat = flattened(text, shape) if kind.size and text[1:2] == b"[" and count else text
    try:
        values = _DECODERS[kind.name](flat)
    except _REFUSALS:
        values = read_elements(text, kind, shape, count, name, nan)
    if len(values) != count:
        raise wrong_count(shape, name, count, len(values), "data")
    return _pack(values, kind, name, text)


def read_region(region: Region, kind: Datatype, shape: list[int], count: int, name: str, nan: NanPolicy) -> Buffer:
    """As `read`, of an array within a larger body."""
    if region.end - region.start < LARGE or not kind.size or not count:
        return read(region.body[region.start : region.end], kind, shape, count, name, nan)
    from inferbridge.bridge.json_arrays import read_large  # numpy: 170 ms that small ones never need

    return read_large(region, kind, shape, count, name, nan)


def _pack(values: list[Any], kind: Datatype, name: str, text: bytes) -> Buffer:
    if kind.kind == "float":
        return _pack_floats(values, kind, name, text)
    if kind.kind == "int":
        return pack_integers(values, kind, name)
    if kind.kind == "bool":
        return bytes(values)
    try:
        return join_elements(list(map(str.encode, values)))
    except UnicodeEncodeError:
        raise invalid(f"tensor {name!r}: a string in data has a lone surrogate, which is not a character") from None


def _pack_floats(values: list[float], kind: Datatype, name: str, text: bytes) -> Buffer:
    if kind.name == "FP64":
        return struct.pack(f"<{len(values)}d", *values)
    if kind.name == "FP32" and len(values) <= _LANES:
        try:
            packed = _singles(len(values))(values)
        except OverflowError:
            packed = None
        if packed is not None:
            return packed
    from inferbridge.bridge.json_arrays import pack_floats  # numpy, as above

    return pack_floats(values, kind, lambda: number_texts(text), name)


@cache
def _singles(count: int) -> Callable[[list[float]], bytes | None]:
    """A function that packs so many doubles as FP32, or answers None when one might need closer rounding.

    All are examined at once, as lanes of one long integer. A 64-bit lane whose low 29 bits are 0x10000000 is a double
    midway between two float32: xor makes those bits zero, and adding all ones to them carries in every other lane. A
    32-bit lane with exponent 0 or 1 is (near) a subnormal float32, whose midpoints are elsewhere; zero is fine.
    """
    doubles, singles = struct.Struct(f"<{count}d").pack, struct.Struct(f"<{count}f").pack
    ones = sum(1 << (64 * lane) for lane in range(count))
    dropped, half, carried = ones * 0x1FFFFFFF, ones * 0x10000000, ones << 29
    ones = sum(1 << (32 * lane) for lane in range(count))
    exponent, above, top = ones * 0x7F800000, ones * 0x7F000000, ones << 31
    number = int.from_bytes

    def pack(values: list[float]) -> bytes | None:
        if (((number(doubles(*values), "little") & dropped) ^ half) + dropped) & carried != carried:
            return None
        packed = singles(*values)
        if ((number(packed, "little") & exponent) + above) & top != top and any(
            0 < abs(value) < 2.0**-125 for value in values
        ):
            return None
        return packed

    return pack
