"""gRPC upstreams: calls multiplexed over one HTTP/2 connection.

The pool has at most one connection that takes new calls. It is opened by the first call that finds none, and calls
wait in a bounded queue while it is being opened and while the runtime's MAX_CONCURRENT_STREAMS are in use. After
GOAWAY a connection finishes what it has and the next call opens another. A connection that is old enough does the same
once another is open, so that new calls get to choose among a runtime's replicas again.

What is sent again is decided in `retries`. After a refused stream all calls wait for a moment, and the refused ones go
first. Of a request that grows only the beginning is kept to be sent again, until there is an answer.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from random import uniform
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers, size
from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS, Limits
from inferbridge.http2.frames import ErrorCode, ProtocolViolation
from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.address import Address, describe
from inferbridge.upstream.api import Call, GrowingCall, Opening, Receiver, State, UpstreamRequest
from inferbridge.upstream.breaker import Breaker
from inferbridge.upstream.call import ActiveCall
from inferbridge.upstream.connecting import CONNECT_SECONDS, Connection, Connector, close_transports, dialled
from inferbridge.upstream.deadlines import Deadlines
from inferbridge.upstream.header_blocks import encode_route
from inferbridge.upstream.headers import EncodedHead
from inferbridge.upstream.http2_codec import Http2Codec, Stream
from inferbridge.upstream.pinging import Watch
from inferbridge.upstream.retries import Lost, Reason, Retries, counted
from inferbridge.upstream.tls import TlsSettings

MAX_WAITING: Final = 1024
_REFUSED_SECONDS: Final = (0.01, 0.1)
_JOIN_BYTES: Final = 1 << 16
_KEPT_BYTES: Final = 1 << 16

# The table of the gRPC specification ("HTTP2 Transport Mapping, Errors"); what is not in it is INTERNAL.
_RESET_CODES: Final[dict[int, Code]] = {
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


class Http2Call(ActiveCall):
    """One call; also the handler of its stream."""

    __slots__ = ("block", "connection", "pool", "stream")

    def __init__(self, pool: "Http2Pool", request: UpstreamRequest, receiver: Receiver) -> None:
        super().__init__(request, receiver, pool.url, pool.reply_limit)
        self.pool = pool
        self.block = b""
        self.connection: Http2Connection | None = None
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
        self, pool: "Http2Pool", request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None]
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


class Http2Connection(Connection):
    """One connection: moves bytes between a transport and the codec."""

    def __init__(self, pool: "Http2Pool", loop: asyncio.AbstractEventLoop, header_bytes: int) -> None:
        self._pool = pool
        self._loop = loop
        self.codec = Http2Codec(header_bytes)
        self.ready = loop.create_future()
        """Done when the peer has sent its SETTINGS."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed."""
        self._transport: asyncio.Transport | None = None
        self._flush_planned = False
        self._receiving = False
        self._violation: ProtocolViolation | None = None
        self._watch = Watch(loop, lambda: bool(self.codec.streams), self._ping, self._give_up)
        self._given_up = ""
        self._age: asyncio.TimerHandle | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one from `connection_made` on."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send preface and SETTINGS."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.connection_made(self)
        self._flush()

    def start(self, call: Http2Call) -> None:
        """Send a call; the codec must have room for it."""
        call.attempts += 1
        call.connection = self
        call.stream = call.open_on(self.codec)
        call.stream.paused = call.paused
        if len(self.codec.streams) == 1 and not self._receiving:
            self._flush()  # alone, so there is nothing to wait for
        else:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Send what the codec has, together with what else this turn of the event loop brings."""
        if not self._flush_planned and not self._receiving:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        output = self.codec.output
        transport = self._transport
        if not output or transport is None or transport.is_closing():
            return
        self.codec.output = []
        if max(map(len, output)) < _JOIN_BYTES:
            transport.write(b"".join(output))
        else:
            transport.writelines(output)
        if self.codec.draining and not self.codec.streams:
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Let the codec work, then send what came of it."""
        codec = self.codec
        self._receiving = self._watch.heard = True
        try:
            codec.receive(data)
        except ProtocolViolation as violation:
            self._violate(violation)
            return
        else:
            self._pool.connection_moved(self)
        finally:
            self._receiving = False
        if not self.ready.done() and codec.ready:
            self.ready.set_result(None)
        if codec.output:
            self._flush()

    def _violate(self, violation: ProtocolViolation) -> None:
        self._violation = violation
        self.codec.close(violation.code, str(violation))
        self._flush()
        self.transport.close()
        self._lose(BridgeError(Code.INTERNAL, f"{self._pool.url} broke HTTP/2: {violation}"))

    def connection_lost(self, error: Exception | None) -> None:
        """Whatever is not finished is lost."""
        self._watch.stop()
        if self._age is not None:
            self._age.cancel()
        reason = (
            self._given_up
            or self.codec.goaway_reason
            or ("closed by the runtime" if error is None else describe(error))
        )
        self._lose(BridgeError(Code.UNAVAILABLE, f"connection to {self._pool.url} lost: {reason}"))
        if not self.gone.done():
            self.gone.set_result(None)
        self._pool.connection_lost(self)

    def serve(self, age_seconds: float) -> None:
        """Take calls from now on."""
        self._watch.start()
        self.grow_old(age_seconds)

    def grow_old(self, age_seconds: float) -> None:
        """Be renewed after this time, more or less: not all of them at once."""
        self._age = self._loop.call_later(age_seconds * uniform(0.9, 1.1), self._pool.renew, self)

    def _ping(self) -> None:
        self.codec.ping()
        self._flush()

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self.transport.abort()

    def retire(self) -> None:
        """Take no more calls, and close when those there are have ended."""
        self.codec.draining = True
        if not self.codec.streams:
            self.codec.close()
            self._flush()

    def _lose(self, error: BridgeError) -> None:
        self.codec.draining = True
        self._tell_breaker(error)
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(str(self._violation or "closed by the runtime before SETTINGS")))
            self.ready.exception()  # retrieved: nobody may be waiting any more
        self.fail_all(error)

    def _tell_breaker(self, error: BridgeError) -> None:
        breaker = self._pool.breaker
        if self.codec.streams and not self.codec.answered:
            breaker.failed(error.message)
        elif self.codec.answered and breaker.failures:
            breaker.answered()

    def fail_all(self, error: BridgeError) -> None:
        """End every call on this connection."""
        streams, self.codec.streams = self.codec.streams, {}
        for stream in streams.values():
            handler = stream.handler
            assert isinstance(handler, Http2Call)
            handler.on_lost(error)


