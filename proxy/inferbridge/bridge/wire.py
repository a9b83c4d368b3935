"""Rules of the protobuf wire format that every generated codec shares.

A message is a run of fields: a tag (`number << 3 | wire type`, a varint), then a value. Wire types: 0 varint, 1 eight
bytes, 2 length and that many bytes, 3 and 4 the ends of a group (only ever skipped here), 5 four bytes.

Reading. Generated readers walk `data` from `at` to `end`. They do not check every length against `end`: a value that
ends past it leaves `at` beyond `end`, which the reader refuses when it stops; a slice past the end allocates nothing.
What Python raises on the way (`BROKEN`) becomes a `WireError` that names the field and the offset, built only then.

Writing. Generated writers append the pieces of a message back to front, so that a nested message's length is known
when its tag is due and its pieces need no second list; `chunks` turns them round. Big buffers are never copied.

Source of the rules: the protobuf encoding specification; where it leaves room, google.protobuf (upb).
"""

import math
import struct
from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from inferbridge.bridge.values import Buffer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

type Unknown = list[tuple[str, int]]
"""(full name of the message, field number) of what the codec does not know, each once, at most MAX_UNKNOWN of them."""

MAX_DEPTH = 100
"""Messages and groups may nest this deep below the outermost."""
MAX_UNKNOWN = 64
"""Two bytes of wire make an unknown field; without a limit a small message could fill the memory."""
MAX_SIZE = (1 << 31) - 1
"""Bytes of a message or field."""
VIEW_FROM = 4096
"""Bytes from which a buffer travels as a view; copying fewer costs less than a view does."""
JOIN_BELOW = 4 * VIEW_FROM
"""Bytes; a smaller message leaves as one chunk."""
_LOOKED_AT = 1000
"""Fields that are passed over in search of one."""
_LONG_RUN, _LONG_LIST = 128, 64
"""Bytes of packed varints, and numbers to pack, from which numpy pays for itself."""
_SEGMENT = 1 << 16
"""Bytes or numbers that numpy works on at a time, which bounds the memory this takes."""
_MASK32 = (1 << 32) - 1
_MASK64 = (1 << 64) - 1


class WireError(ValueError):
    """The bytes are not a valid message, or a value does not fit its field.

    `field` is the path of the field inside the message; `offset` is in bytes from the start of what was decoded and is
    None for an error of encoding.
    """

    def __init__(self, reason: str, field: str = "", offset: int | None = None) -> None:
        super().__init__(reason, field, offset)
        self.reason = reason
        self.field = field
        self.offset = offset

    def __str__(self) -> str:
        place = f"{self.field}: " if self.field else ""
        return place + self.reason + ("" if self.offset is None else f" at byte {self.offset}")


BROKEN = (IndexError, UnicodeDecodeError, struct.error, WireError)
"""What reading invalid bytes may raise inside a reader."""


def unknown_names(unknown: Unknown) -> list[str]:
    """How fields without a name are called: `package.Message#number`."""
    return [f"{name}#{number}" for name, number in unknown]


def located(error: Exception, names: Mapping[int, str], tag: int, at: int) -> WireError:
    """One of `BROKEN`, raised while the field of `tag` was read, as an error that says where."""
    # no field was begun when the message ends before its first tag
    name = names.get(tag >> 3, f"field {tag >> 3}") if tag > 7 else ""
    if not isinstance(error, WireError):
        reason = "the string is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "truncated"
        return WireError(reason, name, at)
    offset = at if error.offset is None else error.offset
    return WireError(error.reason, ".".join(filter(None, (name, error.field))), offset)


def truncated() -> WireError:
    """A field ends past the end of its message."""
    return WireError("truncated")


def too_deep() -> WireError:
    """Messages nest deeper than MAX_DEPTH."""
    return WireError(f"nested deeper than {MAX_DEPTH} levels")


def readable(buffer: Buffer) -> bytes | memoryview:
    """What readers walk: bytes, which index fastest, or a view where copying would cost more."""
    if isinstance(buffer, bytes):
        return buffer
    view = memoryview(buffer).cast("B")
    return bytes(view) if len(view) < VIEW_FROM else view


# Reading: integers


def read_varint(data: Buffer, at: int) -> tuple[int, int]:
    """The varint at `at` modulo 2**64, and where it ends."""
    value = shift = 0
    for _ in range(10):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & _MASK64, at
        shift += 7
    raise WireError("a varint is longer than 10 bytes")


