"""Looks at all client connections of a process from time to time, and ends those whose client is waited for in vain.

One timer serves them all, and there is none without connections. A connection that has sent nothing, or has not
finished its TLS handshake, owes a head like any other.
"""

import asyncio
import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterable

from mitmproxy.proxy.server import ConnectionHandler

from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.clients.layer import GatewayLayer
from inferbridge.gateway.clients.patience import Debt, Patience
from inferbridge.gateway.counters import Counters
from inferbridge.gateway.limits import Limits

_log = logging.getLogger(__name__)

_NO_LINGER = struct.pack("ii", 1, 0)
_MOST_SECONDS = 1.0
"""Between two looks."""


class _Watched:
    """One connection."""

    def __init__(self, handler: ConnectionHandler, limits: Limits) -> None:
        self.handler = handler
        self.layer: GatewayLayer | None = None
        self.patience = Patience(limits)

    @property
    def host(self) -> str:
        """The client's address."""
        return str(self.handler.client.peername[0])

    @property
    def connection(self) -> ClientConnection | None:
        """There is one once the client has sent something that we can read."""
        return self.layer.connection if self.layer is not None else None

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        """The client's socket."""
        held = self.handler.transports.get(self.handler.client)
        writer = held.writer if held is not None else None
        return writer.transport if isinstance(writer, asyncio.StreamWriter) else None

    def debts(self) -> Iterable[Debt]:
        """What its client owes."""
        if self.connection is None:
            return (Debt("header", 0),)
        transport = self.transport
        return self.connection.debts(transport.get_write_buffer_size() if transport is not None else 0)

    def end(self, debt: Debt) -> None:
        """Give up what is overdue: a call, or all of the connection."""
        connection, transport = self.connection, self.transport
        if debt.kind != "stall" and connection is not None and connection.overdue(debt):
            connection.wake()
        elif transport is not None:
            _reset(transport)


def _reset(transport: asyncio.WriteTransport) -> None:
    """Close so that the kernel, too, drops what the client does not read; it would keep it for minutes."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class Watch:
    """All client connections, by their ids."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._watched: dict[str, _Watched] = {}
        self._hosts: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, handler: ConnectionHandler, limits: Limits) -> str:
        """A client has connected. The limit that it exceeds, if any."""
        watched = self._watched[handler.client.id] = _Watched(handler, limits)
        self._hosts[watched.host] += 1
        if self._timer is None:
            self._plan(min(_MOST_SECONDS, min(limits.header_seconds, limits.body_seconds, limits.stall_seconds) / 4))
        if len(self._watched) > limits.connections:
            exceeded = "connections"
        elif self._hosts[watched.host] > limits.connections_per_peer:
            exceeded = "connections_per_peer"
        else:
            return ""
        self._counters.rejected(exceeded)
        return exceeded

    def attach(self, client: str, layer: GatewayLayer) -> None:
        """A connection is served by our layer."""
        if client in self._watched:
            self._watched[client].layer = layer

    def remove(self, client: str) -> None:
        """A connection is closed."""
        watched = self._watched.pop(client, None)
        if watched is not None:
            self._hosts -= Counter({watched.host: 1})
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self, period: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(period, self._look, period, loop.time())

    def _look(self, period: float, before: float) -> None:
        self._plan(period)
        elapsed = asyncio.get_running_loop().time() - before
        for watched in list(self._watched.values()):
            try:
                for debt in watched.patience.look(watched.debts(), min(elapsed, 2 * period)):
                    self._end(watched, debt)
            except Exception:
                _log.exception("a connection cannot be watched")

    def _end(self, watched: _Watched, debt: Debt) -> None:
        _log.warning("%s: client %s was waited for in vain", f"{debt.kind}_timeout", watched.host)
        self._counters.rejected(f"{debt.kind}_timeout")
        watched.end(debt)