class Http2Pool:
    """A `Pool` over HTTP/2."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        tls: TlsSettings | None,
        max_waiting: int = MAX_WAITING,
        *,
        age_seconds: float = UPSTREAM_AGE_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        self.url = str(address)
        self.breaker = Breaker(self.url, self._try_to_connect)
        self._age_seconds = age_seconds
        self._retries = retries or Retries()
        self._calls = 0
        self.reply_limit = limits.reply_bytes
        self._connector = Connector(address, tls, "h2")
        self._header_bytes = limits.header_bytes
        self._head = EncodedHead(
            partial(encode_route, "https" if address.tls else "http", address.authority), encode_fields
        )
        self._deadlines = Deadlines()
        self._max_waiting = max_waiting
        self._waiting: deque[Http2Call] = deque()
        self._pause: asyncio.TimerHandle | None = None
        """Runs out when waiting calls may start again after a refusal."""
        self._current: Http2Connection | None = None
        self._connections: set[Http2Connection] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._closed = False

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        """Start a call, see `Pool.send`."""
        return self._start(Http2Call(self, request, receiver), timeout)

    def begin(
        self, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None], timeout: float | None = None
    ) -> GrowingCall:
        """Start a call whose request grows, see `DuplexPool.begin`."""
        return self._start(GrowingHttp2Call(self, request, receiver, drained), timeout)

    def _start[C: Http2Call](self, call: C, timeout: float | None) -> C:
        request = call.request
        self._calls += 1
        try:
            call.block = self._head(request.method, request.path, request.headers, request.own)
        except BridgeError as error:
            asyncio.get_running_loop().call_soon(call.fail, error)
            return call
        if timeout is not None:
            self._deadlines.watch(call, timeout)
        current = self._current
        if current is not None and not self._waiting and self.breaker.closed and current.codec.can_open():
            current.start(call)
        elif self.breaker.let_through(call):
            self._wait(call)
        return call

    @property
    def outstanding(self) -> int:
        """Calls in flight and waiting."""
        return len(self._waiting) + sum(len(connection.codec.streams) for connection in self._connections)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self.breaker.state

    def may_repeat(self, reason: Reason, call: Http2Call) -> bool:
        """Whether a call may be sent again."""
        return not self._closed and self._retries.admit(reason, call.request, call.attempts, self._calls)

    def seen(self, call: Http2Call) -> None:
        """Say with the call that a server may have seen it before."""
        request = call.request
        call.block = self._head(request.method, request.path, request.headers, counted(request.own, call.attempts))

    def again(self, call: Http2Call) -> None:
        """Send a call once more that the runtime has not processed."""
        if self._closed:
            call.fail(self._closed_error())
            return
        self._waiting.appendleft(call)
        asyncio.get_running_loop().call_soon(self._pump)

    def refused(self, call: Http2Call, seconds: float) -> None:
        """Send a call once more, before all others, after a pause."""
        self._waiting.appendleft(call)
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._pump()

    def withdraw(self, call: Http2Call) -> None:
        """The call no longer waits."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(call)

    def _wait(self, call: Http2Call) -> None:
        if self._closed:
            asyncio.get_running_loop().call_soon(call.fail, self._closed_error())
        elif len(self._waiting) >= self._max_waiting:
            error = BridgeError(Code.UNAVAILABLE, f"{self.url}: {self._max_waiting} calls are waiting already")
            asyncio.get_running_loop().call_soon(call.fail, error)
        else:
            self._waiting.append(call)
            self._pump()

    def _pump(self) -> None:
        """Start waiting calls while there is room, and open a connection when none can take them."""
        waiting = self._waiting
        while waiting and waiting[0].finished:
            waiting.popleft()
        if not waiting or self._closed or self._pause is not None:
            return
        current = self._current
        if current is None:
            self._connect()
            return
        while waiting and current.codec.can_open():
            call = waiting.popleft()
            if not call.finished:
                current.start(call)

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        await asyncio.sleep(0)  # under an eager task factory this runs inside `send`, which must not fail a call itself
        try:
            connection = await dialled(self._dial, self._may_dial_again)
        except Exception as error:
            self._connecting = None
            self._connect_failed(self._connector.failure(error))
        else:
            self._connecting = None
            self._adopt(connection)
            self._pump()

    def _may_dial_again(self) -> bool:
        return bool(self._waiting) and self._retries.admit(Reason.CONNECT, self._waiting[0].request, 1, self._calls)

    async def _dial(self) -> Http2Connection:
        loop = asyncio.get_running_loop()
        connection: Http2Connection | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._connector.open(lambda: Http2Connection(self, loop, self._header_bytes))
                await connection.ready
                if connection.codec.draining:  # trying again at once could go on for ever
                    raise ConnectionError(connection.codec.goaway_reason or "closed by the runtime")
        except BaseException:
            if connection is not None:
                connection.transport.abort()
            raise
        return connection

    def _adopt(self, connection: Http2Connection) -> None:
        """New calls go to this connection."""
        before, self._current = self._current, connection
        connection.serve(self._age_seconds)
        if before is not None:
            before.retire()

    def _connect_failed(self, error: BridgeError) -> None:
        if self._current is not None:  # it goes on although it is old
            self._current.grow_old(self._age_seconds)
            return
        self.breaker.failed(error.message)
        self._fail_waiting(error)

    async def _try_to_connect(self) -> bool:
        try:
            self._adopt(await self._dial())
        except Exception:
            return False
        return True

    def renew(self, connection: Http2Connection) -> None:
        """A connection is old. Another takes its place; one that nobody uses just goes."""
        if connection is not self._current:
            return
        if connection.codec.streams or self._waiting:
            self._connect()
        else:
            self._current = None
            connection.retire()

    def _fail_waiting(self, error: BridgeError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.fail(error)

    def connection_made(self, connection: Http2Connection) -> None:
        """A connection exists and must be closed in the end."""
        self._connections.add(connection)

    def connection_moved(self, connection: Http2Connection) -> None:
        """Something arrived on a connection: streams may have ended, limits changed, GOAWAY come."""
        codec = connection.codec
        if codec.draining:
            if self._current is connection:
                self._current = None
            if not codec.streams:
                codec.close()  # the connection closes once this has been sent
        if self._waiting:
            self._pump()

    def connection_lost(self, connection: Http2Connection) -> None:
        """A connection is no more."""
        self._connections.discard(connection)
        if self._current is connection:
            self._current = None
        if self._waiting:
            self._pump()

    def _closed_error(self) -> BridgeError:
        return BridgeError(Code.UNAVAILABLE, f"{self.url}: the gateway is stopping")

    async def close(self) -> None:
        """Close all connections; calls in flight and waiting fail."""
        self._closed = True
        await self.breaker.close()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
            self._connecting = None
        if self._pause is not None:
            self._pause.cancel()
        self._deadlines.close()
        self._fail_waiting(self._closed_error())
        connections = list(self._connections)
        for connection in connections:
            connection.fail_all(self._closed_error())
            connection.codec.close()
            connection._flush()
        await close_transports([(connection.transport, connection.gone) for connection in connections])
