"""A streamed answer on its way from a runtime to a client.

    runtime's bytes ─▶ Source ─▶ neutral messages ─▶ MessageWriter ─▶ Sink ─▶ client's bytes

A `Source` undoes the runtime's framing and reads its messages, and raises what the runtime reports as an error, before
the first message or after. The rule of the client's API (`MessageWriter`) makes that API's own sequence of them, and a
`Sink` frames it. An error after the first bytes went out is told in the stream, in the client's dialect, and no mark
of success follows it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from inferbridge.bridge import grpc
from inferbridge.bridge.context import Context, RuntimeFault
from inferbridge.bridge.dialects import Dialect
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventReader
from inferbridge.bridge.framing import GRPC_HEADERS, frame, status_trailers
from inferbridge.bridge.grpc_messages import MessageReader as GrpcMessageReader
from inferbridge.bridge.json_lines import ArrayWriter
from inferbridge.bridge.message_template import MessageTemplate
from inferbridge.bridge.registry import GrpcHalf, RestHalf
from inferbridge.bridge.rules.base import MessageReader
from inferbridge.bridge.values import Buffer, GrpcReply, Headers, HttpReply, header

_EVENT_STREAM = "text/event-stream"
_OK_TRAILERS: Headers = (("grpc-status", "0"),)


class Source(Protocol):
    """A runtime's streamed answer. Any method raises `BridgeError` when the runtime reports one, or breaks off."""

    def head(self, status: int, headers: Headers) -> None:
        """The head of the answer."""

    def feed(self, data: Buffer) -> Iterable[Any]:
        """The neutral messages that `data` completes, one by one: an error after some of them does not undo these."""

    def finish(self, trailers: Headers) -> Iterable[Any]:
        """The answer is complete; the messages still to come."""


class GrpcSource:
    """Length-prefixed messages, and a status at the end."""

    def __init__(self, half: GrpcHalf, reader: MessageReader | None, context: Context, limit: int) -> None:
        assert half.decode_message is not None
        self._decode = half.decode_message
        self._reader = reader
        self._context = context
        self._limit = limit
        self._headers: Headers = ()
        self._status = 0
        self._frames: GrpcMessageReader | None = None

    def head(self, status: int, headers: Headers) -> None:
        """The encoding of the messages stands here; or the end of the call, if it had none.

        A page is refused before it is read as messages.
        """
        if not grpc.is_grpc(headers) and header(headers, "grpc-status") is None:
            raise grpc.no_status(status, headers)
        self._status, self._headers = status, headers
        self._frames = GrpcMessageReader(self._limit, header(headers, "grpc-encoding") or "identity")

    def feed(self, data: Buffer) -> Iterable[Any]:
        """Read the messages that are complete."""
        assert self._frames is not None
        for message in self._frames.feed(data):
            neutral = self._decode(message, self._context)
            yield from (neutral,) if self._reader is None else self._reader.read(neutral)

    def finish(self, trailers: Headers) -> Iterable[Any]:
        """Check the status."""
        code, details = grpc.outcome(self._status, self._headers, trailers)
        if code:
            raise grpc.error_of(GrpcReply(code, details), self._context)
        assert self._frames is not None
        self._frames.finish()
        return () if self._reader is None else self._reader.finish()


class RestSource:
    """Server-sent events; the end of the body is the end, after the mark of success where the API has one."""

    def __init__(
        self, half: RestHalf, dialect: Dialect, reader: MessageReader | None, context: Context, limit: int
    ) -> None:
        assert half.decode_message is not None
        assert half.framing is not None
        self._decode = half.decode_message
        self._done = half.framing.done.encode() if half.framing.done else b""
        self._dialect = dialect
        self._reader = reader
        self._context = context
        self._events = EventReader(limit)
        self._failed: HttpReply | None = None
        self._body: list[Buffer] = []
        self._complete = not self._done

    def head(self, status: int, headers: Headers) -> None:
        """An error's body is collected."""
        kind = header(headers, "content-type") or ""
        if status != 200:
            self._failed = HttpReply(status, headers)
        elif not kind.startswith(_EVENT_STREAM):
            raise BridgeError(Code.INTERNAL, f"the runtime answered {kind or 'without a content type'}, not a stream")

    def feed(self, data: Buffer) -> Iterable[Any]:
        """Read the events that are complete."""
        if self._failed is not None:
            self._body.append(data)
            return
        for event in self._events.feed(data):
            error = self._dialect.read_event(event.name, event.data, self._context)
            if error is not None:
                raise error
            if self._done and event.data == self._done:
                self._complete = True
                continue
            neutral = self._decode(event.data, self._context)
            yield from (neutral,) if self._reader is None else self._reader.read(neutral)

    def finish(self, trailers: Headers) -> Iterable[Any]:
        """Tell an end from a cut."""
        if self._failed is not None:
            raise self._dialect.read(HttpReply(self._failed.status, self._failed.headers, self._body), self._context)
        if not self._events.finish() or not self._complete:
            raise RuntimeFault(Code.UNAVAILABLE, "the runtime's stream broke off")
        return () if self._reader is None else self._reader.finish()


