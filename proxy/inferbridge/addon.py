"""The mitmproxy addon, and mitmproxy run from our own command with nothing else in it.

mitmproxy carries connections, client TLS and options; requests are handled in `GatewayLayer`. Its own way with a
connection it does not understand is to forward it, and with an addon that raises is to go on without it. So three
things hold independently of each other: every connection gets our layer or one that closes it, connections to servers
are never opened early, and any attempt of mitmproxy to open one is refused.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.connection import Client
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer, NextLayer
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from inferbridge.auth.identity import ClientCertificate
from inferbridge.gateway.application import Application
from inferbridge.gateway.client_tls import ClientTls
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.inject import Link
from inferbridge.gateway.layer import ClosingLayer, GatewayLayer
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.sniff import TLS_HANDSHAKE
from inferbridge.gateway.tls_layer import ListenerTlsLayer
from inferbridge.gateway.watch import Watch

_log = logging.getLogger(__name__)

NOWHERE = "http://127.0.0.1:1"
"""mitmproxy wants a target for its reverse mode; nothing is ever sent there."""
_TLS_ONLY = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 23\r\nconnection: close\r\n\r\n"
    b"this port speaks TLS.\r\n"
)
_CLOSE_SECONDS = 5.0

type Address = tuple[str, int]
type Ready = Callable[[list[Address]], None]
"""Is told the addresses that were bound."""


class GatewayAddon:
    """Serves `application` on every connection; without one, every connection is closed."""

    def __init__(
        self,
        application: Application | None = None,
        limits: Limits | None = None,
        *,
        client_tls: ClientTls | None = None,
        require_tls: bool = False,
        name: str = "inferbridge",
        counters: Counters = NO_COUNTERS,
    ) -> None:
        """Without `client_tls` mitmproxy signs a certificate with its own authority for a client that speaks TLS."""
        self.application = application
        self.limits = limits or Limits()
        self.client_tls = client_tls
        self.require_tls = require_tls
        self.name = name
        self.counters = counters
        self._watch = Watch(counters)

    # Hooks

    def configure(self, updated: set[str]) -> None:
        """Keep mitmproxy from connecting to its target before anybody has asked for it."""
        if "connection_strategy" in ctx.options and ctx.options.connection_strategy != "lazy":
            ctx.options.update(connection_strategy="lazy")

    def client_connected(self, client: Client) -> None:
        """Close what exceeds a limit of connections."""
        exceeded = self._watch.add(_proxyserver().connections[client.id], self.limits)
        if exceeded:
            client.error = f"too many connections ({exceeded})"
            _log.warning("connection from %s closed: too many (%s)", client.peername, exceeded)

    def client_disconnected(self, client: Client) -> None:
        """Nobody need be waited for."""
        self._watch.remove(client.id)

    def next_layer(self, next_layer: NextLayer) -> None:
        """Decide what handles a connection, whatever anybody else has decided."""
        try:
            next_layer.layer = self._layer(next_layer.context, next_layer.data_client())
        except Exception:
            _log.exception("connection closed: no layer for it")
            next_layer.layer = ClosingLayer(next_layer.context)

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """mitmproxy itself never talks to a server here."""
        data.server.error = "inferbridge opens its own connections"

    # Layers

    def _layer(self, context: Context, first_bytes: bytes) -> Layer:
        if self.application is None:
            return ClosingLayer(context)
        if first_bytes[:1] == bytes([TLS_HANDSHAKE]) and not context.client.tls:
            return self._tls(context, self.application)
        if self.require_tls or (self.client_tls is not None and self.client_tls.verifies):
            return ClosingLayer(context, _TLS_ONLY)  # also where the TLS is somebody else's, which verifies nothing
        return self._gateway(context, self.application)

    def _tls(self, context: Context, application: Application) -> ClientTLSLayer:
        if self.client_tls is None:
            tls = ClientTLSLayer(context)
            tls.child_layer = self._gateway(context, application)
            return tls
        ours = ListenerTlsLayer(context, self.client_tls.connection())
        ours.child_layer = self._gateway(context, application, ours.certificate)
        return ours

    def _gateway(
        self,
        context: Context,
        application: Application,
        certificate: Callable[[], ClientCertificate | None] = lambda: None,
    ) -> GatewayLayer:
        link = Link(_proxyserver().connections[context.client.id])
        layer = GatewayLayer(context, application, self.limits, link.inject, link.take_over, certificate, self.counters)
        self._watch.attach(context.client.id, layer)
        return layer


def _proxyserver() -> Proxyserver:
    proxyserver = ctx.master.addons.get("proxyserver")
    assert isinstance(proxyserver, Proxyserver)
    return proxyserver


class _Started:
    """Reports the bound addresses, or stops mitmproxy if a listener could not be bound (it would go on without)."""

    def __init__(self, ready: Callable[[list[Address]], None]) -> None:
        self._ready = ready
        self.failure: Exception | None = None

    def running(self) -> None:
        try:
            servers = list(_proxyserver().servers)
            for server in servers:
                if server.last_exception is not None:
                    raise server.last_exception
            self._ready([(address[0], address[1]) for server in servers for address in server.listen_addrs])
        except Exception as error:
            self.failure = error
            ctx.master.shutdown()


async def run(
    application: Application,
    listen: Sequence[Address],
    limits: Limits,
    client_tls: ClientTls | None,
    confdir: Path,
    ready: Callable[[list[Address]], None],
    *,
    require_tls: bool = False,
    counters: Counters = NO_COUNTERS,
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation, then close every connection.

    `listen` holds (host, port); an empty host is every interface, port 0 any free one, and `ready` is told what was
    bound. Without `client_tls` mitmproxy signs a certificate with its own authority, kept in `confdir`. OSError if an
    address cannot be bound; what `ready` raises is raised here.
    """
    options = Options()
    master = Master(options)
    master._legacy_log_events.uninstall()  # it would format every log record and offer it to every addon
    started = _Started(ready)
    addon = GatewayAddon(
        application,
        limits,
        client_tls=client_tls,
        require_tls=require_tls,
        name="nextlayer",  # the one mitmproxy misses
        counters=counters,
    )
    master.addons.add(Proxyserver(), *([TlsConfig()] if client_tls is None else []), addon, started)
    options.update(**listening_options(listen, limits, confdir))
    try:
        with signals(master.shutdown):
            await master.run()
    finally:
        await close(_proxyserver())
    if started.failure is not None:
        raise started.failure


