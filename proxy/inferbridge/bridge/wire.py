"""Rules of the protobuf wire format that every generated codec shares.

Generated readers walk `data` between `at` and `end`. They do not check each length against `end`: a piece that ends
past it leaves `at` beyond `end`, which the reader's last line refuses, and nothing is allocated by the length alone.
What the wire allows and a codec does not know is skipped here and named in `unknown`, for the caller to judge.

Source of the rules: protobuf encoding specification; where it leaves room, google.protobuf's upb.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from inferbridge.bridge.values import Buffer, Chunks

type Unknown = list[tuple[str, int]]
"""(full name of the message, field number) of every field that the codec does not know."""

MAX_DEPTH = 100
JOIN_BELOW = 16 * 1024
"""Bytes; smaller messages leave as one chunk, larger ones keep their big fields as views."""
_LONG_RUN = 64
"""Bytes of packed varints above which numpy pays for itself."""
_MASK64 = (1 << 64) - 1


class WireError(ValueError):
    """The bytes are not a valid message, or a value does not fit its field."""


BROKEN = (IndexError, UnicodeDecodeError)
"""What reading invalid bytes may raise beside `WireError`."""


def broken(error: Exception) -> WireError:
    """One of `BROKEN` in the words of the wire format."""
    return WireError("truncated" if isinstance(error, IndexError) else "a string is not valid UTF-8")


def ended(at: int, end: int, message: str) -> None:
    """Refuse a message whose last field does not end where the message does."""
    if at != end:
        raise WireError(f"truncated in {message}")


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """The varint at `at`, modulo 2**64, and where it ends."""
    value = shift = 0
    for _ in range(10):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _MASK64, at
        shift += 7
    raise WireError("a varint is longer than 10 bytes")


def length(data: Buffer, at: int) -> tuple[int, int]:
    """A length of two or more bytes at `at`."""
    start = at
    value, at = varint(data, at)
    if at - start > 5 or value > 0x7FFFFFFF:
        raise WireError("a length is larger than 2 GiB")
    return value, at


def tag(data: Buffer, at: int) -> tuple[int, int]:
    """A tag of two or more bytes at `at`."""
    start = at
    value, at = varint(data, at)
    if at - start > 5 or value > 0xFFFFFFFF:
        raise WireError("a field number is out of range")
    return value, at


def int32(value: int) -> int:
    """A varint as int32: the low 32 bits, signed."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def int64(value: int) -> int:
    """A varint as int64."""
    return value - (1 << 64) if value >> 63 else value


def uint32(value: int) -> int:
    """A varint as uint32: the low 32 bits."""
    return value & 0xFFFFFFFF


def uint64(value: int) -> int:
    """A varint as uint64."""
    return value


def sint32(value: int) -> int:
    """A zigzag varint as sint32."""
    value &= 0xFFFFFFFF
    return (value >> 1) ^ -(value & 1)


def sint64(value: int) -> int:
    """A zigzag varint as sint64."""
    return (value >> 1) ^ -(value & 1)


def skip(data: Buffer, at: int, end: int, tag_value: int, message: str, unknown: Unknown) -> int:
    """Pass over an unknown field whose tag was just read; answers where it ends."""
    if tag_value >> 3 == 0:
        raise WireError(f"field number 0 in {message}")
    unknown.append((message, tag_value >> 3))
    return _skip(data, at, end, tag_value, 0)


def _skip(data: Buffer, at: int, end: int, tag_value: int, depth: int) -> int:
    kind = tag_value & 7
    if kind == 0:
        return varint(data, at)[1]
    if kind == 1:
        return at + 8
    if kind == 5:
        return at + 4
    if kind == 2:
        size, at = length(data, at)
        return at + size
    if kind == 3 and depth < MAX_DEPTH:
        return _skip_group(data, at, end, tag_value, depth + 1)
    raise WireError(f"wire type {kind} where none may be" if kind != 3 else "groups are nested too deeply")


def _skip_group(data: Buffer, at: int, end: int, opening: int, depth: int) -> int:
    while at < end:
        inner, at = tag(data, at)
        if inner >> 3 == 0:
            raise WireError("field number 0 in a group")
        if inner & 7 == 4:
            if inner >> 3 != opening >> 3:
                raise WireError("a group ends that did not begin")
            return at
        at = _skip(data, at, end, inner, depth)
    raise WireError("a group does not end")


def packed(data: Buffer, at: int, stop: int, end: int, convert: Callable[[int], int], values: list[int]) -> None:
    """Append a run of varints to `values`."""
    if stop > end:
        raise WireError("truncated in a packed field")
    run = bytes(data[at:stop])
    if run.isascii():
        # every varint is one byte: small enough that no conversion but zigzag can change it
        values.extend(run if convert not in {sint32, sint64} else map(convert, run))
    elif len(run) < _LONG_RUN:
        at = 0
        while at < len(run):
            value, at = varint(run, at)
            values.append(convert(value))
    else:
        values.extend(map(convert, _many_varints(run)))


