"""Counts the messages of a body as it passes, by its content type; nothing is kept and nothing is refused.

    application/grpc, application/connect+…    five bytes say how long the message behind them is
    text/event-stream                          an empty line ends an event
    application/x-ndjson                       a line each

All other bodies are one message.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from inferbridge.bridge.values import Buffer

_PREFIX_BYTES = 5
_LAST = 2
"""In the flags of Connect's frames: the outcome of the stream, which is no message."""


class Counter(Protocol):
    """Counts what passes."""

    def feed(self, data: Buffer) -> int:
        """The messages that a piece has more."""

    def whole(self, data: Buffer) -> int:
        """The same for a piece of whole messages, without signs of life, as we write them."""


class Frames:
    """Messages behind prefixes; each counts when its prefix is complete."""

    __slots__ = ("_left", "_prefix")

    def __init__(self) -> None:
        self._left = 0
        """Bytes until the next prefix."""
        self._prefix = b""

    def feed(self, data: Buffer) -> int:
        """The messages that begin."""
        size = octets(data)
        if self._left >= size:
            self._left -= size
            return 0
        if size != len(data) and isinstance(data, memoryview):
            data = data.cast("B")
        if self._prefix:
            data = self._prefix + bytes(data)
            size, self._prefix = len(data), b""
        return self._count(data, size)

    whole = feed

    def _count(self, data: Buffer, size: int) -> int:
        at, found = self._left, 0
        while size - at >= _PREFIX_BYTES:
            if not data[at] & _LAST:
                found += 1
            at += _PREFIX_BYTES + int.from_bytes(data[at + 1 : at + _PREFIX_BYTES])
        if at < size:
            self._prefix, at = bytes(data[at:size]), size
        self._left = at - size
        return found


class Events:
    """Events of a stream; signs of life are none."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""

    def feed(self, data: Buffer) -> int:
        """The events that end."""
        text = data if type(data) is bytes else bytes(data)
        if self._tail:
            text = self._tail + text
        elif text.startswith(b":"):
            return 0
        elif text.endswith(b"\n\n") and b"\r" not in text:  # the usual piece
            return text.count(b"\n\n")
        found = text.count(b"\n\n") + text.count(b"\n\r\n")
        self._tail = b"" if text.endswith((b"\n\n", b"\n\r\n")) else text[-2:]
        return found

    def whole(self, data: Buffer) -> int:
        """The events of a piece of ours: each ends with the only empty line that it has."""
        return data.count(b"\n\n") if type(data) is bytes else self.feed(data)


class Lines:
    """Lines; an empty one is a sign of life."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = False
        """A line has begun."""

    def feed(self, data: Buffer) -> int:
        """The lines that end."""
        text = bytes(data)
        found = 0 if text == b"\n" and not self._open else text.count(b"\n")
        self._open = not text.endswith(b"\n")
        return found

    whole = feed


@lru_cache(256)
def kind_of(content_type: str) -> Callable[[], Counter] | None:
    """Makes what counts the messages of a body of this type; None where it is one message."""
    if content_type.startswith(("application/grpc", "application/connect+")):
        return Frames
    if content_type.startswith("text/event-stream"):
        return Events
    if content_type.startswith("application/x-ndjson"):
        return Lines
    return None


def octets(data: Buffer) -> int:
    """Bytes of a piece, also where it is a view of wider items."""
    return data.nbytes if isinstance(data, memoryview) else len(data)
