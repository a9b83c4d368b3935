"""The elements of a tensor, whatever form they are in, and what a few numbers can say of them.

Elements are read in pieces, as views of what arrived where numpy knows the datatype, so a tensor of 100 MB is looked at
without a copy of it. How much is read is bounded for each form by what it costs (`READ_*`); a tensor that is longer is
counted as a whole, and its statistics say how many elements they are of.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from inferbridge.bridge.datatypes import LENGTH, Datatype
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import WireError, last_stop, varints
from inferbridge.inspect.page import quoted_bytes, shorten

type Array = NDArray[Any]
READ_RAW = 128 * 1024 * 1024
"""Bytes of raw elements that are read, in all tensors of a message together."""
READ_HALVES = 16 * 1024 * 1024
"""The same where numpy must widen each element before it can count with it."""
READ_VARINTS = 2 * 1024 * 1024
READ_JSON = 1024 * 1024
READ_TEXTS = 16 * 1024
"""Elements of BYTES that are read."""
FIRST = 8
"""Elements that are shown."""
_PIECE = 1 << 18
_TEXT_LENGTH = 100
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of a tensor."""

    size: int
    """Bytes, in the form that they are in."""
    count: int | None = None
    """None where only some were counted."""
    arrays: Iterator[Array] = field(default_factory=lambda: iter(()))
    """Numbers, in pieces; not necessarily all."""
    texts: Sequence[str] = ()
    """The first elements of BYTES, as they are shown."""
    trouble: str = ""
    """What is wrong with the form itself."""


@dataclass(slots=True)
class Statistics:
    """Of the numbers that were read; least, greatest and mean are those of the finite ones, None where none is."""

    count: int = 0
    finite: int = 0
    nan: int = 0
    least: Any = None
    greatest: Any = None
    total: float = 0.0
    first: list[Any] = field(default_factory=list)

    @property
    def infinite(self) -> int:
        """How many are positive or negative infinity."""
        return self.count - self.finite - self.nan

    @property
    def mean(self) -> float | None:
        """Of the finite ones."""
        return self.total / self.finite if self.finite else None

    def add(self, piece: Array) -> None:
        """Further numbers."""
        if len(self.first) < FIRST:
            self.first += list(piece[: FIRST - len(self.first)])
        self.count += len(piece)
        if piece.dtype.kind == "f":
            piece = self._finite(piece)
        if not len(piece):
            return
        self.finite += len(piece)
        least, greatest = piece.min(), piece.max()
        self.least = least if self.least is None else min(self.least, least)
        self.greatest = greatest if self.greatest is None else max(self.greatest, greatest)
        with np.errstate(over="ignore"):  # a sum of doubles may become infinite, which says what it is
            self.total += float(piece.sum(dtype=np.float64))

    def _finite(self, piece: Array) -> Array:
        is_finite = np.isfinite(piece)
        if is_finite.all():
            return piece
        self.nan += int(np.count_nonzero(np.isnan(piece)))
        finite: Array = piece[is_finite]
        return finite


def statistics(arrays: Iterator[Array]) -> Statistics:
    """Of all pieces together."""
    found = Statistics()
    for piece in arrays:
        found.add(piece)
    return found


