"""Calls as text: what one side sent and the other received, next to each other, one field a line."""

import json
import os
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TextIO

import msgspec

from inferbridge.bridge.values import Headers

type Line = tuple[str, str]
"""Name and value; equal names stand on the same row."""
type Lines = list[Line]
_SHOWN_HEADERS = ("content-type", "inference-header-content-length", "grpc-status", "grpc-message", "mm-model-id")
_SHOWN_BYTES = 8
_NESTED = (Mapping, msgspec.Struct, bytes, bytearray, memoryview)
_CELL_LINES = 3
_GAP = " │ "


def header_lines(headers: Headers) -> Lines:
    """The headers that matter to a reader."""
    return [(name, value) for name, value in headers if name in _SHOWN_HEADERS]


def field_lines(value: object, name: str = "") -> Lines:
    """A message or JSON value, one line a field; what is not set is left out, lists of plain values are one line."""
    return list(_flat(value, name))


def _flat(value: object, name: str) -> Iterator[Line]:
    if isinstance(value, msgspec.Struct):
        fields = ((field, getattr(value, field)) for field in value.__struct_fields__)
        value = {field: item for field, item in fields if item not in (None, False, 0, "", b"", [], {})}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(item, _NESTED) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{name}[{index}]")
    else:
        yield name, _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value)
        more = " …" if len(value) > _SHOWN_BYTES else ""
        return f"{len(value)} bytes: {value[:_SHOWN_BYTES].hex(' ')}{more}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_plain, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def rows(left: Lines, right: Lines) -> list[tuple[str, str]]:
    """Both sides as text, lines of the same name on the same row; what only one side has stands alone."""
    right = _in_order_of(left, right)
    matcher = SequenceMatcher(None, [name for name, _ in left], [name for name, _ in right], autojunk=False)
    found: list[tuple[str, str]] = []
    for _, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        pairs = zip_longest(left[left_from:left_to], right[right_from:right_to])
        found += [(_text(here), _text(there)) for here, there in pairs]
    return found


def _in_order_of(left: Lines, right: Lines) -> Lines:
    """The right lines, those with a name that the left has too put into its order: field order means nothing."""
    rank = {name: index for index, (name, _) in enumerate(left)}
    shared = iter(sorted((line for line in right if line[0] in rank), key=lambda line: rank[line[0]]))
    return [next(shared) if line[0] in rank else line for line in right]


def _text(line: Line | None) -> str:
    if line is None:
        return ""
    name, value = line
    return f"{name}: {value}" if name else value


class Screen:
    """Writes columns that fit the terminal; bold only on a terminal."""

    def __init__(self, out: TextIO, width: int | None = None) -> None:
        self._out = out
        self._width = max(width or shutil.get_terminal_size((110, 24)).columns, 40)
        self._bold = out.isatty() and "NO_COLOR" not in os.environ

    @property
    def column(self) -> int:
        """Characters in one of the two columns."""
        return (self._width - len(_GAP)) // 2

    def title(self, text: str) -> None:
        """A line that stands out."""
        self._out.write(f"\n{self._strong(text)}\n")

    def text(self, text: str = "") -> None:
        """Plain lines."""
        self._out.write(f"{text}\n")
        self._out.flush()

    def columns(self, titles: tuple[str, str], left: Lines, right: Lines) -> None:
        """Two lists of lines under their titles."""
        self._row(*titles, strong=True)
        self.text("─" * self.column + "─┼─" + "─" * self.column)
        for pair in rows(left, right):
            self._row(*pair)

    def _row(self, left: str, right: str, strong: bool = False) -> None:
        for first, second in zip_longest(_fitted(left, self.column), _fitted(right, self.column), fillvalue=""):
            first = first.ljust(self.column)
            cells = (self._strong(first), self._strong(second)) if strong else (first, second)
            self.text(_GAP.join(cells).rstrip())

    def _strong(self, text: str) -> str:
        return f"\x1b[1m{text}\x1b[0m" if self._bold else text


def _fitted(text: str, width: int) -> list[str]:
    """Lines of a cell; control characters, which a remote side may send, never reach the terminal."""
    printable = "".join(character if character.isprintable() else "�" for character in text)
    return textwrap.wrap(printable, width, subsequent_indent="  ", max_lines=_CELL_LINES, placeholder=" …") or [""]
