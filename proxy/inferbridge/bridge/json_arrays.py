"""Large JSON arrays of numbers to raw tensor data, in pieces of 128 KiB, without a Python object for each element.

Theory. The array is cut at commas, each piece is wrapped in `[` and `]` and parsed as a flat JSON array, by simdjson
where it is installed (extra `simd`), else by orjson. Nested arrays are made flat piece by piece (`json_nesting`).
"""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import orjson

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import Datatype, wrong_count
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.json_cut import Region
from inferbridge.bridge.json_nesting import Nesting
from inferbridge.bridge.json_values import STRETCH, number_texts, refuse, refuse_long_number_at, wrong_nesting
from inferbridge.bridge.rounding import FORMATS, Texts, bfloat_bits, nearest, suspects
from inferbridge.bridge.values import Buffer


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


simdjson = _optional("simdjson")
"""None when the extra `simd` is not installed, or has no wheel for this Python."""
PIECE = 128 * 1024
_OPEN = re.compile(rb"\[[\[ \t\r\n]*+")


def read_large(region: Region, kind: Datatype, shape: list[int], count: int, name: str, nan: NanPolicy) -> Buffer:
    """Raw data of the array, which is flat or nested as the shape says."""
    opening = _OPEN.match(region.body, region.start)
    if opening is None or region.body[region.end - 1 : region.end] != b"]":
        raise invalid(f"tensor {name!r}: data must be an array")
    # an element takes two characters; a shape that lies must not make us allocate gigabytes
    if count <= (region.end - region.start) // 2:
        pieces = _pieces(region.body, region.start + 1, region.end - 1)
        if opening[0].count(b"[") > 1:
            pieces = _nested_pieces(region, shape, name)
        reader = _Reader(kind, count, name, nan)
        if all(map(reader.add, pieces)) and reader.at == count:
            return reader.raw()
    raise wrong_count(shape, name, count, region.body.count(b",", region.start, region.end) + 1, "data")


def _pieces(body: bytes, at: int, end: int) -> Iterator[bytes]:
    while at <= end:
        stop = body.find(b",", at + PIECE, end)
        stop = end if stop < 0 else stop
        yield body[at:stop]
        at = stop + 1


def _nested_pieces(region: Region, shape: list[int], name: str) -> Iterator[bytes]:
    nesting = Nesting(shape, region.end - region.start)
    for piece in _pieces(region.body, region.start, region.end):
        flat = nesting.flat(piece)
        if flat is None:
            raise wrong_nesting(shape, name)
        yield flat
    if not nesting.complete:
        raise wrong_nesting(shape, name)


def _refuse_long_numbers(piece: bytes, name: str) -> None:
    """`json_values.refuse_long_numbers`, faster for much text."""
    rows = len(piece) // STRETCH
    commas = np.frombuffer(piece, np.uint8, rows * STRETCH).reshape(rows, STRETCH) == ord(",")
    for row in np.flatnonzero(~commas.any(axis=1)).tolist():
        refuse_long_number_at(piece, row * STRETCH, name)


class _Reader:
    """Reads pieces of a flat array into one array of the datatype."""

    def __init__(self, kind: Datatype, count: int, name: str, nan: NanPolicy) -> None:
        self._kind, self._name, self._nan = kind, name, nan
        self._special = {"reject": (), "null": (b"n",), "literal": (b"N", b"I")}[nan] if kind.kind == "float" else ()
        self._parse = _by_orjson if simdjson is None else _by_simdjson
        self._out = np.empty(count, kind.numpy)
        self.at = 0

    def add(self, piece: bytes) -> bool:
        """Read one piece; False when there are more elements than the tensor has."""
        _refuse_long_numbers(piece, self._name)
        values = self._values(piece)
        stop = self.at + len(values)
        if stop > len(self._out):
            return False
        if stop == self.at:  # a comma with nothing behind it
            refuse(piece, self._kind, self.at, self._name, self._nan)
        self._out[self.at : stop] = values
        self.at = stop
        return True

    def raw(self) -> Buffer:
        """The raw data of all pieces."""
        return memoryview(self._out.view(np.uint8))

    def _values(self, piece: bytes) -> Any:
        if self._kind.kind == "bool":
            return self._booleans(piece)
        try:
            values = self._numbers(piece)
        except (ValueError, TypeError, OverflowError, RuntimeError):
            refuse(piece, self._kind, self.at, self._name, self._nan)
        if self._kind.kind == "float":
            return narrow(values, self._kind, lambda: number_texts(piece), self._name)
        if values.dtype.itemsize > self._kind.size and (
            (values < self._kind.low).any() or (values > self._kind.high).any()
        ):
            refuse(piece, self._kind, self.at, self._name, self._nan)
        return values

    def _booleans(self, piece: bytes) -> Any:
        if piece.translate(None, b"truefals, \t\r\n"):
            refuse(piece, self._kind, self.at, self._name, self._nan)
        try:
            orjson.loads(b"[%b]" % piece)
        except ValueError:
            refuse(piece, self._kind, self.at, self._name, self._nan)
        # valid, so each word has exactly one of these letters to tell it by: t of true, f of false
        letters = np.frombuffer(piece, np.uint8)
        return letters[(letters == ord("t")) | (letters == ord("f"))] == ord("t")

    def _numbers(self, piece: bytes) -> Any:
        """The numbers as float64, int64 or uint64; any exception when some element is none."""
        if any(word in piece for word in self._special):
            return _with_words(piece) if self._nan == "literal" else _with_nulls(piece)
        if b"[" in piece:
            raise TypeError  # simdjson would take the numbers of nested arrays for those of this one
        form = "d" if self._kind.kind == "float" else "u" if self._kind.name == "UINT64" else "i"
        return self._parse(b"[%b]" % piece, form)