def raw_elements(raw: Buffer, kind: Datatype, among: int = 1) -> Elements:
    """Little-endian elements, as raw contents and packed `fp32_contents` have them; one of `among` tensors."""
    if not kind.size:
        return _length_prefixed(raw, among)
    count, over = divmod(len(raw), kind.size)
    trouble = f"{len(raw)} bytes are not a whole number of {kind.size}-byte elements" if over else ""
    limit = READ_HALVES if kind.name in {"FP16", "BF16"} else READ_RAW
    view = np.frombuffer(raw, "u1" if kind.kind == "bool" else kind.numpy, count)
    return Elements(len(raw), count, _pieces(view[: limit // kind.size // among], kind), trouble=trouble)


def _pieces(view: Array, kind: Datatype) -> Iterator[Array]:
    for at in range(0, len(view), _PIECE):
        piece = view[at : at + _PIECE]
        if kind.name == "BF16":  # the upper half of a float32
            yield (piece.astype("<u4") << 16).view("<f4")
        else:
            yield piece.astype("<f4") if kind.name == "FP16" else piece


def _length_prefixed(raw: Buffer, among: int) -> Elements:
    at, count = 0, 0
    texts: list[str] = []
    while at < len(raw) and count < READ_TEXTS // among:
        start = at + LENGTH.size
        at = start + LENGTH.unpack_from(raw, at)[0] if start <= len(raw) else start
        if at > len(raw):
            return Elements(len(raw), None, texts=texts, trouble=f"element {count} is cut off")
        if len(texts) < FIRST:
            texts.append(quoted_bytes(raw[start:at], _TEXT_LENGTH))
        count += 1
    return Elements(len(raw), count if at >= len(raw) else None, texts=texts)


def listed_elements(items: Sequence[Buffer]) -> Elements:
    """`bytes_contents`, where each element is a field."""
    texts = [quoted_bytes(item, _TEXT_LENGTH) for item in items[:FIRST]]
    return Elements(sum(map(len, items)), len(items), texts=texts)


def varint_elements(run: Buffer, kind: Datatype, among: int = 1) -> Elements:
    """Packed varints, as `int_contents` and `int64_contents` have them."""
    trouble = "the last number is cut off" if len(run) and run[-1] >= 128 else ""
    return Elements(len(run), count_varints(run), _varint_pieces(run[: READ_VARINTS // among], kind), trouble=trouble)


def count_varints(run: Buffer) -> int:
    """Numbers of a packed run: each ends with a byte below 128."""
    octets = np.frombuffer(run, "u1")
    return sum(int(np.count_nonzero(octets[at : at + _PIECE] < 128)) for at in range(0, len(octets), _PIECE))


def _varint_pieces(run: Buffer, kind: Datatype) -> Iterator[Array]:
    at, end = 0, len(run)
    while at < end:
        head = bytes(run[at : at + _PIECE])
        try:
            stop = last_stop(head, 0, len(head))
            # wrapped to its width: what does not fit the datatype shows as what readers make of it
            yield varints(head[:stop]).astype(kind.numpy) if kind.kind != "bool" else varints(head[:stop])
        except WireError:
            return
        at += stop


def json_elements(body: bytes, start: int, end: int, kind: Datatype, among: int = 1) -> Elements:
    """A JSON array, flat or nested, that is `body[start:end]`; numbers are counted by their commas."""
    head = body[start : min(end, start + READ_JSON // among)]
    is_whole = len(head) == end - start
    if kind.size == 0:
        return _json_texts(head, is_whole, end - start)
    try:
        values = _parsed(head, is_whole)
        array = _array(values, kind)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return Elements(end - start, trouble=f"the data are not elements of {kind.name}")
    return Elements(end - start, len(values) if is_whole else _commas(body, start, end) + 1, iter((array,)))


def _parsed(head: bytes, is_whole: bool) -> list[Any]:
    # no number has a bracket in it, so an array of arrays becomes flat without them
    flat = head.translate(None, b"[] \t\r\n")
    text = b"[%s]" % (flat if is_whole else flat[: flat.rfind(b",")])
    try:
        return list(orjson.loads(text))
    except ValueError:
        return list(json.loads(text))  # NaN and Infinity


def _json_texts(head: bytes, is_whole: bool, size: int) -> Elements:
    found = _STRING.findall(head)
    texts = [shorten(text.decode(errors="replace"), _TEXT_LENGTH) for text in found[:FIRST]]
    return Elements(size, len(found) if is_whole else None, texts=texts)


def _array(values: list[Any], kind: Datatype) -> Array:
    if kind.kind == "float":
        return np.array([math.nan if value is None else value for value in values], np.float64)
    if kind.kind == "bool":
        return np.array([bool(value) for value in values], np.uint8)
    if any(type(value) is not int for value in values):
        raise TypeError
    return np.array(values, kind.numpy)


def _commas(body: bytes, start: int, end: int) -> int:
    octets = np.frombuffer(body, "u1")[start:end]
    return sum(int(np.count_nonzero(octets[at : at + _PIECE] == 44)) for at in range(0, len(octets), _PIECE))
