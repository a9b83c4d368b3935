"""One call over HTTP/2, whole or growing: the handler of its stream, which knows whether it may be sent again."""

from collections.abc import Callable
from typing import Final, Protocol

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers, size
from inferbridge.http2.frames import ErrorCode
from inferbridge.upstream.api import Opening, Receiver, UpstreamRequest
from inferbridge.upstream.call import ActiveCall
from inferbridge.upstream.http2_codec import Http2Codec, Stream
from inferbridge.upstream.retries import Lost, Reason

_REFUSED_SECONDS: Final = (0.01, 0.1)
_KEPT_BYTES: Final = 1 << 16

# The table of the gRPC specification ("HTTP2 Transport Mapping, Errors"); what is not in it is INTERNAL.
_RESET_CODES: Final[dict[int, Code]] = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


class CallConnection(Protocol):
    """The connection that a call is on."""

    codec: Http2Codec
    opening: Opening | None

    def flush_soon(self) -> None:
        """Send what the codec has."""


class CallPool(Protocol):
    """Where a call waits, and is sent again."""

    url: str
    reply_limit: int

    def withdraw(self, call: "Http2Call") -> None:
        """The call no longer waits."""

    def may_repeat(self, reason: Reason, call: "Http2Call") -> bool:
        """Whether a call may be sent again."""

    def seen(self, call: "Http2Call") -> None:
        """Say with the call that a server may have seen it before."""

    def again(self, call: "Http2Call") -> None:
        """Send a call once more that the runtime has not processed."""

    def refused(self, call: "Http2Call", seconds: float) -> None:
        """Send a call once more, before all others, after a pause."""


class Http2Call(ActiveCall):
    """One call; also the handler of its stream."""

    __slots__ = ("block", "connection", "pool", "stream")

    def __init__(self, pool: CallPool, request: UpstreamRequest, receiver: Receiver) -> None:
        super().__init__(request, receiver, pool.url, pool.reply_limit)
        self.pool = pool
        self.block = b""
        self.connection: CallConnection | None = None
        self.stream: Stream | None = None

    @property
    def opening(self) -> Opening | None:
        """See `opening_of`."""
        return None if self.connection is None else self.connection.opening

    @property
    def repeatable(self) -> bool:
        """All of the request is still there to be sent once more, and nobody has answered it."""
        return not self.answered

    def open_on(self, codec: Http2Codec) -> Stream:
        """Send the request."""
        return codec.open(self.block, self.chunks, self)

    def on_drained(self) -> None:
        """Requests that do not grow are never asked for more."""

    def abandon(self) -> None:
        """Reset the stream, or leave the queue."""
        if self.connection is not None and self.stream is not None:
            self.connection.codec.reset(self.stream)
            self.connection.flush_soon()
        else:
            self.pool.withdraw(self)
        self.connection = self.stream = None

    def paused_changed(self) -> None:
        """The stream's window does the rest."""
        if self.connection is not None and self.stream is not None:
            self.connection.codec.pause(self.stream, self.paused)
            self.connection.flush_soon()

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        # stream and call hold each other, and the call its request: leave no bodies to the garbage collector
        self.connection = self.stream = None
        super().on_end(trailers)

    def on_reset(self, code: int, reason: str) -> None:
        """The runtime (or our codec) has ended the stream."""
        self.connection = self.stream = None
        message = f"{self.upstream} ended the call: {reason}"
        if code != ErrorCode.REFUSED_STREAM or not self.repeatable:
            self.fail(BridgeError(_RESET_CODES.get(code, Code.INTERNAL), message))
        elif self.pool.may_repeat(Reason.REFUSED, self):
            self.pool.refused(self, _REFUSED_SECONDS[self.attempts - 1])
        else:
            self.fail(Lost(Reason.REFUSED, message))

    def on_unprocessed(self) -> None:
        """The runtime goes away without having looked at the request."""
        self.connection = self.stream = None
        message = f"{self.upstream} is going away"
        if not self.repeatable:
            self.fail(BridgeError(Code.UNAVAILABLE, message))
        elif self.pool.may_repeat(Reason.GOAWAY, self):
            self.pool.again(self)
        else:
            self.fail(Lost(Reason.GOAWAY, message))

    def on_lost(self, error: BridgeError) -> None:
        """The connection broke."""
        self.connection = self.stream = None
        if not self.repeatable or error.code is not Code.UNAVAILABLE:
            self.fail(error)
        elif self.pool.may_repeat(Reason.RESET, self):
            self.pool.seen(self)
            self.pool.again(self)
        else:
            self.fail(Lost(Reason.RESET, error.message))


class GrowingHttp2Call(Http2Call):
    """One call whose request grows; what comes before there is a stream waits in `chunks`."""

    __slots__ = ("complete", "drained", "kept", "room", "waiting")

    def __init__(
        self, pool: CallPool, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None]
    ) -> None:
        super().__init__(pool, request, receiver)
        self.drained = drained
        self.waiting: list[Buffer] = []
        self.complete = False
        self.kept: list[Buffer] | None = []
        """All of the body that has gone out before an answer; None: too much."""
        self.room = _KEPT_BYTES

    @property
    def repeatable(self) -> bool:
        """As long as all of the body is still there."""
        return self.kept is not None and super().repeatable

    @property
    def body(self) -> list[Buffer]:
        """All of it, if the call is repeatable."""
        return (self.kept or []) + self.waiting

    def open_on(self, codec: Http2Codec) -> Stream:
        """Send the head, and what has come of the body."""
        stream = self.stream = codec.open_growing(self.block, self)
        if self.kept:
            self.waiting, self.kept, self.room = self.body, [], _KEPT_BYTES
        self._send(codec, stream)
        return stream

    def _send(self, codec: Http2Codec, stream: Stream) -> None:
        chunks, self.waiting = self.waiting, []
        if self.kept is not None and not self.answered:
            self.kept += chunks
            self.room -= size(chunks)
            if self.room < 0:
                self.kept = None
        codec.send(stream, chunks)
        if self.complete:
            codec.finish(stream)

    def write(self, data: Buffer) -> bool:
        """More of the body."""
        if self.finished:
            return True
        self.waiting.append(data)
        self._move()
        return not self.waiting and (self.stream is None or self.stream.pending is None)

    def finish(self) -> None:
        """The body is complete."""
        self.complete = True
        self._move()

    def _move(self) -> None:
        if self.connection is not None and self.stream is not None:
            self._send(self.connection.codec, self.stream)
            self.connection.flush_soon()

    def on_drained(self) -> None:
        """The runtime has room again."""
        if not self.finished:
            self.drained()
