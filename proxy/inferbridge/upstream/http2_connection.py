"""One HTTP/2 connection to a runtime: moves bytes between a transport and the codec, and has a life of its own."""

import asyncio
from random import uniform
from typing import Final, Protocol

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.http2.frames import ProtocolViolation
from inferbridge.upstream.address import describe
from inferbridge.upstream.breaker import Breaker
from inferbridge.upstream.connecting import Connection
from inferbridge.upstream.http2_call import Http2Call
from inferbridge.upstream.http2_codec import Http2Codec
from inferbridge.upstream.pinging import Watch

_JOIN_BYTES: Final = 1 << 16


class ConnectionOwner(Protocol):
    """Who opened a connection, and hears what becomes of it."""

    url: str
    breaker: Breaker

    def connection_made(self, connection: "Http2Connection") -> None:
        """A connection exists and must be closed in the end."""

    def connection_moved(self, connection: "Http2Connection") -> None:
        """Something arrived on a connection: streams may have ended, limits changed, GOAWAY come."""

    def connection_lost(self, connection: "Http2Connection") -> None:
        """A connection is no more."""

    def renew(self, connection: "Http2Connection") -> None:
        """A connection is old."""


class Http2Connection(Connection):
    """One connection: moves bytes between a transport and the codec."""

    def __init__(self, pool: "ConnectionOwner", loop: asyncio.AbstractEventLoop, header_bytes: int) -> None:
        self._pool = pool
        self._loop = loop
        self.codec = Http2Codec(header_bytes)
        self.ready = loop.create_future()
        """Done when the peer has sent its SETTINGS."""
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done when the connection is closed."""
        self._flush_planned = False
        self._receiving = False
        self._violation: ProtocolViolation | None = None
        self._watch = Watch(loop, lambda: bool(self.codec.streams), self._ping, self._give_up)
        self._given_up = ""
        self._age: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send preface and SETTINGS."""
        super().connection_made(transport)
        self._pool.connection_made(self)
        self.flush()

    def start(self, call: Http2Call) -> None:
        """Send a call; the codec must have room for it."""
        call.attempts += 1
        call.connection = self
        call.stream = call.open_on(self.codec)
        call.stream.paused = call.paused
        if len(self.codec.streams) == 1 and not self._receiving:
            self.flush()  # alone, so there is nothing to wait for
        else:
            self.flush_soon()

    def flush_soon(self) -> None:
        """Send what the codec has, together with what else this turn of the event loop brings."""
        if not self._flush_planned and not self._receiving:
            self._flush_planned = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what the codec has."""
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
            self.flush()

    def _violate(self, violation: ProtocolViolation) -> None:
        self._violation = violation
        self.codec.close(violation.code, str(violation))
        self.flush()
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
        self.flush()

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self.transport.abort()

    def retire(self) -> None:
        """Take no more calls, and close when those there are have ended."""
        self.codec.draining = True
        if not self.codec.streams:
            self.codec.close()
            self.flush()

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
