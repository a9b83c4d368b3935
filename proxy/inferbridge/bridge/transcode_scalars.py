"""JSON values to the scalars of protobuf: each checked, nothing rounded that the field's type does not round.

Numbers keep their decimal text as long as it may matter. A text of up to 15 digits is recovered from its double by
`repr`, since no two of them share one; a longer text travels with the double (`LongReal`).
"""

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

type Reader = Callable[[Any], Any]

_RECOVERABLE = 15
"""Characters, and so digits, of a number that its double tells exactly."""
_MAX_CHARACTERS = 400
"""Of a number in a string; nothing that fits a double or 64 bits needs more."""
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_FROM_URL_SAFE = str.maketrans("-_", "+/")
_SPECIALS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_SINGLE, _DOUBLE, _BITS = struct.Struct("<f"), struct.Struct("<d"), struct.Struct("<Q")
_DROPPED, _HALF = 0x1FFFFFFF, 0x10000000
"""The bits of a double that a float lacks, and their value halfway between two floats."""
_NEARLY_NOTHING = Decimal("1e-1000")
"""Closer to 0 than any double."""
_CLEAR_OF_SUBNORMALS = 2.0**-125


class Misfit(Exception):
    """A value that does not fit; `steps` lead to its place, innermost first."""

    def __init__(self, reason: str, *steps: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps = list(steps)

    def text(self) -> str:
        """Place and reason."""
        place = "".join(reversed(self.steps)).removeprefix(".")
        return f"{place}: {self.reason}" if place else self.reason


class LongReal(float):
    """A double, and the decimal text it was read from."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, source: str) -> "LongReal":
        """From a JSON number."""
        made = super().__new__(cls, source)
        made.source = source
        return made


def real(text: str) -> float:
    """The double nearest to a JSON number with a fraction or an exponent."""
    value = float(text)
    if math.isinf(value):
        raise Misfit(f"{shortened(text)} is out of range")
    # what is too small for a double is zero to every reader, and may be too small for a decimal as well
    return LongReal(text) if value and len(text) > _RECOVERABLE else value


def _decimal(value: float) -> Decimal:
    """The number as it was written."""
    return _exact(value.source if isinstance(value, LongReal) else repr(value))


def _exact(text: str) -> Decimal:
    """The number of a text that is a finite double."""
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond what Decimal has: nothing else than 0, or nearly that
        digits = text.lower().partition("e")[0].strip("-.0")
        return _NEARLY_NOTHING.copy_sign(Decimal(-1 if text[0] == "-" else 1)) if digits else Decimal(0)


def shown(value: Any) -> str:
    """A JSON value in an error."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "an array"
    return shortened(value.source if isinstance(value, LongReal) else json.dumps(value))


def shortened(text: str) -> str:
    """Not more of a value than helps to find it."""
    return text if len(text) <= 40 else f"{text[:40]}…"


def text(value: Any) -> str:
    """A string without lone surrogates, which UTF-8 does not have."""
    if type(value) is not str:
        raise Misfit(f"must be a string, not {shown(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Misfit("holds half of a surrogate pair") from None
    return value


def _number_in(value: str) -> int | float:
    """The number that a string holds."""
    if len(value) > _MAX_CHARACTERS or not _NUMBER.fullmatch(value):
        raise Misfit(f"must be a number, not {shown(value)}")
    return int(value) if _INTEGER.fullmatch(value) and value != "-0" else real(value)  # no integer has that sign


def integer_between(low: int, high: int) -> Reader:
    """Reads integers, also in strings and as 1.0 or 1e3."""

    def read(value: Any) -> int:
        if type(value) is str:
            value = _number_in(value)
        if isinstance(value, float):
            exact = _decimal(value)
            if exact != exact.to_integral_value():
                raise Misfit(f"must be an integer, not {shown(value)}")
            value = int(exact)
        if type(value) is not int:
            raise Misfit(f"must be an integer, not {shown(value)}")
        if not low <= value <= high:
            raise Misfit(f"{shortened(str(value))} is out of range, {low} to {high}")
        return value

    return read


def double(value: Any) -> float:
    """A double, also in a string; integers are rounded as decimals are."""
    if type(value) is str:
        special = _SPECIALS.get(value)
        value = _number_in(value) if special is None else special
    if isinstance(value, float):
        return value
    if type(value) is not int:
        raise Misfit(f"must be a number, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise Misfit(f"{shortened(str(value))} is out of range") from None


def single(value: Any) -> float:
    """A float as the double it is equal to: rounded once, from the decimal text."""
    given = double(value)
    if not math.isfinite(given):
        return given
    if abs(given) < _CLEAR_OF_SUBNORMALS or _BITS.unpack(_DOUBLE.pack(given))[0] & _DROPPED == _HALF:
        given = _towards(given, _exact(str(value)) if type(value) in (int, str) else _decimal(given))
    try:
        rounded: float = _SINGLE.unpack(_SINGLE.pack(given))[0]
    except OverflowError:
        raise Misfit(f"{shown(value)} is out of range for a float") from None
    return rounded


def _towards(double: float, exact: Decimal) -> float:
    """The double, off by one unit on the side of what it was rounded from, so that halfway cases fall right."""
    if exact == Decimal(double):
        return double
    return math.nextafter(double, math.inf if exact > Decimal(double) else -math.inf)


def exact_double(value: int | float) -> float:
    """The double of a JSON number that must not lose a digit; decimals are doubles to every reader of JSON."""
    if isinstance(value, float):
        return value
    try:
        converted = float(value)
    except OverflowError:
        converted = math.nan
    if converted != value:
        raise Misfit(f"the integer {shortened(str(value))} cannot be held by a double, which this field is sent as")
    return converted


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise Misfit(f"must be true or false, not {shown(value)}")
    return value


def _bytes(value: Any) -> bytes:
    """Base64 of either alphabet, padded or not."""
    if type(value) is not str or not _BASE64.fullmatch(value):
        raise Misfit(f"must be a string of base64, not {shown(value)}")
    bare = value.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    try:
        if "=" in value and value != padded:
            raise binascii.Error("wrong padding")
        return base64.b64decode(padded.translate(_FROM_URL_SAFE), validate=True)
    except binascii.Error as error:
        raise Misfit(f"must be a string of base64, not {shown(value)}: {error}") from None


def _enum(descriptor: EnumDescriptor) -> Reader:
    """Reads names and numbers; a number without a name only where the enum is open."""
    numbers: dict[str | None, int] = {name: value.number for name, value in descriptor.values_by_name.items()}
    known = set(numbers.values())
    if descriptor.full_name == "google.protobuf.NullValue":
        numbers[None] = 0

    def read(value: Any) -> int:
        number = numbers.get(value) if value is None or type(value) is str else _INT32(value)
        if number is None or (descriptor.is_closed and number not in known):
            raise Misfit(f"{descriptor.full_name} has no value {shown(value)}")
        return int(number)

    return read


_INT32 = integer_between(-(1 << 31), (1 << 31) - 1)
_UINT32 = integer_between(0, (1 << 32) - 1)
_INT64 = integer_between(-(1 << 63), (1 << 63) - 1)
_UINT64 = integer_between(0, (1 << 64) - 1)
_READERS: Mapping[int, Reader] = {
    FieldDescriptor.TYPE_BOOL: _boolean,
    FieldDescriptor.TYPE_BYTES: _bytes,
    FieldDescriptor.TYPE_DOUBLE: double,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_FIXED64: _UINT64,
    FieldDescriptor.TYPE_FLOAT: single,
    FieldDescriptor.TYPE_INT32: _INT32,
    FieldDescriptor.TYPE_INT64: _INT64,
    FieldDescriptor.TYPE_SFIXED32: _INT32,
    FieldDescriptor.TYPE_SFIXED64: _INT64,
    FieldDescriptor.TYPE_SINT32: _INT32,
    FieldDescriptor.TYPE_SINT64: _INT64,
    FieldDescriptor.TYPE_STRING: text,
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
}


def reader(field: FieldDescriptor) -> Reader:
    """Reads the values of a scalar field."""
    return _READERS[field.type] if field.enum_type is None else _enum(field.enum_type)


def key_reader(field: FieldDescriptor) -> Callable[[str], Any]:
    """Reads the keys of a map, which JSON has as strings."""
    if field.type == FieldDescriptor.TYPE_STRING:
        return text
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _boolean_key
    read = _READERS[field.type]

    def integer_key(key: str) -> Any:
        if not _INTEGER.fullmatch(key):
            raise Misfit(f"the key {shown(key)} is not an integer")
        return read(key)

    return integer_key


def _boolean_key(key: str) -> bool:
    if key not in ("true", "false"):
        raise Misfit(f"the key {shown(key)} is neither true nor false")
    return key == "true"
