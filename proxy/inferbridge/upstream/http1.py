"""REST upstreams: a pool of HTTP/1.1 keep-alive connections.

A call takes the connection that was used last (the least likely to have been closed by now), else opens one, else
waits in a bounded queue. A connection goes back to the pool when its response is complete and both sides keep it.

Stale connections. A server may close an idle connection at any moment, and uvicorn (under MLServer and KServe) closes
after a failed request although its response promised keep-alive. If that meets our next request on the way, the
request dies unread: we see the connection closed or reset without a byte of an answer. Nothing tells this apart for
certain from a server that crashed while working on it. So, as in Go's net/http, only what is idempotent is sent again
(see `retries`), once, if a reused connection was lost without a byte of an answer, and then on a connection just
opened. For the rest there are ways not to get there: a connection is looked at before it is used, one that has
answered with a server error is not used again, and none is idle or old for long.
"""

import asyncio
import contextlib
import select
from collections import deque
from functools import partial
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import size
from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS, Limits
from inferbridge.upstream.address import Address, describe
from inferbridge.upstream.api import Call, Opening, Receiver, State, UpstreamRequest
from inferbridge.upstream.breaker import Breaker
from inferbridge.upstream.call import ActiveCall
from inferbridge.upstream.connecting import CONNECT_SECONDS, Connection, Connector, close_transports, dialled
from inferbridge.upstream.deadlines import Deadlines
from inferbridge.upstream.headers import EncodedHead
from inferbridge.upstream.http1_codec import (
    MalformedResponse,
    ResponseReader,
    encode_fields,
    encode_length,
    encode_route,
)
from inferbridge.upstream.retries import Lost, Reason, Retries
from inferbridge.upstream.tls import TlsSettings

MAX_CONNECTIONS: Final = 64
MAX_WAITING: Final = 1024
IDLE_SECONDS: Final = 4.0
"""Less than the five after which uvicorn closes, so that its close and our next request do not meet."""
_JOIN_BYTES: Final = 1 << 16
_TURN_BYTES: Final = 1 << 17
"""A read of so many bytes is the last one of its turn."""


class Http1Call(ActiveCall):
    """One call; also the sink of its response."""

    __slots__ = ("connection", "head", "pool")

    def __init__(self, pool: "Http1Pool", request: UpstreamRequest, receiver: Receiver) -> None:
        super().__init__(request, receiver, pool.url, pool.reply_limit)
        self.pool = pool
        self.head = b""
        self.connection: Http1Connection | None = None

    @property
    def opening(self) -> Opening | None:
        """See `opening_of`."""
        return None if self.connection is None else self.connection.opening

    def abandon(self) -> None:
        """Close the connection (HTTP/1.1 has no other way to stop a response), or leave the queue."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.discard()
        else:
            self.pool.withdraw(self)

    def paused_changed(self) -> None:
        """TCP does the rest."""
        if self.connection is not None:
            self.connection.read(not self.paused)


class Http1Connection(Connection):
    """One connection: idle in the pool, or busy with one call."""

    def __init__(self, pool: "Http1Pool", loop: asyncio.AbstractEventLoop, header_bytes: int) -> None:
        self._pool = pool
        self._loop = loop
        self._reader = ResponseReader(header_bytes)
        self._call: Http1Call | None = None
        self._poll: select.poll | None = None
        self._too_old_at = loop.time() + pool.age_seconds
        self._reads = True
        self.used = False
        """It has carried a call to its end."""
        self.idle_since = 0.0
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        if connected is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(connected.fileno(), select.POLLIN)
        self._pool.connection_made(self)

    def usable(self) -> bool:
        """Neither closed nor, as far as the kernel knows, about to be: an idle connection has nothing to read."""
        if self.transport.is_closing():
            return False
        return self._poll is None or not self._poll.poll(0)

    def start(self, call: Http1Call) -> None:
        """Send a request; the connection must be idle."""
        request = call.request
        call.attempts += 1
        call.connection = self
        self._call = call
        self.read(not call.paused)
        self._reader.expect(request.method, call)
        length = size(call.chunks)
        head = call.head + encode_length(request.method, length)
        if length <= _JOIN_BYTES:
            self.transport.write(b"".join((head, *call.chunks)) if length else head)
        else:
            self.transport.writelines([head, *call.chunks])

    def read(self, reads: bool) -> None:
        """Whether to take what the runtime sends."""
        if reads != self._reads:
            self._reads = reads
            if reads:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _rest(self) -> None:
        """Read on when the client was sent what came: only then is it known whether it takes it.

        uvloop would read 8 MB in one turn.
        """
        self.transport.pause_reading()
        self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if self._reads:
            self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Read the response; a connection with anything unexpected on it is closed."""
        reader = self._reader
        try:
            reader.receive(data)
        except MalformedResponse as error:
            self._lose(BridgeError(Code.INTERNAL, f"{self._pool.url} does not speak HTTP/1.1: {error}"))
            self.discard()
            return
        if len(data) >= _TURN_BYTES and self._reads:
            self._rest()
        if self._call is None:
            self.discard()  # given up while its response was read, or bytes on an idle connection
        elif reader.complete:
            self._complete(self._call)

    def _complete(self, call: Http1Call) -> None:
        """Back to the pool first, so that the receiver's next call finds the connection there."""
        self._call = call.connection = None
        self.read(True)
        trailers = self._reader.trailers
        keep = self._reader.reusable and not self._reader.excess and not self.transport.get_write_buffer_size()
        self.used = True
        if self._pool.breaker.failures:
            self._pool.breaker.answered()
        if keep and self._loop.time() < self._too_old_at:
            self._pool.release(self)
        else:
            self.discard()
        call.on_end(trailers)

    def discard(self) -> None:
        """Close without ceremony; the connection is of no more use."""
        self._call = None
        self._pool.leave(self)
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        """The end: of a response without a length, of a call cut off, or of an idle connection."""
        self._pool.leave(self)
        if self._call is not None:
            self._reader.receive_eof()
            if error is None and self._reader.complete:
                call, self._call = self._call, None
                call.connection = None
                call.on_end(())
            else:
                reason = "closed by the runtime" if error is None else describe(error)
                self._lose(BridgeError(Code.UNAVAILABLE, f"connection to {self._pool.url} lost: {reason}"))
        self._reader.forget()
        if not self.gone.done():
            self.gone.set_result(None)
        self._pool.connection_lost(self)

    def _lose(self, error: BridgeError) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        call.connection = None
        if self._reader.started:
            call.fail(error)
        elif not self.used:
            self._pool.breaker.failed(error.message)
            call.fail(error)
        elif self._pool.may_repeat(Reason.RESET, call):
            self._pool.again(call)
        else:
            call.fail(Lost(Reason.RESET, error.message))

    def fail(self, error: BridgeError) -> None:
        """End the call in flight, if any."""
        call, self._call = self._call, None
        if call is not None:
            call.connection = None
            call.fail(error)


