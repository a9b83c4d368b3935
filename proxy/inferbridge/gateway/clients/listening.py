"""An application on a socket of its own, served with plain asyncio and without TLS.

For ports that need nothing of mitmproxy: no certificates, no flows that anybody looks at (mocked runtimes, the admin
port). The client codecs and their limits are those of the gateway.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from inferbridge.gateway.application import Application
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.limits import Limits

_CLOSE_SECONDS = 1.0
_log = logging.getLogger(__name__)


class _Connection(asyncio.Protocol):
    """One client connection of either version of HTTP; `all_of_them` holds those that are open."""

    def __init__(self, application: Application, limits: Limits, all_of_them: "set[_Connection]") -> None:
        self._application = application
        self._limits = limits
        self._all = all_of_them
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the connection is closed."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        peer = Peer(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        self._client = ClientConnection(self._application, self._limits, self._wake, peer)
        self._watch()
        if len(self._all) >= self._limits.connections:
            _log.warning("connection from %s closed: more than %d", peer.address, self._limits.connections)
            transport.abort()
        self._all.add(self)

    def _watch(self) -> None:
        """Look again when the connection may have been idle for too long."""
        self._heard = self._loop.time()
        self._timer = self._loop.call_later(self._limits.idle_seconds, self._look)

    def _look(self) -> None:
        left = self._heard + self._limits.idle_seconds - self._loop.time()
        if left <= 0:
            self._transport.abort()
        else:
            self._timer = self._loop.call_later(left, self._look)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._heard = self._loop.time()
        self._client.receive(data)
        output = self._client.take_all()
        if self._transport.is_closing():
            return
        if output:
            self._transport.write(output)
        if self._client.closing:
            self._transport.close()

    def _wake(self) -> None:
        self._loop.call_soon(self.data_received, b"")

    def pause_writing(self) -> None:
        """The client does not read what it asked for: it may ask no more."""
        self._transport.pause_reading()
        self._client.pressure(True)

    def resume_writing(self) -> None:
        """The client has read."""
        self._transport.resume_reading()
        self._client.pressure(False)

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._timer.cancel()
        self._all.discard(self)
        self._client.release()
        if not self.gone.done():
            self.gone.set_result(None)

    def close(self) -> None:
        """End the connection after what was written."""
        self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()


@asynccontextmanager
async def listening(application: Application, limits: Limits, host: str, port: int) -> AsyncIterator[int]:
    """Serve an application; the value is its port. An empty host is every interface, port 0 any free one.

    OSError when the address cannot be bound. At the end the open connections are closed.
    """
    connections: set[_Connection] = set()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(application, limits, connections), host, port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await _end(connections)
        await server.wait_closed()


async def _end(connections: set[_Connection]) -> None:
    """Close them, after what was written or soon: uvloop's server does not wait for them, asyncio's would for ever."""
    open_ones = list(connections)
    for connection in open_ones:
        connection.close()
    if open_ones:
        _, stuck = await asyncio.wait([connection.gone for connection in open_ones], timeout=_CLOSE_SECONDS)
        if stuck:
            for connection in open_ones:
                connection.abort()
