"""Decimal text to FP16, BF16 and FP32, correctly rounded (to nearest, ties to even).

Theory. Text is read as a double first, and a double is rounded to the narrow format. Rounding twice is wrong only when
the first rounding lands exactly on the midpoint of two narrow values and the text does not. So every midpoint is found
and decided by its text's exact decimal value. A value in units of its last place (a power of two, so scaling is exact)
is on a midpoint when its fraction is one half; below the least normal exponent the last place no longer shrinks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

type Texts = Callable[[], list[str]]
"""The decimal texts of the values, made when the first midpoint asks for them."""


@dataclass(frozen=True, slots=True)
class Format:
    """A binary floating point format: `digits` of the significand with the hidden one, least normal exponent."""

    digits: int
    least: int


FORMATS = {"FP16": Format(11, -14), "BF16": Format(8, -126), "FP32": Format(24, -126)}

_EXACT_DIGITS = 15
"""An integer of so few characters is a double exactly, so that nothing was rounded yet."""

# FP32 in doubles: the 29 bits that it drops, and their value on a midpoint.
_DROPPED = np.uint64(0x1FFFFFFF)
_HALF = np.uint64(0x10000000)
_EXPONENT = np.uint32(0x7F800000)
# An exponent field of 2, the least that is clear of subnormals even after rounding.
_TWO = np.uint32(0x01000000)


def suspects(doubles: Any, singles: Any) -> Any:
    """Indices where the float32 `singles`, cast from `doubles`, may be wrong: midpoints, and those near subnormals."""
    doubtful = (doubles.view(np.uint64) & _DROPPED) == _HALF
    tiny = (singles.view(np.uint32) & _EXPONENT) < _TWO
    if tiny.any():
        doubtful |= tiny & (doubles != 0)
    return np.flatnonzero(doubtful)


def nearest(doubles: Any, form: Format, texts: Texts) -> Any:
    """Doubles rounded to the format, as doubles; those beyond its range are not yet infinite."""
    last_place = np.maximum(np.frexp(doubles)[1] - 1, form.least) - (form.digits - 1)
    with np.errstate(invalid="ignore"):
        scaled = np.ldexp(doubles, -last_place)
        rounded = np.rint(scaled)
        midpoints = np.flatnonzero(np.abs(scaled - np.trunc(scaled)) == 0.5)
    if len(midpoints):
        _decide(midpoints.tolist(), texts(), doubles, scaled, rounded)
    return np.ldexp(rounded, last_place)


def _decide(midpoints: list[int], texts: list[str], doubles: Any, scaled: Any, rounded: Any) -> None:
    for index in midpoints:
        text = texts[index]
        if len(text) <= _EXACT_DIGITS and text.lstrip("-").isdigit():
            continue
        decimal, double = Decimal(text), doubles[index].item()
        if decimal > double:
            rounded[index] = np.ceil(scaled[index])
        elif decimal < double:
            rounded[index] = np.floor(scaled[index])


def bfloat_bits(rounded: Any) -> Any:
    """The bits of doubles that are bfloat16 values; they are the upper half of a float32."""
    with np.errstate(over="ignore"):
        return (rounded.astype("<f4").view("<u4") >> np.uint32(16)).astype("<u2")