class Sink(Protocol):
    """A client's streamed answer as bytes."""

    status: int
    headers: Headers
    tells_errors: bool
    """Errors are messages of the stream, even before the first one."""

    def write(self, messages: Iterable[Any]) -> Sequence[Buffer]:
        """The client's messages, framed; they are used up by it."""

    def end(self) -> tuple[Sequence[Buffer], Headers]:
        """The mark of success and the trailers."""

    def fail(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """How the stream tells of an error, and the trailers."""

    def keep_alive(self) -> Buffer:
        """Something to send while there is nothing to say; empty where the protocol has its own way."""


class GrpcSink:
    """Length-prefixed messages."""

    status = 200
    headers = GRPC_HEADERS

    def __init__(self, half: GrpcHalf, request: Any, context: Context) -> None:
        assert half.encode_message is not None
        self._encode = half.encode_message
        self._encode_error = half.encode_error
        self.tells_errors = half.encode_error is not None
        self._request = request
        self._context = context

    def write(self, messages: Iterable[Any]) -> Sequence[Buffer]:
        """One frame a message."""
        return frame([self._encode(message, self._context) for message in messages])

    def end(self) -> tuple[Sequence[Buffer], Headers]:
        """Status OK."""
        return (), _OK_TRAILERS

    def fail(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """The error's status; or a message, where the API tells errors so."""
        if self._encode_error is not None:
            return frame([self._encode_error(error, self._request, self._context)]), _OK_TRAILERS
        return (), status_trailers(error)

    def keep_alive(self) -> Buffer:
        """HTTP/2 has PING."""
        return b""


class EventSink:
    """Server-sent events."""

    status = 200
    tells_errors = False

    def __init__(self, half: RestHalf, dialect: Dialect, context: Context) -> None:
        encode = half.encode_message
        framing = half.framing
        assert encode is not None
        assert framing is not None
        self._framing = framing
        self._template = MessageTemplate(lambda message: framing.encode(encode(message, context)))
        self._dialect = dialect
        self._context = context
        self.headers: Headers = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))

    def write(self, messages: Iterable[Any]) -> Sequence[Buffer]:
        """One event a message."""
        return [self._template.encode(message) for message in messages]

    def end(self) -> tuple[Sequence[Buffer], Headers]:
        """The mark of success, if the API has one."""
        done = self._framing.done_event
        return ((done,) if done else ()), ()

    def fail(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """The error as an event."""
        return (self._framing.encode_error(self._dialect.event(error, self._context.profile)),), ()

    def keep_alive(self) -> Buffer:
        """A comment."""
        return self._framing.keep_alive()


class LineSink:
    """Newline-delimited JSON, for clients that ask for it by `Accept`."""

    status = 200
    tells_errors = False
    headers: Headers = (("content-type", "application/x-ndjson"), ("cache-control", "no-cache"))

    def __init__(self, half: RestHalf, dialect: Dialect, context: Context) -> None:
        assert half.encode_message is not None
        self._encode = half.encode_message
        self._dialect = dialect
        self._context = context

    def write(self, messages: Iterable[Any]) -> Sequence[Buffer]:
        """One line a message."""
        return [bytes(self._encode(message, self._context)) + b"\n" for message in messages]

    def end(self) -> tuple[Sequence[Buffer], Headers]:
        """The end of the body."""
        return (), ()

    def fail(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """The error as a line."""
        return (self._dialect.event(error, self._context.profile) + b"\n",), ()

    def keep_alive(self) -> Buffer:
        """An empty line, which readers of lines skip."""
        return b"\n"


class ArraySink(LineSink):
    """The elements of one JSON array, each as it comes."""

    headers: Headers = (("content-type", "application/json"), ("cache-control", "no-cache"))

    def __init__(self, half: RestHalf, dialect: Dialect, context: Context) -> None:
        super().__init__(half, dialect, context)
        self._array = ArrayWriter()

    def write(self, messages: Iterable[Any]) -> Sequence[Buffer]:
        """One element a message."""
        return [self._array.encode(bytes(self._encode(message, self._context))) for message in messages]

    def end(self) -> tuple[Sequence[Buffer], Headers]:
        """The end of the array."""
        return (self._array.end(),), ()

    def fail(self, error: BridgeError) -> tuple[Sequence[Buffer], Headers]:
        """The error as the last element."""
        last = self._array.encode_error(self._dialect.event(error, self._context.profile))
        return (last, self._array.end()), ()
