"""Decimal text to narrow floats, correctly rounded.

Text goes to a double first, and from there to the narrow type. That is wrong only when the double sits exactly on
the midpoint of two narrow values although the text does not: rounding twice then picks the wrong side. Those few are
found by a bit mask and rounded again from the exact decimal value.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from inferbridge.bridge.errors import invalid

# For each narrow type: bits of a double's significand below it.
_DROPPED_BITS = {"FP32": 29, "FP16": 42, "BF16": 45}


def narrow(doubles: Any, datatype: str, text_of: Callable[[int], str], name: str) -> bytes:
    """Raw bytes of `datatype` from float64 values; `text_of(i)` is the decimal text of element i."""
    if datatype == "FP64":
        return bytes(doubles.astype("<f8").tobytes())
    exact = _resolve_ties(doubles, datatype, text_of)
    with np.errstate(over="ignore"):
        result = exact.astype("<f2") if datatype == "FP16" else exact.astype("<f4")
    if datatype == "BF16":
        bits = _round_to_bfloat(exact)
        finite = (bits & 0x7F80) != 0x7F80
        raw = bits.tobytes()
    else:
        finite = np.isfinite(result)
        raw = result.tobytes()
    overflow = np.isfinite(doubles) & ~finite
    if overflow.any():
        raise invalid(f"tensor '{name}': {text_of(int(overflow.argmax()))} is out of the range of {datatype}")
    return bytes(raw)


def _resolve_ties(doubles: Any, datatype: str, text_of: Callable[[int], str]) -> Any:
    """The doubles with those on a midpoint nudged one step to the side where their text lies."""
    bits = doubles.view(np.uint64)
    dropped = _DROPPED_BITS[datatype]
    mask = np.uint64((1 << dropped) - 1)
    half = np.uint64(1 << (dropped - 1))
    suspects = (
        np.flatnonzero((bits & mask) == half) if not _may_be_subnormal(doubles, datatype) else np.arange(len(doubles))
    )
    if not len(suspects):
        return doubles
    moved = doubles.copy()
    for index in suspects.tolist():
        value = float(doubles[index])
        if not np.isfinite(value) or not _is_midpoint(value, datatype):
            continue
        text, double = Decimal(text_of(index)), Decimal(value)
        if text != double:
            # only the direction matters: any value between the text and the midpoint rounds as the text does
            moved[index] = np.nextafter(value, np.inf if text > double else -np.inf)
    return moved


def _may_be_subnormal(doubles: Any, datatype: str) -> bool:
    """Below the narrow type's normal range, midpoints have other bits: look at every element then."""
    smallest = 2.0**-14 if datatype == "FP16" else 2.0**-126
    sizes = np.abs(doubles)
    return bool(((sizes > 0) & (sizes < smallest)).any())


def _is_midpoint(value: float, datatype: str) -> bool:
    if datatype == "BF16":
        return True
    kind = np.float16 if datatype == "FP16" else np.float32
    with np.errstate(over="ignore"):
        near = kind(value)
    other = np.nextafter(near, kind(np.inf if value > float(near) else -np.inf))
    return bool(np.isfinite(near)) and (float(near) + float(other)) / 2 == value


def _round_to_bfloat(doubles: Any) -> Any:
    """bfloat16 bits, nearest even, straight from doubles (through float32 would round twice)."""
    with np.errstate(over="ignore"):
        single = doubles.astype(np.float32)
    # round to odd: an inexact float32 gets its last bit set, so that the second rounding cannot meet a false midpoint
    bits = single.view(np.uint32)
    back = single.astype(np.float64)
    inexact = np.isfinite(doubles) & np.isfinite(single) & (back != doubles)
    toward_zero = np.abs(back) > np.abs(doubles)
    bits = np.where(inexact & toward_zero, bits - np.uint32(1), bits)
    bits = np.where(inexact, bits | np.uint32(1), bits)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    special = ~np.isfinite(single)
    top = bits >> np.uint32(16)
    quiet = np.where(np.isnan(single), top | np.uint32(0x40), top)
    return np.where(special, quiet, rounded).astype("<u2")
