"""Reads an answer of either protocol as it arrives: one piece of JSON for each message."""

from collections.abc import Callable
from dataclasses import dataclass

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventReader
from inferbridge.bridge.grpc import outcome
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.transcode_methods import Methods
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.limits import Limits

LIMIT = Limits().reply_bytes
_LINES = ("application/x-ndjson", "application/jsonl")


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `name` is that of an event."""

    text: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an answer ended."""

    status: int
    """Of HTTP; 0 when there was no answer."""
    code: Code = Code.OK
    """Of gRPC; UNKNOWN for a failed answer of REST."""
    details: str = ""


@dataclass(frozen=True, slots=True)
class Ears:
    """Who wants to know what."""

    head: Callable[[int, Headers], None]
    message: Callable[[Message], None]
    end: Callable[[Outcome], None]


class Answer:
    """What the `Receiver`s of both protocols share: an answer ends once."""

    def __init__(self, ears: Ears) -> None:
        self._ears = ears
        self._status = 0
        self._headers: Headers = ()
        self._over = False

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._status, self._headers = status, headers
        self._ears.head(status, headers)

    def on_data(self, data: Buffer) -> None:
        """Some of the body; what cannot be read ends the answer."""
        try:
            if not self._over:
                self.read(data)
        except BridgeError as error:
            self.on_failure(error)

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        try:
            self.finish(trailers)
        except BridgeError as error:
            self.on_failure(error)

    def on_failure(self, error: BridgeError) -> None:
        """There is no answer, or no end of it."""
        self.end(error.code, error.message)

    def end(self, code: Code, details: str) -> None:
        """Nothing more is to come."""
        if not self._over:
            self._over = True
            self._ears.end(Outcome(self._status, code, details))

    def read(self, data: Buffer) -> None:
        """Some of the body."""
        raise NotImplementedError

    def finish(self, trailers: Headers) -> None:
        """The end of the body."""
        raise NotImplementedError


class GrpcAnswer(Answer):
    """Length-prefixed messages, as JSON, and a status."""

    def __init__(self, ears: Ears, methods: Methods, rpc: str) -> None:
        super().__init__(ears)
        self._methods = methods
        self._rpc = rpc
        self._messages: MessageReader | None = None

    def read(self, data: Buffer) -> None:
        """The messages that are complete."""
        if self._messages is None:
            self._messages = MessageReader(LIMIT, header(self._headers, "grpc-encoding") or "identity")
        for message in self._messages.feed(data):
            self._ears.message(Message(self._methods.reply_to_json(self._rpc, message)))

    def finish(self, trailers: Headers) -> None:
        """The status."""
        code, details = outcome(self._status, self._headers, trailers)
        if self._messages is not None and not code:
            self._messages.finish()
        self.end(Code(code) if code in set(Code) else Code.UNKNOWN, details)


class RestAnswer(Answer):
    """A whole body, events, or lines, as the content type says."""

    def __init__(self, ears: Ears) -> None:
        super().__init__(ears)
        self._body = bytearray()
        self._events: EventReader | None = None
        self._lines = False

    def on_head(self, status: int, headers: Headers) -> None:
        """The type of the body."""
        kind = header(headers, "content-type") or ""
        if status < 400:
            self._events = EventReader(LIMIT) if kind.startswith("text/event-stream") else None
            self._lines = kind.startswith(_LINES)
        super().on_head(status, headers)

    def read(self, data: Buffer) -> None:
        """The events or lines that are complete."""
        if self._events is not None:
            for event in self._events.feed(data):
                self._ears.message(Message(bytes(event.data), event.name))
            return
        self._body += data
        if self._lines:
            *lines, rest = bytes(self._body).split(b"\n")
            self._body = bytearray(rest)
            for line in filter(bytes.strip, lines):
                self._ears.message(Message(line))

    def finish(self, trailers: Headers) -> None:
        """The rest of the body; that of an error is no message."""
        body = bytes(self._body)
        if self._status >= 400:
            self.end(Code.UNKNOWN, body.decode("utf-8", "replace").strip())
            return
        if self._events is not None and not self._events.finish():
            raise BridgeError(Code.UNAVAILABLE, "the stream broke off")
        if body:
            self._ears.message(Message(body))
        self.end(Code.OK, "")
