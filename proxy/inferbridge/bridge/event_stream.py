"""Server-sent events (text/event-stream of the WHATWG HTML standard), read and written.

The reader keeps what is not a complete event yet. Lines end with LF, CR LF or CR; a CR at the end of what arrived may
be half of a CR LF, so it waits. Nearly every event of an inference stream is one `data:` line and an empty one, in one
piece; that case is read without taking lines apart.
"""

from typing import NamedTuple

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer

_PLAIN = b"data: "
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name ("message" unless given) and its data, lines joined by LF."""

    name: str
    data: bytes


class EventReader:
    """Reads the events of one stream; an unfinished one may have `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        self._begun = False
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, data: Buffer) -> list[Event]:
        """The events that `data` completes; BridgeError RESOURCE_EXHAUSTED for one that is too large."""
        text = self._rest + data if self._rest else bytes(data)
        if not self._begun:
            if _BOM.startswith(text):  # nothing yet, or half of a byte order mark
                self._rest = text
                return []
            self._begun, text = True, text.removeprefix(_BOM)
        if not self._data and text.startswith(_PLAIN) and text.endswith(b"\n\n"):
            body = text[len(_PLAIN) : -2]
            if b"\n" not in body and b"\r" not in body and not self._name:
                self._rest = b""
                return [Event("message", body)]
        return self._read_lines(text)

    def _read_lines(self, text: bytes) -> list[Event]:
        events: list[Event] = []
        whole = text[:-1] if text.endswith(b"\r") else text
        lines = whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + text[len(whole) :]
        for line in lines:
            event = self._read_line(line)
            if event is not None:
                events.append(event)
        if len(self._rest) + sum(map(len, self._data)) > self._limit:
            raise BridgeError(Code.RESOURCE_EXHAUSTED, f"an event of the runtime is larger than {self._limit} bytes")
        return events

    def _read_line(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._name or "message", b"\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return None  # comments, id and retry say nothing to us

    def finish(self) -> bool:
        """Whether the stream ended between events."""
        return not self._data and not self._rest.strip(b"\r\n")


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

    def comment(self) -> bytes:
        """A sign of life that is no event."""
        return b": ping" + self._after