def read_size(data: Buffer, at: int) -> tuple[int, int]:
    """A length, and where it ends."""
    value, stop = read_varint(data, at)
    if stop - at > 5 or value > MAX_SIZE:
        raise WireError("a length is larger than 2 GiB")
    return value, stop


def read_tag(data: Buffer, at: int) -> tuple[int, int]:
    """A tag, and where it ends."""
    value, stop = read_varint(data, at)
    if stop - at > 5 or value > _MASK32:
        raise WireError("a field number is out of range")
    return value, stop


class Integer(NamedTuple):
    """An integer type of the wire."""

    bits: int
    low: int
    high: int
    zigzag: bool = False

    def of_varint(self, value: int) -> int:
        """The number that a varint (0 to 2**64 - 1) stands for; its excess bits are dropped."""
        value &= (1 << self.bits) - 1
        if self.zigzag:
            return (value >> 1) ^ -(value & 1)
        return value - (1 << self.bits) if value > self.high else value

    def to_varint(self, value: int) -> int:
        """The varint of a number in range."""
        return (value << 1) ^ (value >> self.bits) if self.zigzag else value & _MASK64

    def of_varints(self, values: "NDArray[np.uint64]") -> list[int]:
        """`of_varint` of each."""
        numbers: NDArray[Any] = values.astype("u4") if self.bits == 32 else values
        if self.zigzag:
            numbers = (numbers >> 1) ^ (0 - (numbers & 1))
        if self.low < 0:
            numbers = numbers.view(f"i{self.bits // 8}")
        result: list[int] = numbers.tolist()
        return result


INT32 = Integer(32, -(1 << 31), (1 << 31) - 1)
INT64 = Integer(64, -(1 << 63), (1 << 63) - 1)
UINT32 = Integer(32, 0, _MASK32)
UINT64 = Integer(64, 0, _MASK64)
SINT32 = Integer(32, -(1 << 31), (1 << 31) - 1, zigzag=True)
SINT64 = Integer(64, -(1 << 63), (1 << 63) - 1, zigzag=True)


def read_integer(data: Buffer, at: int, kind: Integer) -> tuple[int, int]:
    """A number written as a varint, and where it ends."""
    value, at = read_varint(data, at)
    return kind.of_varint(value), at


# Reading: fields

read_float = struct.Struct("<f").unpack_from
read_double = struct.Struct("<d").unpack_from
read_fixed32 = struct.Struct("<I").unpack_from
read_fixed64 = struct.Struct("<Q").unpack_from
read_sfixed32 = struct.Struct("<i").unpack_from
read_sfixed64 = struct.Struct("<q").unpack_from


def take(data: Buffer, at: int, stop: int, end: int) -> Buffer:
    """A bytes field: a view, or a copy of few bytes."""
    if stop > end:
        raise truncated()
    return data[at:stop] if stop - at < VIEW_FROM else memoryview(data)[at:stop]


def take_run(data: Buffer, at: int, stop: int, end: int, width: int) -> Buffer:
    """A packed run of numbers of `width` bytes, as it is on the wire."""
    if (stop - at) % width:
        raise WireError(f"{stop - at} bytes are not a whole number of {width}-byte elements")
    return take(data, at, stop, end)


def append_run(first: Buffer, second: Buffer) -> Buffer:
    """Two runs of one field after each other; nearly always there is only one."""
    if not len(first):
        return second
    # a bytearray grows in place, so a run sent element by element takes linear time
    whole = first if isinstance(first, bytearray) else bytearray(first)
    whole += second
    return whole


def take_bools(data: Buffer, at: int, stop: int, end: int) -> Buffer:
    """A packed run of bools as one byte each, 0 or 1."""
    run = bytes(take(data, at, stop, end))
    if not run.translate(None, b"\0\1"):
        return run
    values: list[int] = []
    read_run(run, 0, len(run), len(run), UINT64, values)
    return bytes(map(bool, values))


def read_run(data: Buffer, at: int, stop: int, end: int, kind: Integer, values: list[int]) -> None:
    """Append a packed run of varints to `values`."""
    run = bytes(take(data, at, stop, end))
    if run.isascii() and not kind.zigzag:
        values.extend(run)  # every varint is one byte, and so is its own value
        return
    if len(run) >= _LONG_RUN:
        _read_long_run(run, kind, values)
        return
    at, end = 0, len(run)
    while at < end:
        value, at = read_varint(run, at)
        values.append(kind.of_varint(value))


