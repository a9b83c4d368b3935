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
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS, Limits
from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Call, GrowingCall, Receiver, State, UpstreamRequest
from inferbridge.upstream.breaker import Breaker
from inferbridge.upstream.connecting import CONNECT_SECONDS, Connector, close_transports, dialled
from inferbridge.upstream.deadlines import Deadlines
from inferbridge.upstream.header_blocks import encode_route
from inferbridge.upstream.headers import EncodedHead
from inferbridge.upstream.http2_call import GrowingHttp2Call, Http2Call
from inferbridge.upstream.http2_connection import Http2Connection
from inferbridge.upstream.retries import Reason, Retries, counted
from inferbridge.upstream.tls import TlsSettings

MAX_WAITING: Final = 1024


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
            connection.flush()
        await close_transports([(connection.transport, connection.gone) for connection in connections])
