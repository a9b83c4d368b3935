"""Parses one segment of a large JSON number array: with simdjson when it is installed, else with orjson."""

from importlib import import_module
from typing import Any

import numpy as np
import orjson


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


simdjson = _optional("simdjson")
"""None when the extra `simd` is not installed."""
_DTYPES = {"d": np.float64, "i": np.int64, "u": np.uint64}


def numbers(piece: bytes, kind: str) -> Any | None:
    """The numbers between commas as an array of float64 (d), int64 (i) or uint64 (u); None when one is not such."""
    return _by_orjson(piece, kind) if simdjson is None else _by_simdjson(piece, kind)


def _by_simdjson(piece: bytes, kind: str) -> Any | None:
    try:
        # a parser of its own for each piece: one that raised must not be used again
        parsed = simdjson.Parser().parse(b"[" + piece + b"]")
        return np.frombuffer(parsed.as_buffer(of_type=kind), _DTYPES[kind])
    except (ValueError, RuntimeError, TypeError, OverflowError):
        return _by_orjson(piece, kind)


def _by_orjson(piece: bytes, kind: str) -> Any | None:
    try:
        values = orjson.loads(b"[" + piece + b"]")
        if kind != "d" and not all(type(value) is int for value in values):
            return None
        return np.array(values, _DTYPES[kind])
    except (ValueError, OverflowError, TypeError):
        return None
