"""A message of google.protobuf as the JSON value that ProtoJSON gives it.

Maps have no order of their own; they are written in the order of their keys, so that one message has one text.
"""

import base64
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from inferbridge.bridge.transcode_read import MAX_DEPTH, TEXTS, WRAPPERS, any_type, entry_of, is_map
from inferbridge.bridge.transcode_scalars import Misfit
from inferbridge.bridge.wire import MAX_UNKNOWN, Unknown

_WIDE = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})
_REALS = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})
_SINGLE = struct.Struct("<f")
_DIGITS = (6, 7, 8)
"""Of a float's shortest text; 9 tell any float, 6 or fewer come out right when 6 are asked for."""


@dataclass(frozen=True, slots=True)
class Style:
    """What ProtoJSON leaves open."""

    original_names: bool
    plain_integers: bool
    unknown: Unknown | None = None
    """Takes what the descriptors do not know, which JSON has no name for."""


def to_value(message: Any, style: Style, depth: int) -> Any:
    """The JSON value; `depth` is the message's own, the outermost is 1. Raises `Misfit`."""
    if depth > MAX_DEPTH:
        raise Misfit(f"more than {MAX_DEPTH} messages within each other")
    if style.unknown is not None:
        _note_unknown(message, style.unknown)
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    return _object(message, style, depth) if special is None else special(message, style, depth)


def _note_unknown(message: Any, unknown: Unknown) -> None:
    fields: Any = UnknownFieldSet(message)
    for field in fields:
        found = (message.DESCRIPTOR.full_name, field.field_number)
        if len(unknown) < MAX_UNKNOWN and found not in unknown:
            unknown.append(found)


def _object(message: Any, style: Style, depth: int) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for field, value in message.ListFields():
        name = _name(field, style)
        try:
            members[name] = _field(field, value, style, depth)
        except Misfit as misfit:
            misfit.steps.append(f".{name}")
            raise
    return members


def _name(field: FieldDescriptor, style: Style) -> str:
    if field.is_extension:
        return f"[{field.full_name}]"
    return field.name if style.original_names else field.json_name


def _field(field: FieldDescriptor, value: Any, style: Style, depth: int) -> Any:
    if is_map(field):
        _, inner = entry_of(field)
        return {_key(key): _one(inner, value[key], style, depth + 1) for key in sorted(value)}
    if field.is_repeated:
        return [_one(field, item, style, depth) for item in value]
    return _one(field, value, style, depth)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: FieldDescriptor, value: Any, style: Style, depth: int) -> Any:
    if field.message_type is not None:
        return to_value(value, style, depth + 1)
    if field.enum_type is not None:
        return _enum(field.enum_type, value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return base64.b64encode(value).decode()
    if field.cpp_type in _WIDE:
        return value if style.plain_integers else str(value)
    return _real(field, value) if field.cpp_type in _REALS else value


def _enum(descriptor: EnumDescriptor, number: int) -> str | int | None:
    if descriptor.full_name == "google.protobuf.NullValue":
        return None
    known = descriptor.values_by_number.get(number)
    return number if known is None else str(known.name)


def _real(field: FieldDescriptor, value: float) -> float | str:
    """NaN and Infinity are strings; a float has as few digits as tell it from its neighbours."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return _shortest(value) if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else value


def _shortest(value: float) -> float:
    """The double with the fewest digits that a float is read back from."""
    for digits in _DIGITS:
        candidate = float(f"{value:.{digits}g}")
        if _SINGLE.unpack(_SINGLE.pack(candidate))[0] == value:
            return candidate
    return float(f"{value:.9g}")


def _value(message: Any, style: Style, depth: int) -> Any:
    kind = message.WhichOneof("kind")
    if kind in (None, "null_value"):
        return None
    held = getattr(message, kind)
    if kind == "number_value":
        return _number(held)
    return to_value(held, style, depth + 1) if kind in ("struct_value", "list_value") else held


def _number(value: float) -> int | float:
    """Integers as such while 64 bits hold them: it is what went in, and readers that want an integer take nothing else.

    Minus zero is left alone, which no integer can say.
    """
    if not math.isfinite(value):
        raise Misfit(f"a google.protobuf.Value cannot be {value} in JSON")
    whole = value.is_integer() and -(2.0**63) <= value < 2.0**64 and (value != 0 or math.copysign(1, value) > 0)
    return int(value) if whole else value


def _struct(message: Any, style: Style, depth: int) -> dict[str, Any]:
    return {key: to_value(message.fields[key], style, depth + 2) for key in sorted(message.fields)}


def _list(message: Any, style: Style, depth: int) -> list[Any]:
    return [to_value(value, style, depth + 1) for value in message.values]


def _wrapper(message: Any, style: Style, depth: int) -> Any:
    return _one(message.DESCRIPTOR.fields_by_name["value"], message.value, style, depth)


def _text(message: Any, style: Style, depth: int) -> str:
    try:
        return str(message.ToJsonString())
    except ValueError as error:
        raise Misfit(str(error)) from None


def _any(message: Any, style: Style, depth: int) -> dict[str, Any]:
    if not message.ListFields():
        return {}
    try:
        part = GetMessageClass(any_type(message, message.type_url)).FromString(message.value)
    except DecodeError as error:
        raise Misfit(f"malformed {message.type_url}: {error}") from None
    value = to_value(part, style, depth + 1)
    if part.DESCRIPTOR.full_name in _SPECIAL:
        value = {"value": value}
    return {"@type": message.type_url, **value}


_SPECIAL: Mapping[str, Callable[[Any, Style, int], Any]] = {
    **dict.fromkeys(WRAPPERS, _wrapper),
    **dict.fromkeys(TEXTS, _text),
    "google.protobuf.Value": _value,
    "google.protobuf.Struct": _struct,
    "google.protobuf.ListValue": _list,
    "google.protobuf.Any": _any,
}