def _many_varints(run: bytes) -> list[int]:
    import numpy as np  # noqa: PLC0415  # 170 ms that small messages never need

    octets = np.frombuffer(run, np.uint8)
    ends = np.flatnonzero(octets < 128)
    if octets[-1] >= 128:
        raise WireError("truncated in a packed field")
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts + 1
    if sizes.max() > 10:
        raise WireError("a varint is longer than 10 bytes")
    places = np.arange(len(octets)) - np.repeat(starts, sizes)
    groups = (octets & 127).astype(np.uint64) << (places * 7).astype(np.uint64)
    values: list[int] = np.bitwise_or.reduceat(groups, starts).tolist()
    return values


def packed_bools(data: Buffer, at: int, stop: int, end: int) -> bytes:
    """A run of bools as one byte each, 0 or 1."""
    run = bytes(data[at:stop])
    if stop <= end and not run.translate(None, b"\0\1"):
        return run
    values: list[int] = []
    packed(data, at, stop, end, uint64, values)
    return bytes(1 if value else 0 for value in values)


def fixed_run(view: memoryview, at: int, stop: int, end: int, width: int) -> memoryview:
    """A run of fixed-width numbers, as it is."""
    if stop > end or (stop - at) % width:
        raise WireError("truncated in a packed field")
    return view[at:stop]


def joined(first: Buffer, second: Buffer) -> Buffer:
    """Two runs of one field after each other; almost always the first is empty."""
    return b"".join((first, second)) if len(first) else second


def take(view: memoryview, at: int, stop: int, end: int) -> memoryview:
    """A bytes field, without a copy."""
    if stop > end:
        raise WireError("truncated in a bytes field")
    return view[at:stop]


def number(form: struct.Struct, data: Buffer, at: int, end: int) -> Any:
    """A fixed-width number."""
    if at + form.size > end:
        raise WireError("truncated in a number")
    return form.unpack_from(data, at)[0]


FLOAT = struct.Struct("<f")
DOUBLE = struct.Struct("<d")
FIXED32 = struct.Struct("<I")
FIXED64 = struct.Struct("<Q")
SFIXED32 = struct.Struct("<i")
SFIXED64 = struct.Struct("<q")

# One- and two-byte varints, which are nearly all of them.
VARINTS: tuple[bytes, ...] = tuple(
    bytes((value,)) if value < 128 else bytes((value & 127 | 128, value >> 7)) for value in range(1 << 14)
)
_TABLE = len(VARINTS)


def put_varint(value: int) -> bytes:
    """The varint of a number from 0 to 2**64 - 1."""
    if value < _TABLE:
        return VARINTS[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_int(value: int, low: int, high: int, field: str) -> bytes:
    """The varint of a checked integer; negative ones take ten bytes."""
    if low <= value <= high:
        return VARINTS[value] if 0 <= value < _TABLE else put_varint(value & _MASK64)
    raise WireError(f"{field}: {value} is not from {low} to {high}")


def put_zigzag(value: int, bits: int, field: str) -> bytes:
    """The zigzag varint of a checked integer."""
    if -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        return put_varint((value << 1) ^ (value >> (bits - 1)))
    raise WireError(f"{field}: {value} does not fit {bits} bits")


def put_number(form: struct.Struct, value: float, field: str) -> bytes:
    """A fixed-width number."""
    try:
        return form.pack(value)
    except (struct.error, OverflowError):
        raise WireError(f"{field}: {value} does not fit") from None


def is_negative_zero(value: float) -> bool:
    """Minus zero is not the default of a float field and must be sent."""
    return value == 0 and math.copysign(1.0, value) < 0


def put_text(value: str, field: str) -> bytes:
    """UTF-8 of a string."""
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise WireError(f"{field}: a lone surrogate cannot be sent") from None


def put_packed(values: Sequence[int], low: int, high: int, field: str) -> bytes:
    """A run of varints."""
    if len(values) < _LONG_RUN:
        return b"".join([put_int(value, low, high, field) for value in values])
    return _put_many(values, low, high, field)


def _put_many(values: Sequence[int], low: int, high: int, field: str) -> bytes:
    import numpy as np  # noqa: PLC0415  # 170 ms that small messages never need

    if min(values) < low or max(values) > high:
        wrong = next(value for value in values if not low <= value <= high)
        raise WireError(f"{field}: {wrong} is not from {low} to {high}")
    rest = np.array(values, np.int64 if low < 0 else np.uint64).view(np.uint64)
    columns = []
    while True:
        columns.append(rest & np.uint64(127))
        rest = rest >> np.uint64(7)
        if not rest.any():
            break
    table = np.stack(columns, axis=1).astype(np.uint8)
    used = table.shape[1] - np.argmax(table[:, ::-1] != 0, axis=1)
    used[~table.any(axis=1)] = 1
    column = np.arange(table.shape[1])
    table[column < used[:, None] - 1] |= 128
    return bytes(table[column < used[:, None]].tobytes())


def chunks(parts: list[Buffer], size: int) -> Chunks:
    """The parts of a message as few chunks: small ones joined, big ones left where they are."""
    if size < JOIN_BELOW:
        return (b"".join(parts),)
    out: list[Buffer] = []
    small: list[Buffer] = []
    for part in parts:
        if len(part) < JOIN_BELOW // 4:
            small.append(part)
        else:
            out.extend((b"".join(small), part))
            small = []
    out.append(b"".join(small))
    return [part for part in out if len(part)]
