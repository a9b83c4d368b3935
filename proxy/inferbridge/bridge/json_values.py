"""Reading a JSON array of tensor elements the careful way: odd ones, and wrong ones, which get their error here.

The fast readers come here with whatever they refuse.
"""

import json
import math
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import MAX_DIMENSIONS, Datatype, out_of_range, shape_text, wrong_count
from inferbridge.bridge.errors import invalid

MAX_DIGITS = 400
"""Characters of one number; nothing that fits a double or 64 bits needs more."""
STRETCH = MAX_DIGITS // 2
_LONG = re.compile(rb"[-+.0-9eE]{%d}" % (MAX_DIGITS + 1))


def refuse_long_numbers(text: bytes, name: str) -> None:
    """Refuse numbers of more than MAX_DIGITS characters.

    Such a one fills some stretch of half as many characters, with no comma in it; only there it pays to look closely.
    """
    if len(text) <= MAX_DIGITS:
        return
    for start in range(0, len(text) - STRETCH + 1, STRETCH):
        if text.find(b",", start, start + STRETCH) < 0:
            refuse_long_number_at(text, start, name)


def refuse_long_number_at(text: bytes, start: int, name: str) -> None:
    """Refuse a long number that fills the stretch at `start`."""
    if _LONG.search(text, max(0, start - MAX_DIGITS), start + STRETCH + MAX_DIGITS):
        raise invalid(f"tensor {name!r}: a number in data is longer than {MAX_DIGITS} characters")


def read_elements(text: bytes, kind: Datatype, shape: list[int], count: int, name: str, nan: NanPolicy) -> list[Any]:
    """The elements of a JSON array, flat or nested as the shape says, each checked; null is NaN where `nan` says so."""
    elements = flatten(parse(text, name, nan), shape, count, name)
    for index, element in enumerate(elements):
        check_element(element, kind, index, name, nan)
    if kind.kind == "float":
        return [math.nan if element is None else element for element in elements]
    return elements


def parse(text: bytes, name: str, nan: NanPolicy) -> Any:
    """Any JSON value; integers are exact, NaN and Infinity are read where `nan` is "literal"."""

    def constant(word: str) -> float:
        if nan != "literal":
            raise ValueError(f"{word} is not JSON")
        return float(word)

    try:
        # not from bytes: that would guess at UTF-16 and let lone surrogates pass
        return json.loads(text.decode(), parse_constant=constant, parse_float=_finite)
    except RecursionError:
        raise invalid(f"tensor {name!r}: data is nested more than {MAX_DIMENSIONS} deep") from None
    except UnicodeDecodeError:
        raise invalid(f"tensor {name!r}: data is not valid UTF-8") from None
    except ValueError as error:
        raise invalid(f"tensor {name!r}: data is not valid: {error}") from None


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{_shortened(text)} is out of range")
    return value


def flatten(data: Any, shape: list[int], count: int, name: str) -> list[Any]:
    """The elements in row-major order; nested lists must have exactly the shape's lengths at every level."""
    if not isinstance(data, list):
        raise invalid(f"tensor {name!r}: data must be an array, not {_shown(data)}")
    if not any(isinstance(item, list) for item in data):
        if len(data) != count:
            raise wrong_count(shape, name, count, len(data), "data")
        return data
    level: list[Any] = [data]
    for dimension in shape:
        if not all(isinstance(item, list) and len(item) == dimension for item in level):
            raise wrong_nesting(shape, name)
        level = [element for item in level for element in item]
    if any(isinstance(item, list) for item in level):
        raise wrong_nesting(shape, name)
    return level


def wrong_nesting(shape: list[int], name: str) -> Exception:
    """The error of nested data that is ragged or not of the tensor's shape."""
    return invalid(f"tensor {name!r}: data is nested, but not as shape {shape_text(shape)} says (or ragged)")


def check_element(value: Any, kind: Datatype, index: int, name: str, nan: NanPolicy) -> None:
    """Refuse an element that is not of the datatype; numbers are not booleans and text is not a number."""
    type_ = type(value)
    if kind.kind == "int" and type_ is int:
        if not kind.low <= value <= kind.high:
            raise out_of_range(value, kind, name)
        return
    if kind.kind == "float" and (type_ is float or (value is None and nan == "null")):
        return
    if kind.kind == "float" and type_ is int:
        _check_double(value, name)
        return
    if (kind.kind == "bool" and type_ is bool) or (kind.kind == "bytes" and type_ is str):
        return
    wanted = {"bool": "true or false", "int": "an integer", "float": "a number", "bytes": "a string"}[kind.kind]
    raise invalid(f"tensor {name!r}: element {index} is {_shown(value)}, {kind.name} needs {wanted}")


def _check_double(value: int, name: str) -> None:
    try:
        float(value)
    except OverflowError:
        raise invalid(f"tensor {name!r}: {_shortened(str(value))} is out of range") from None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    return _shortened(json.dumps(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"


def refuse(text: bytes, kind: Datatype, first: int, name: str, nan: NanPolicy) -> NoReturn:
    """Raise the error of a stretch of a flat array that no reader takes; `first` is the number of its first element."""
    values: Sequence[Any] = parse(b"[%b]" % text, name, nan)
    for index, value in enumerate(values):
        check_element(value, kind, first + index, name, nan)
    raise invalid(f"tensor {name!r}: data is not an array of {kind.name} elements")


def number_texts(text: bytes) -> list[str]:
    """The texts of all numbers of a checked array, in order."""
    return text.translate(None, b"[] \t\r\n").decode().split(",")
