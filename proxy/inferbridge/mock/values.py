"""Neutral values that are valid wherever they stand, made of nothing but a field's name, its type and the request.

The same request always gets the same values. A text repeats the request's field of that name, or says the field's
name; a list has as many items as the request asks about; numbers follow from the texts they are about.
"""

import types
import typing
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

VECTOR = 8
"""Elements of a list of numbers."""


class Maker:
    """Makes the values of one answer."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._items = asked_about(request)

    def struct[S: msgspec.Struct](self, kind: type[S], position: int = 0) -> S:
        """A struct with all its fields set; `position` is its place in the list that holds it."""
        return kind(**{name: self.value(name, hint, position) for name, hint in hints(kind).items()})

    def value(self, name: str, hint: Any, position: int = 0) -> Any:
        """A value of a type."""
        hint = _plain(hint)
        origin = typing.get_origin(hint)
        if origin is list:
            return self._list(name, typing.get_args(hint)[0], position)
        if origin is typing.Literal:
            return typing.get_args(hint)[0]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            return self.struct(hint, position)
        return self._scalar(name, hint, position)

    def _list(self, name: str, item: Any, position: int) -> list[Any]:
        if _plain(item) is float:
            return [number(f"{name}{at}", self._about(position)) for at in range(VECTOR)]
        if _plain(item) is int:
            return list(range(1, VECTOR + 1))
        given = getattr(self._request, name, None)
        if _plain(item) is str and isinstance(given, list):
            return list(given)
        return [self.value(name, item, at) for at in range(max(1, len(self._items)))]

    def _about(self, position: int) -> Any:
        return self._items[position] if position < len(self._items) else ""

    def _scalar(self, name: str, hint: Any, position: int) -> Any:
        given = getattr(self._request, name, None)
        if hint is str:
            return given if isinstance(given, str) and given else name
        if hint is bool:
            return True
        if hint is int:
            return position if name == "index" else 1
        if hint is float:
            return number(name, self._about(position))
        return None if hint is Any else hint()


def number(name: str, about: Any) -> float:
    """Between -1 and 1, with few digits, so that a float32 holds it; the same for the same two."""
    return (zlib.crc32(f"{name}:{about}".encode()) % 257 - 128) / 128


def asked_about(request: Any) -> list[Any]:
    """The items of the first list in a request that has any."""
    for name in getattr(request, "__struct_fields__", ()):
        value = getattr(request, name)
        if isinstance(value, list) and value:
            return value
    return []


@cache
def hints(kind: type) -> Mapping[str, Any]:
    """The types of a struct's fields."""
    return typing.get_type_hints(kind)


def _plain(hint: Any) -> Any:
    """A type without its alias and without None."""
    while isinstance(hint, typing.TypeAliasType):
        hint = hint.__value__
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return _plain(next(each for each in typing.get_args(hint) if each is not types.NoneType))
    return typing.get_origin(hint) if typing.get_origin(hint) is dict else hint
