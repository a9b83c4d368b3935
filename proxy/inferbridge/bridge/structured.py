"""Rules of structured bindings that generated half-bridges share: values not said, names, units, single items.

"Not said" is None in the operation. On the wire it is UNSET or null in JSON, absence in protobuf, or, where a
protobuf field has no presence, a value that the spec names (`unset`).
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from inferbridge.bridge.context import Context
from inferbridge.bridge.values import Buffer, Headers

_NOISE = 1e-6
"""What multiplication may add to a whole number."""


def given[T](value: T | msgspec.UnsetType | None, default: T) -> T:
    """A value, or what stands for one that is not said."""
    return default if value is None or value is msgspec.UNSET else value


def left_out[T](value: T | msgspec.UnsetType, default: T) -> T:
    """A JSON value where null and leaving out differ: null is None."""
    return default if isinstance(value, msgspec.UnsetType) else value


def said[T](value: T | None, unset: T) -> T | None:
    """A value without presence; None where it is the one that means "not said"."""
    return None if value == unset else value


def sayable[T](value: T | None, unset: T, zero: T, name: str, context: Context) -> T:
    """A protobuf value without presence. To say the very value that means "not said" is a loss."""
    if value is None:
        return zero
    if value == unset:
        context.lose(name, f"{unset!r} cannot be said, it means that nothing is")
        return zero
    return value


def first(*values: Any) -> Any:
    """The first of some places of one field that says anything."""
    return next((value for value in values if value is not None and value != [] and value != ""), values[0])


def json[T](value: T | None) -> T | msgspec.UnsetType:
    """A value for an optional JSON field."""
    return msgspec.UNSET if value is None else value


def filled[T](message: T, empty: T) -> T | None:
    """A protobuf message, or nothing where nothing in it is set."""
    return None if message == empty else message


def filled_json[T](message: T, empty: T) -> T | msgspec.UnsetType:
    """A JSON object, or nothing where nothing in it is set."""
    return msgspec.UNSET if message == empty else message


def named[T](table: Mapping[Any, T], value: Any, name: str, context: Context) -> T | None:
    """The neutral value of an enum on the wire."""
    if value is None or isinstance(value, msgspec.UnsetType):
        return None
    known = table.get(value)
    if known is None:
        context.lose(name, f"{value!r} has no counterpart")
    return known


def wired(table: Mapping[str, Any], value: str | None, zero: Any, name: str, context: Context) -> Any:
    """The wire's value of a neutral enum; `zero` where nothing is said, or cannot be said."""
    if value is None:
        return zero
    if value not in table:
        context.lose(name, f"{value!r} has no counterpart")
        return zero
    return table[value]


def scaled(value: float | msgspec.UnsetType | None, per_second: int) -> float | None:
    """Seconds from a smaller unit."""
    return None if value is None or isinstance(value, msgspec.UnsetType) else value / per_second


def whole(value: float | None, per_second: int) -> int | None:
    """Seconds as a whole number of a smaller unit, rounded up: a limit must not become "no limit"."""
    if value is None:
        return None
    number = value * per_second
    nearest = round(number)
    return nearest if abs(number - nearest) < _NOISE else math.ceil(number)


def only(items: Sequence[Any], name: str, context: Context) -> Any:
    """The item of a list with one; the other side has no place for more or none."""
    if len(items) != 1:
        raise context.inexpressible(f"{name}: exactly one can be carried, there are {len(items)}")
    return items[0]


def alone[T](items: Sequence[T] | msgspec.UnsetType | None, empty: T, name: str, context: Context) -> T:
    """The only message of a list on the wire, or `empty` where there is none."""
    if not items:
        return empty
    if len(items) > 1:
        context.lose(name, f"one can be carried, there are {len(items)}")
    return items[0]


def one_of(message: Any, members: Sequence[str], context: Context) -> None:
    """Members of a protobuf oneof: of several that are set, a reader would see the last alone."""
    if message is None:
        return
    given = [name for name in members if getattr(message, name) is not None]
    for name in given[1:]:
        context.lose(name, f"it cannot be said together with {given[0]}")
        setattr(message, name, None)


def finite(value: float | None, name: str, context: Context) -> Any:
    """A number for JSON, which has no NaN and no infinity.

    A runtime's NaN says that it knows no value (the first token of a prompt has no probability), which null says too.
    An infinity is an error, unless the settings allow null for it.
    """
    if value is None or math.isfinite(value):
        return value
    if not context.replying or (context.policy.nan == "reject" and not math.isnan(value)):
        raise context.inexpressible(f"{name}: JSON has no {value}")
    context.note(name)
    return None


def all_finite(values: list[float], name: str, context: Context) -> list[float]:
    """Numbers for JSON; a list has no place for null."""
    if not math.isfinite(sum(values)):  # of many finite ones it may overflow, so each counts
        for value in values:
            if not math.isfinite(value):
                raise context.inexpressible(f"{name}: JSON has no {value}")
    return values


def floats(packed: Buffer, code: str) -> list[float]:
    """The values of a packed protobuf field; `code` is `f` or `d`."""
    return list(struct.unpack(f"<{len(packed) // struct.calcsize(code)}{code}", packed))


def packed(values: Sequence[float], code: str, name: str, context: Context) -> bytes:
    """A packed protobuf field."""
    try:
        return struct.pack(f"<{len(values)}{code}", *values)
    except OverflowError:
        raise context.inexpressible(f"{name}: a value is beyond float32") from None


def singles(values: list[float]) -> bytes | None:
    """A packed field of float32, or None where that would change a value."""
    try:
        made = struct.pack(f"<{len(values)}f", *values)
    except OverflowError:
        return None
    return made if list(struct.unpack(f"<{len(values)}f", made)) == values else None


def metadata(headers: Headers, name: str) -> str:
    """The last value of a header or metadata entry, or an empty string."""
    return next((value for key, value in reversed(headers) if key == name), "")


def entries(*pairs: tuple[str, str]) -> Headers:
    """Headers or metadata with a value."""
    return tuple(pair for pair in pairs if pair[1])


def lose_set(names: Sequence[str], values: Sequence[Any], context: Context) -> None:
    """Note each of some fields that is set as a loss."""
    if any(values):  # what is not set is false
        for name, value in zip(names, values, strict=True):
            if value:
                context.lose(name, "the other side has no place for it")


def lose_given(fields: Iterable[tuple[str, Any, Any]], context: Context) -> None:
    """Note each of some JSON fields with a value as a loss: all but null, empty ones and the one that has no effect."""
    for name, value, off in fields:
        if value is not None and value is not msgspec.UNSET and value != off and value not in ("", [], {}):
            context.lose(name, "the other side has no place for it")


def note_set(names: Sequence[str], values: Sequence[Any], context: Context) -> None:
    """Name each of some fields of an answer that is set; the client's question was answered without it."""
    if any(values):
        for name, value in zip(names, values, strict=True):
            if value:
                context.note(name)