def listening_options(listen: Sequence[Address], limits: Limits, confdir: Path) -> dict[str, str | int | list[str]]:
    """Options of a mitmproxy that listens for us."""
    return {
        "mode": [f"reverse:{NOWHERE}@{host}:{port}" for host, port in listen],
        "connection_strategy": "lazy",
        "confdir": str(confdir),
        "tcp_timeout": max(1, round(limits.idle_seconds)),
    }


def state_folder() -> Path:
    """Where mitmproxy keeps the authority that signs certificates when none is given."""
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "inferbridge"


@contextmanager
def signals(end: Callable[[], None], interrupt: Callable[[], None] | None = None) -> Iterator[None]:
    """SIGTERM calls `end`, SIGINT too unless there is an `interrupt`.

    Where signals cannot be handled (another thread) cancellation still ends all.
    """
    loop = asyncio.get_running_loop()
    numbers = {signal.SIGINT: interrupt or end, signal.SIGTERM: end}
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number, call in numbers.items():
            loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in numbers:
                loop.remove_signal_handler(number)


async def close(proxyserver: Proxyserver) -> None:
    """Stop listening and end every client connection; mitmproxy would leave both to the end of the process."""
    await proxyserver.servers.update([])
    for handler in list(proxyserver.connections.values()):
        transport = handler.transports.get(handler.client)
        if transport is not None and transport.handler is not None:
            transport.handler.cancel("shutting down")
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            while proxyserver.connections:  # noqa: ASYNC110 - mitmproxy tells nobody when one is gone
                await asyncio.sleep(0.01)