def _read_long_run(run: bytes, kind: Integer, values: list[int]) -> None:
    at, end = 0, len(run)
    while at < end:
        limit = min(at + _SEGMENT, end)
        stop = last_stop(run, at, limit)
        if limit == end != stop:
            raise truncated()
        values.extend(kind.of_varints(varints(run[at:stop])))
        at = stop


def last_stop(run: bytes, at: int, limit: int) -> int:
    """Where the last varint ends that ends in run[at:limit]."""
    for stop in range(limit, max(limit - 10, at), -1):
        if run[stop - 1] < 128:
            return stop
    raise WireError("a varint is longer than 10 bytes")


def varints(run: bytes) -> "NDArray[np.uint64]":
    """The varints of a run that ends with the last byte of one."""
    import numpy as np  # takes 170 ms that text-only use never needs

    octets = np.frombuffer(run, np.uint8)
    stops = np.flatnonzero(octets < 128) + 1
    starts = np.concatenate(([0], stops[:-1]))
    sizes = stops - starts
    longest = int(sizes.max())
    if longest > 10:
        raise WireError("a varint is longer than 10 bytes")
    values = (octets[starts] & 127).astype(np.uint64)
    for place in range(1, longest):
        longer = np.flatnonzero(sizes > place)
        groups = (octets[starts[longer] + place] & 127).astype(np.uint64)
        values[longer] |= groups << np.uint64(7 * place)
    return values


def skip(data: Buffer, at: int, end: int, tag: int, depth: int, message: str, unknown: Unknown) -> int:
    """Pass over a field of `message` that the codec does not know, its tag already read; answers where it ends."""
    stop = _skip_value(data, at, end, tag, depth)
    found = (message, tag >> 3)
    if found not in unknown and len(unknown) < MAX_UNKNOWN:
        unknown.append(found)
    return stop


def _skip_value(data: Buffer, at: int, end: int, tag: int, depth: int) -> int:
    if tag < 8:
        raise WireError("field number 0")
    match tag & 7:
        case 0:
            return read_varint(data, at)[1]
        case 1:
            return at + 8
        case 2:
            size, at = read_size(data, at)
            return at + size
        case 3:
            return _skip_group(data, at, end, tag, depth + 1)
        case 5:
            return at + 4
        case 4:
            raise WireError("the end of a group that did not begin")
        case wire_type:
            raise WireError(f"wire type {wire_type} does not exist")


def _skip_group(data: Buffer, at: int, end: int, opening: int, depth: int) -> int:
    if depth > MAX_DEPTH:
        raise too_deep()
    while at < end:
        tag, at = read_tag(data, at)
        if tag == opening + 1:
            return at
        at = _skip_value(data, at, end, tag, depth)
    raise WireError("a group does not end")


def text_field(data: Buffer, number: int) -> str:
    """The text of one field of a message whose other fields are passed over; empty where there is none.

    Also empty for a message of more than a thousand fields, which would take long. Raises one of `BROKEN`.
    """
    data = readable(data)
    wanted, found, at, end = number << 3 | 2, "", 0, len(data)
    for _ in range(_LOOKED_AT + 1):
        if at >= end:
            if at > end:
                raise truncated()
            return found
        tag, at = read_tag(data, at)
        if tag == wanted:
            size, at = read_size(data, at)
            found = str(data[at : at + size], "utf-8")  # the last one counts
            at += size
        else:
            at = _skip_value(data, at, end, tag, 0)
    return ""


# Writing


