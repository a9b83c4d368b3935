"""Server-sent events (text/event-stream of the WHATWG HTML standard), read and written.

The reader keeps what is not a complete event yet. Lines end with LF, CR LF or CR; where what arrived ends with a CR, an
LF that follows is its second half. Nearly every event of an inference stream is one `data:` line and an empty one, and
arrives in one piece; such events are read without taking lines apart.
"""

from typing import NamedTuple

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer

_PLAIN = b"data: "
_BETWEEN = b"\n\n" + _PLAIN
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name ("message" unless given) and its data, lines joined by LF."""

    name: str
    data: bytes


class EventReader:
    """Reads the events of one stream; an event may have `limit` bytes, an unfinished one too."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = False
        self._lead = b""  # half of a byte order mark
        self._pieces: list[bytes] = []  # of an unfinished line; joined once, so the cost of a long one is linear
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0  # of the unfinished event, the ends of its lines included

    def feed(self, data: Buffer) -> list[Event]:
        """The events that `data` completes; BridgeError RESOURCE_EXHAUSTED for one that is too large."""
        text = data if type(data) is bytes else bytes(data)
        if not self._begun:
            text = self._lead + text
            if _BOM.startswith(text):
                self._lead = text
                return []
            self._begun, text, self._lead = True, text.removeprefix(_BOM), b""
        if not self._size and not self._name and text.startswith(_PLAIN) and text.endswith(b"\n\n"):
            found = text[len(_PLAIN) : -2].split(_BETWEEN)
            if text.count(b"\n") == 2 * len(found) and b"\r" not in text and len(max(found, key=len)) <= self._limit:
                self._after_cr = False
                return [Event("message", data) for data in found]
        return self._read_lines(text)

    def _read_lines(self, text: bytes) -> list[Event]:
        if not text:
            return []
        if self._after_cr and text.startswith(b"\n"):  # the second half of a CR LF
            text = text[1:]
        self._after_cr = text.endswith(b"\r")
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        if lines:
            lines[0] = b"".join([*self._pieces, lines[0]])
            self._size -= sum(map(len, self._pieces))
            self._pieces = []
        events = [event for line in lines if (event := self._read_line(line)) is not None]
        if rest:
            self._pieces.append(rest)
            self._grow(len(rest), len(_PLAIN) + 1)
        return events

    def _read_line(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._name or "message", b"\n".join(self._data)) if self._data else None
            self._name, self._data, self._size = "", [], 0
            return event
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._grow(len(value) + 1, 1)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None  # comments, id and retry say nothing to us

    def _grow(self, size: int, around: int) -> None:
        """`around`: bytes that are none of the event's, the end of its last line and that line's `data: `."""
        self._size += size
        if self._size > self._limit + around:
            raise BridgeError(Code.RESOURCE_EXHAUSTED, f"an event of the runtime is larger than {self._limit} bytes")

    def finish(self) -> bool:
        """Whether the stream ended between events."""
        return not self._size and not self._lead


class EventFraming:
    """How an API's events look: name, line end, and the marks of success and failure."""

    __slots__ = ("_after", "_before", "_error", "_newline", "done", "done_event", "error_event", "event")

    def __init__(self, event: str = "", newline: str = "\n", done: str = "", error_event: str = "") -> None:
        self.event = event
        self.done = done
        """Data of the event that marks success; empty: there is none."""
        self.error_event = error_event
        self._newline = newline.encode("ascii")
        self._before = self._prefix(event)
        self._error = self._prefix(error_event)
        self._after = self._newline * 2
        self.done_event = self.encode(done.encode("ascii")) if done else b""

    def _prefix(self, event: str) -> bytes:
        return (f"event: {event}".encode("ascii") + self._newline if event else b"") + b"data: "

    def encode(self, data: bytes) -> bytes:
        """An event; `data` has no line ends, as JSON has none."""
        return b"%s%s%s" % (self._before, data, self._after)

    def encode_error(self, data: bytes) -> bytes:
        """An event that tells of an error."""
        return b"%s%s%s" % (self._error, data, self._after)

    def end(self) -> bytes:
        """The mark of success; empty where there is none."""
        return self.done_event

    def keep_alive(self) -> bytes:
        """A comment: a sign of life that is no event."""
        return b": ping" + self._after
