"""JSON in protobuf: the messages of google/protobuf/struct.proto as Python's plain values, and back.

Generated codecs keep such a message as its bytes; these functions are what the lines of a spec read and write them
with. All numbers of a `Value` are doubles, so a whole one is an int again, as JSON writes it, and an int that no double
equals cannot be carried. A message without presence is None.
"""

import math
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import ListValue, Struct, Value

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.values import Buffer

_EXACT = 2.0**53
"""Above it a double no longer tells neighbouring integers apart."""
_DEPTH = 90
"""Messages in each other. Parsers of protobuf give up at a hundred, and these stand in others."""
_OBJECT, _ARRAY = 3, 2
"""An object is a Value, a Struct and an entry of its map, an array a Value and a ListValue."""


def read_struct(data: Buffer | None) -> dict[str, Any] | None:
    """The object in a `google.protobuf.Struct`."""
    return None if data is None else _object(_parsed(Struct, data))


def read_structs(items: Iterable[Buffer]) -> list[Any]:
    """The objects in a list of them."""
    return [_object(_parsed(Struct, data)) for data in items]


def read_value(data: Buffer | None) -> Any:
    """What a `google.protobuf.Value` holds; None also for its null."""
    return None if data is None else _plain(_parsed(Value, data))


def write_struct(value: Any, name: str, context: Context) -> bytes | None:
    """An object as a `google.protobuf.Struct`; anything else is refused by `name`."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise context.inexpressible(f"{name}: only a JSON object can be carried")
    return _filled(Value(), value, name, context, 0).struct_value.SerializeToString(deterministic=True)


def write_structs(values: Iterable[Any], name: str, context: Context) -> list[Buffer]:
    """A list of objects; what is refused is named with its place in the list."""
    return [_required_struct(value, f"{name}[{place}]", context) for place, value in enumerate(values)]


def _required_struct(value: Any, name: str, context: Context) -> bytes:
    data = write_struct(value, name, context)
    if data is None:
        raise context.inexpressible(f"{name}: only a JSON object can be carried, not null")
    return data


def write_value(value: Any, name: str, context: Context) -> bytes | None:
    """Any JSON as a `google.protobuf.Value`; None is left out."""
    if value is None:
        return None
    return _filled(Value(), value, name, context, 0).SerializeToString(deterministic=True)


def write_strings(value: Any, name: str, context: Context) -> dict[str, str]:
    """An object of strings as a map."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise context.inexpressible(f"{name}: only a JSON object of strings can be carried")
    return value


def _parsed[M: (Struct, Value)](kind: type[M], data: Buffer) -> M:
    try:
        return kind.FromString(bytes(data))
    except DecodeError as error:
        raise invalid(f"not a {kind.DESCRIPTOR.full_name}: {error}") from None


def _object(message: Struct) -> dict[str, Any]:
    return {key: _plain(value) for key, value in message.fields.items()}


def _plain(message: Value) -> Any:
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return _object(message.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in message.list_value.values]
    if kind == "number_value":
        return _number(message.number_value)
    return None if kind in {None, "null_value"} else getattr(message, kind)


def _number(value: float) -> float | int:
    """A whole number is an int where that is exact; -0.0 stays. JSON, and so `Value`, has no NaN and no infinity."""
    if not math.isfinite(value):
        raise invalid(f"a google.protobuf.Value holds {value}, which is no JSON number")
    whole = value.is_integer() and abs(value) <= _EXACT and (value != 0 or math.copysign(1, value) > 0)
    return int(value) if whole else value


def _filled(message: Value, value: Any, name: str, context: Context, depth: int) -> Value:
    """`message` with a value."""
    if depth > _DEPTH:
        raise context.inexpressible(f"{name}: nested too deep for google.protobuf.Value")
    if value is None:
        message.null_value = 0  # type: ignore[assignment]  # the only value of NullValue
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = value
    elif isinstance(value, int | float):
        message.number_value = _double(value, name, context)
    elif isinstance(value, dict):
        message.struct_value.SetInParent()
        for key, item in value.items():
            _filled(message.struct_value.fields[key], item, f"{name}.{key}", context, depth + _OBJECT)
    else:
        message.list_value.CopyFrom(ListValue())
        for position, item in enumerate(value):
            _filled(message.list_value.values.add(), item, f"{name}[{position}]", context, depth + _ARRAY)
    return message


def _double(value: float, name: str, context: Context) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise context.inexpressible(f"{name}: {value} is no JSON number")
    try:
        double = float(value)
    except OverflowError:
        double = math.inf
    if double != value:
        context.lose(name, f"{value} is no double, and google.protobuf.Value has no other numbers")
    return double