def _varint_of(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_VARINTS: tuple[bytes, ...] = tuple(map(_varint_of, range(1 << 14)))
"""Varints of one and two bytes, which are nearly all of them."""


def varint(value: int) -> bytes:
    """The varint of a number from 0 to 2**64 - 1."""
    return _VARINTS[value] if value < 16384 else _varint_of(value)


@cache
def heads(tag: int) -> tuple[bytes, ...]:
    """The tag followed by each of the one-byte varints."""
    return tuple(varint(tag) + _VARINTS[value] for value in range(128))


def head(tag: int, value: int) -> bytes:
    """The tag followed by a varint."""
    return varint(tag) + varint(value)


def integer(tag: int, value: int, kind: Integer, field: str) -> bytes:
    """An integer field; negative numbers that are not zigzag take ten bytes."""
    if 0 <= value < 16384 and not kind.zigzag:  # nearly all of them, and within every kind
        return varint(tag) + _VARINTS[value]
    return varint(tag) + _checked(value, kind, field)


def _checked(value: int, kind: Integer, field: str) -> bytes:
    if kind.low <= value <= kind.high:
        return varint(kind.to_varint(value))
    raise WireError(f"{value} is not from {kind.low} to {kind.high}", field)


_FORMS = {form: struct.Struct(f"<{form}") for form in "fdIQiq"}


def number(tag: int, value: float, form: str, field: str) -> bytes:
    """A fixed-width field; `form` is struct's letter."""
    try:
        return varint(tag) + _FORMS[form].pack(value)
    except (struct.error, OverflowError):
        raise WireError(f"{value!r} does not fit", field) from None


def is_set(value: float) -> bool:
    """Whether a number is not a field's default: +0 is, -0 is not."""
    return value != 0 or math.copysign(1.0, value) < 0


def octets(buffer: Buffer) -> Buffer:
    """The same memory counted in bytes: the length of a view of an array counts elements."""
    if not isinstance(buffer, memoryview) or (buffer.format == "B" and buffer.ndim == 1):
        return buffer
    return buffer.cast("B") if buffer.nbytes else b""


def run_of(buffer: Buffer, width: int, field: str) -> Buffer:
    """A packed run of numbers of `width` bytes."""
    buffer = octets(buffer)
    if len(buffer) % width:
        raise WireError(f"{len(buffer)} bytes are not a whole number of {width}-byte elements", field)
    return buffer


def bools_of(buffer: Buffer, field: str) -> Buffer:
    """A packed run of bools: bytes 0 and 1, which is how the wire has them."""
    buffer = octets(buffer)
    if bytes(buffer).translate(None, b"\0\1"):
        raise WireError("a bool is neither 0 nor 1", field)
    return buffer


def integers_of(values: Sequence[int], kind: Integer, field: str) -> bytes:
    """A packed run of varints."""
    if len(values) < _LONG_LIST:
        return b"".join([_checked(value, kind, field) for value in values])
    try:
        numbers = array("Q" if kind.low == 0 else "q", values)
    except OverflowError:
        numbers = array("b")
    if not numbers or min(numbers) < kind.low or max(numbers) > kind.high:
        return b"".join([_checked(value, kind, field) for value in values])  # raises at the first that does not fit
    return b"".join([_pack_many(numbers[at : at + _SEGMENT], kind) for at in range(0, len(numbers), _SEGMENT)])


def _pack_many(numbers: "array[int]", kind: Integer) -> bytes:
    import numpy as np  # takes 170 ms that text-only use never needs

    signed = np.frombuffer(numbers, numbers.typecode)
    rest = ((signed << 1) ^ (signed >> 63)).view("u8") if kind.zigzag else signed.view("u8")
    columns, used = [], [np.ones(len(rest), bool)]  # a column holds the bytes at one place of all varints
    while (more := rest > 127).any():
        columns.append((rest & 127 | more.astype("u8") << 7).astype("u1"))
        used.append(more)
        rest = rest >> 7
    columns.append(rest.astype("u1"))
    packed: bytes = np.stack(columns, axis=1)[np.stack(used, axis=1)].tobytes()
    return packed


def unsendable(error: UnicodeEncodeError, message: Any, name: str) -> WireError:
    """A string of `message` (a struct named `name`) is not Unicode; says which field holds it."""
    for field in message.__struct_fields__:
        value = getattr(message, field)
        texts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else [value]
        if any(text is error.object for text in texts):
            return WireError("a lone surrogate is not Unicode text", f"{name}.{field}")
    return WireError("a lone surrogate is not Unicode text", name)


def chunks(parts: list[Buffer], size: int) -> list[Buffer]:
    """A message of `size` bytes, whose parts were written back to front, as few chunks: big buffers stay views."""
    parts.reverse()
    if size < JOIN_BELOW:
        return [b"".join(parts)]
    if size > MAX_SIZE:
        raise WireError(f"a message of {size} bytes is larger than 2 GiB")
    out: list[Buffer] = []
    small: list[Buffer] = []
    for part in parts:
        if len(part) < VIEW_FROM:
            small.append(part)
            continue
        if small:
            out.append(b"".join(small))
            small = []
        out.append(part)
    if small:
        out.append(b"".join(small))
    return out