class Http1Pool:
    """A `Pool` over HTTP/1.1."""

    def __init__(
        self,
        address: Address,
        limits: Limits,
        tls: TlsSettings | None,
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_waiting: int = MAX_WAITING,
        idle_seconds: float = IDLE_SECONDS,
        age_seconds: float = UPSTREAM_AGE_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        self.url = str(address)
        self.age_seconds = age_seconds
        self.breaker = Breaker(self.url, self._try_to_connect)
        self._retries = retries or Retries()
        self._calls = 0
        self.reply_limit = limits.reply_bytes
        self._header_bytes = limits.header_bytes
        self._connector = Connector(address, tls, "http/1.1")
        self._head = EncodedHead(partial(encode_route, address.authority), encode_fields)
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._idle_seconds = idle_seconds
        self._idle: list[Http1Connection] = []
        self._members: set[Http1Connection] = set()
        """Connections that count against the maximum."""
        self._open: set[Http1Connection] = set()
        """Connections whose transport is not closed yet."""
        self._connecting: dict[asyncio.Task[None], Http1Call] = {}
        self._waiting: deque[Http1Call] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines()
        self._closed = False

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        """Start a call, see `Pool.send`."""
        self._calls += 1
        call = Http1Call(self, request, receiver)
        loop = asyncio.get_running_loop()
        try:
            call.head = self._head(request.method, request.path, request.headers, request.own)
        except BridgeError as error:
            loop.call_soon(call.fail, error)
            return call
        if timeout is not None:
            self._deadlines.watch(call, timeout)
        if self._closed:
            loop.call_soon(call.fail, self._closed_error())
        elif (self.breaker.closed or self.breaker.let_through(call)) and not self._dispatch(call):
            self._wait(call)
        return call

    @property
    def outstanding(self) -> int:
        """Calls in flight and waiting."""
        return len(self._members) - len(self._idle) + len(self._connecting) + len(self._waiting)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._open)

    @property
    def state(self) -> State:
        """Of its breaker."""
        return self.breaker.state

    def may_repeat(self, reason: Reason, call: Http1Call) -> bool:
        """Whether a call may be sent again."""
        return not self._closed and self._retries.admit(reason, call.request, call.attempts, self._calls)

    async def _try_to_connect(self) -> bool:
        try:
            connection = await self._dial()
        except Exception:
            return False
        self.release(connection)
        return True

    def _dispatch(self, call: Http1Call) -> bool:
        """Give the call a connection, or a connection to wait for; False if there can be no more of them."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable():
                connection.start(call)
                return True
            connection.discard()
        return self._connect(call)

    def _connect(self, call: Http1Call) -> bool:
        if len(self._members) + len(self._connecting) >= self._max_connections:
            return False
        task = asyncio.get_running_loop().create_task(self._serve(call))
        self._connecting[task] = call
        return True

    def _wait(self, call: Http1Call) -> None:
        if len(self._waiting) >= self._max_waiting:
            error = BridgeError(Code.UNAVAILABLE, f"{self.url}: {self._max_waiting} calls are waiting already")
            asyncio.get_running_loop().call_soon(call.fail, error)
        else:
            self._waiting.append(call)

    def withdraw(self, call: Http1Call) -> None:
        """The call no longer waits. A connection being opened for it will serve another."""
        with contextlib.suppress(ValueError):
            self._waiting.remove(call)

    def again(self, call: Http1Call) -> None:
        """Send a call once more, on a connection just opened."""
        if call.finished:
            return
        if self._closed:
            call.fail(self._closed_error())
        elif not self._connect(call):
            self._waiting.appendleft(call)

    async def _serve(self, call: Http1Call) -> None:
        """Open a connection for `call`; should it have finished meanwhile, for the next."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await asyncio.sleep(0)  # under an eager task factory this runs inside `send`, which must not fail a call
            connection = await dialled(
                self._dial, lambda: self._retries.admit(Reason.CONNECT, call.request, 1, self._calls)
            )
        except Exception as error:
            self._connecting.pop(task, None)
            self._connect_failed(call, self._connector.failure(error))
        else:
            self._connecting.pop(task, None)
            if call.finished:
                self.release(connection)
            else:
                connection.start(call)

    async def _dial(self) -> Http1Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await self._connector.open(lambda: Http1Connection(self, loop, self._header_bytes))
        if connection not in self._members:
            raise ConnectionError("closed at once")
        return connection

    def _connect_failed(self, call: Http1Call, error: BridgeError) -> None:
        """Those who wait share the failure, unless there are connections that will serve them."""
        self.breaker.failed(error.message)
        call.fail(error)
        if self._members or self._connecting:
            self._pump()
            return
        waiting, self._waiting = self._waiting, deque()
        for other in waiting:
            other.fail(error)

    def connection_made(self, connection: Http1Connection) -> None:
        """A connection exists and must be closed in the end."""
        self._members.add(connection)
        self._open.add(connection)

    def release(self, connection: Http1Connection) -> None:
        """The connection is free: for the next call waiting, or to be kept."""
        while self._waiting:
            call = self._waiting.popleft()
            if not call.finished:
                connection.start(call)
                return
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if self._sweeper is None and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_seconds, self._sweep)

    def leave(self, connection: Http1Connection) -> None:
        """The connection takes no more calls."""
        if connection not in self._members:
            return
        self._members.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        while self._waiting and not self._closed:
            call = self._waiting.popleft()
            if not call.finished and not self._dispatch(call):
                self._waiting.appendleft(call)
                return

    def connection_lost(self, connection: Http1Connection) -> None:
        """The transport of a connection is closed."""
        self._open.discard(connection)

    def _sweep(self) -> None:
        """Close what has been idle for too long; the longest idle come first."""
        self._sweeper = None
        loop = asyncio.get_running_loop()
        limit = loop.time() - self._idle_seconds
        for connection in [each for each in self._idle if each.idle_since <= limit]:
            connection.discard()
        if self._idle:
            self._sweeper = loop.call_at(self._idle[0].idle_since + self._idle_seconds, self._sweep)

    def _closed_error(self) -> BridgeError:
        return BridgeError(Code.UNAVAILABLE, f"{self.url}: the gateway is stopping")

    async def close(self) -> None:
        """Close all connections; calls in flight and waiting fail."""
        self._closed = True
        await self.breaker.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._deadlines.close()
        connecting, self._connecting = self._connecting, {}
        for task in connecting:
            task.cancel()
        if connecting:
            await asyncio.wait(connecting)
        for call in [*connecting.values(), *self._waiting]:
            call.fail(self._closed_error())
        self._waiting.clear()
        connections = list(self._open)
        for connection in connections:
            connection.fail(self._closed_error())
        await close_transports([(connection.transport, connection.gone) for connection in connections])