_FORMS = {"d": np.dtype("<f8"), "i": np.dtype("<i8"), "u": np.dtype("<u8")}


def _by_simdjson(text: bytes, form: str) -> Any:
    try:
        # a new parser every time: one whose last document is still in use, or that raised, cannot parse again
        parsed = simdjson.Parser().parse(text)
        return np.frombuffer(parsed.as_buffer(of_type=form), _FORMS[form])
    except (ValueError, RuntimeError):
        # it takes no integers from 2**64 on, not even as doubles
        return _by_orjson(text, form)


def _by_orjson(text: bytes, form: str) -> Any:
    values = orjson.loads(text)
    if form == "d":
        return _floats(values, {int, float})
    if set(map(type, values)) - {int}:
        raise TypeError
    return np.array(values, _FORMS[form])


def _with_nulls(piece: bytes) -> Any:
    return _floats(orjson.loads(b"[%b]" % piece), {int, float, type(None)})


def _with_words(piece: bytes) -> Any:
    """NaN, Infinity and -Infinity, which only the standard library reads; but so it reads 1e999."""
    values = _floats(json.loads(f"[{piece.decode('ascii')}]"), {int, float})
    if np.isinf(values).sum() != piece.count(b"Infinity"):
        raise OverflowError
    return values


def _floats(values: list[Any], types: set[type]) -> Any:
    if set(map(type, values)) - types:
        raise TypeError
    return np.array(values, np.float64)


def pack_floats(values: list[float], kind: Datatype, texts: Texts, name: str) -> bytes:
    """Raw data of floats; `texts` gives the decimal texts they were read from."""
    return bytes(narrow(np.array(values, np.float64), kind, texts, name).tobytes())


def narrow(doubles: Any, kind: Datatype, texts: Texts, name: str) -> Any:
    """The doubles in the datatype's format (BF16: its bits), correctly rounded from their texts."""
    if kind.name == "FP64":
        return doubles
    with np.errstate(over="ignore"):
        if kind.name == "FP32":
            result = finite = doubles.astype("<f4")
            doubtful = suspects(doubles, result)
            if len(doubtful):
                result[doubtful] = _nearest(doubles, doubtful, kind, texts)
        else:
            rounded = nearest(doubles, FORMATS[kind.name], texts)
            finite = rounded.astype("<f4" if kind.name == "BF16" else "<f2")
            result = bfloat_bits(rounded) if kind.name == "BF16" else finite
    if not np.isfinite(finite).all():
        _refuse_overflow(doubles, finite, kind, name)
    return result


def _nearest(doubles: Any, places: Any, kind: Datatype, texts: Texts) -> Any:
    """The doubles at `places`, correctly rounded."""

    def chosen() -> list[str]:
        every = texts()
        return [every[place] for place in places.tolist()]

    return nearest(doubles[places], FORMATS[kind.name], chosen)


def _refuse_overflow(doubles: Any, finite: Any, kind: Datatype, name: str) -> None:
    wrong = np.isfinite(doubles) & ~np.isfinite(finite)
    if wrong.any():
        raise invalid(f"tensor {name!r}: {doubles[wrong][0].item()!r} is out of the range of {kind.name}")
