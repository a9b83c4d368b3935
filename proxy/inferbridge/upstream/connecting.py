"""Opening connections: address resolution, TCP, TLS with ALPN, within one time limit."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from random import uniform
from time import perf_counter
from typing import Any, cast

from inferbridge.upstream.address import Address, describe
from inferbridge.upstream.api import Opening
from inferbridge.upstream.retries import Lost, Reason
from inferbridge.upstream.tls import TlsSettings, client_context

CONNECT_SECONDS = 5.0
CLOSE_SECONDS = 1.0
_AGAIN_SECONDS = (0.01, 0.05)
_UNACKNOWLEDGED_MILLISECONDS = 20_000
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""The kernel asks a silent peer after 30 s, and gives it up after 30 s more."""


class Connection(asyncio.Protocol):
    """A connection that a connector has opened."""

    opening: Opening | None = None
    """None until it is open."""
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one from `connection_made` on."""
        assert self._transport is not None
        return self._transport


class _Handshake:
    """A TLS context for one connection that notes when its handshake begins: TCP is connected then.

    Nothing else tells: asyncio asks for the protocol at that time, and uvloop before it looks for the address.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.began = 0.0

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:
        """All that an event loop asks of a context."""
        self.began = perf_counter()
        return self._context.wrap_bio(incoming, outgoing, **options)


class Connector:
    """Opens connections to one address."""

    def __init__(self, address: Address, tls: TlsSettings | None, alpn: str) -> None:
        self.address = address
        self._tls = (tls or TlsSettings()) if address.tls else None
        self._alpn = alpn
        if self._tls is not None:
            client_context(self._tls, (alpn,))  # unusable files are the configuration's fault, known at once

    async def open[C: Connection](self, factory: Callable[[], C]) -> C:
        """A connection; OSError, ssl.SSLError or ValueError when there is none to be had."""
        context = None if self._tls is None else client_context(self._tls, (self._alpn,))
        server_name = None if self._tls is None else self._tls.server_name or self.address.host
        began = perf_counter()
        handshake = None if context is None else _Handshake(context)
        # No happy_eyeballs_delay: its race fails an assertion under the eager tasks that mitmproxy sets
        # (CPython before 3.13.2).
        transport, protocol = await asyncio.get_running_loop().create_connection(
            factory,
            *self.address.endpoint,
            ssl=cast("ssl.SSLContext | None", handshake),
            server_hostname=server_name,
        )
        self._check_alpn(transport)
        _notice_dead_peers(transport)
        opened = perf_counter()
        protocol.opening = Opening(began, opened, 0.0) if handshake is None else Opening(began, handshake.began, opened)
        return protocol

    def _check_alpn(self, transport: asyncio.Transport) -> None:
        tls_object = transport.get_extra_info("ssl_object")
        if tls_object is None or self._alpn != "h2" or tls_object.selected_alpn_protocol() == "h2":
            return
        transport.abort()
        raise ValueError("the server does not offer HTTP/2 by ALPN")

    def failure(self, error: BaseException) -> Lost:
        """What a call is told when no connection could be opened because of `error`."""
        reason = f"no answer within {CONNECT_SECONDS:g} s" if isinstance(error, TimeoutError) else describe(error)
        return Lost(Reason.CONNECT, f"cannot connect to {self.address}: {reason}")


async def dialled[T](dial: Callable[[], Awaitable[T]], may_repeat: Callable[[], bool]) -> T:
    """A connection; where it failed at once, perhaps another try after a moment.

    Behind one address a balancer may have others, or a server that is just being replaced.
    """
    try:
        return await dial()
    except ConnectionError:
        if not may_repeat():
            raise
    await asyncio.sleep(uniform(*_AGAIN_SECONDS))
    return await dial()


def _notice_dead_peers(transport: asyncio.Transport) -> None:
    """Have the kernel end connections whose peer has vanished without a word."""
    connected = transport.get_extra_info("socket")
    if connected is None or connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MILLISECONDS)


async def close_transports(transports: list[tuple[asyncio.Transport, asyncio.Future[None]]]) -> None:
    """Close, give what is buffered a moment to leave, then cut; each future ends when its connection is gone."""
    if not transports:
        return
    for transport, _ in transports:
        transport.close()
    gone = [future for _, future in transports]
    _, stuck = await asyncio.wait(gone, timeout=CLOSE_SECONDS)
    if stuck:
        for transport, _ in transports:
            transport.abort()
        await asyncio.wait(gone, timeout=CLOSE_SECONDS)
