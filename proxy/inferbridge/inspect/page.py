"""A page of text that cannot grow without bound, and the form of single values on it."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from inferbridge.bridge.values import Buffer
from inferbridge.bridge.visible import visible

PAGE_BYTES = 64 * 1024
"""UTF-8 bytes of a page."""
TEXT_LENGTH = 4096
"""Characters of one value."""
_LINE_LENGTH = 2 * TEXT_LENGTH
_END = "… the page ends here, there is more\n"
_RESERVE = len(_END.encode())
_OCTETS = 24


@dataclass(slots=True)
class Budget:
    """What is left of the work that one page may cost, however its input is made."""

    fields: int = 50_000
    """Fields of protobuf messages that are read."""
    inflated: int = 64 * 1024 * 1024
    """Bytes that compressed messages may have, once they are read."""


class Page:
    """Lines of text; what would make it larger than `limit` bytes is left out, and the last line says so."""

    def __init__(self, limit: int = PAGE_BYTES) -> None:
        self.is_full = False
        self.budget = Budget()
        self._lines: list[str] = []
        self._depth = 0
        self._left = limit - _RESERVE

    def add(self, line: str, depth: int = 0) -> None:
        """One line, indented by `depth` steps; nothing once the page is full."""
        if self.is_full:
            return
        text = f"{'  ' * (depth + self._depth)}{visible(shorten(line, _LINE_LENGTH))}\n"
        self._left -= len(text.encode())
        if self._left < 0:
            self.is_full = True
        else:
            self._lines.append(text)

    def add_all(self, lines: Iterable[str], depth: int = 0) -> None:
        """Lines until the page is full; no more are asked for than fit."""
        for line in lines:
            if self.is_full:
                return
            self.add(line, depth)

    @contextmanager
    def indented(self) -> Iterator[None]:
        """All lines that are added meanwhile stand one step further in."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def text(self) -> str:
        """The whole page."""
        return "".join(self._lines) + (_END if self.is_full else "")


def shorten(text: str, length: int = TEXT_LENGTH) -> str:
    """The text, or its beginning and how many characters follow."""
    return text if len(text) <= length else f"{text[:length]}… (+{len(text) - length} characters)"


def quoted(text: str, length: int = TEXT_LENGTH) -> str:
    """A string in double quotes, shortened."""
    more = f"… (+{len(text) - length} characters)" if len(text) > length else ""
    return json.dumps(text[:length], ensure_ascii=False) + more


def quoted_bytes(data: Buffer, length: int = TEXT_LENGTH, *, is_text: bool = False) -> str:
    """UTF-8 text as a string, other bytes as `octets`; `is_text` allows text its control characters."""
    # a cut may split the last letter, which is then left out
    head = bytes(data[: 4 * length])
    try:
        text = head.decode() if len(head) == len(data) else _decoded_head(head)
    except UnicodeDecodeError:
        return octets(data)
    if not is_text and any(letter < " " and letter not in "\t\r\n" for letter in text[:length]):
        return octets(data)
    if len(text) > length or len(head) < len(data):
        shown = text[:length]
        return f"{json.dumps(shown, ensure_ascii=False)}… (+{len(data) - len(shown.encode())} bytes)"
    return json.dumps(text, ensure_ascii=False)


def _decoded_head(head: bytes) -> str:
    for lost in range(4):
        try:
            return head[: len(head) - lost].decode()
        except UnicodeDecodeError as error:
            if error.start < len(head) - 4:
                raise
    return head.decode()


def octets(data: Buffer) -> str:
    """Bytes as their number and the first of them in hexadecimal."""
    head = bytes(data[:_OCTETS]).hex(" ")
    return f"{len(data)} bytes" + (f": {head}{' …' if len(data) > _OCTETS else ''}" if head else "")
