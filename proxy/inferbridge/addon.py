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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.options import Options
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import Layer, NextLayer
from mitmproxy.proxy.layers import ClientTLSLayer
from mitmproxy.proxy.server import ConnectionHandler
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from inferbridge.auth.identity import ClientCertificate
from inferbridge.config import Listener
from inferbridge.gateway.application import Application
from inferbridge.gateway.clients import modes
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.clients.destinations import Destinations
from inferbridge.gateway.clients.draining import Stopper, has_time
from inferbridge.gateway.clients.inject import Link
from inferbridge.gateway.clients.layer import ClosingLayer, GatewayLayer
from inferbridge.gateway.clients.own_authority import OwnAuthority
from inferbridge.gateway.clients.release import release
from inferbridge.gateway.clients.tls_layer import ListenerTlsLayer
from inferbridge.gateway.clients.watch import Watch
from inferbridge.gateway.codecs.sniff import TLS_HANDSHAKE
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.limits import Limits
from inferbridge.sparing import without_its_siblings

with without_its_siblings("mitmproxy.addons"):
    from mitmproxy.addons.proxyserver import Proxyserver
    from mitmproxy.master import Master

_log = logging.getLogger(__name__)

NOWHERE = "http://127.0.0.1:1"
"""mitmproxy wants a target for its reverse mode; nothing is ever sent there."""
_TLS_ONLY = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 23\r\nconnection: close\r\n\r\n"
    b"this port speaks TLS.\r\n"
)
_CLOSE_SECONDS = 5.0
NEXT_LAYER = "nextlayer"
"""The addon that mitmproxy misses where ours has not its name."""

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
        self.destinations = Destinations({})
        """What clients of transparent listeners may be going to."""
        self._open: dict[str, ClientConnection] = {}
        """Connections that have said something, by mitmproxy's id of the client."""
        self._wanted: dict[str, tuple[str, ...]] = {}
        """Upstreams that clients of transparent listeners were connecting to."""
        self._draining = False

    # Hooks

    def configure(self, updated: set[str]) -> None:
        """Keep mitmproxy from connecting to its target before anybody has asked for it."""
        if "connection_strategy" in ctx.options and ctx.options.connection_strategy != "lazy":
            ctx.options.update(connection_strategy="lazy")

    async def client_connected(self, client: Client) -> None:
        """Close what exceeds a limit of connections, or comes by a transparent listener and goes nowhere we know."""
        exceeded = self._watch.add(_proxyserver().connections[client.id], self.limits)
        if exceeded:
            client.error = f"too many connections ({exceeded})"
            _log.warning("connection from %s closed: too many (%s)", client.peername, exceeded)
        elif modes.is_transparent(client):
            await self._find_destination(client)

    async def _find_destination(self, client: Client) -> None:
        try:
            writer = _proxyserver().connections[client.id].transports[client].writer
            assert isinstance(writer, asyncio.StreamWriter)
            address = modes.wanted_address(writer.get_extra_info("socket"))
            names = await self.destinations.names(address)
        except Exception as error:  # fail closed: without an upstream any would do
            client.error = "its destination is not known"
            _log.warning("connection from %s closed: its destination is not known (%s)", client.peername, error)
            return
        if names:
            self._wanted[client.id] = names
        else:
            client.error = "no upstream"
            _log.warning("connection from %s closed: %s:%d is no upstream's address", client.peername, *address)

    def client_disconnected(self, client: Client) -> None:
        """Forget the connection, and all that it held."""
        self._watch.remove(client.id)
        self._wanted.pop(client.id, None)
        if (connection := self._open.pop(client.id, None)) is not None:
            connection.release()
        release(_proxyserver().connections[client.id])

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

    # For who changes the settings

    def renew(self, limits: Limits, client_tls: ClientTls | None) -> None:
        """New connections get these; that there is a certificate, or none, does not change."""
        self.limits, self.client_tls = limits, client_tls
        ctx.options.update(tcp_timeout=_idle_seconds(limits))

    # For who stops the gateway

    @property
    def connections(self) -> Collection[ClientConnection]:
        """Those that are open and have said something."""
        return self._open.values()

    async def close_listeners(self) -> None:
        """Accept no connection any more."""
        await _proxyserver().servers.update([])

    def drain(self) -> None:
        """Ask the clients to take further calls elsewhere."""
        self._draining = True
        for connection in list(self._open.values()):
            connection.drain()

    def leave(self) -> None:
        """Take no further call; connections close when those in flight are answered, silent ones now."""
        for connection in list(self._open.values()):
            connection.leave()
        for handler in list(_proxyserver().connections.values()):
            if handler.client.id not in self._open:
                _cut(handler)

    def shutdown(self) -> None:
        """Everything is over."""
        ctx.master.shutdown()

    def _opened(self, client: Client, connection: ClientConnection) -> None:
        self._open[client.id] = connection
        if self._draining:
            connection.drain()

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
        opened = partial(self._opened, context.client)
        destination = self._wanted.get(context.client.id, ())
        if modes.is_transparent(context.client) and not destination:
            raise LookupError("a redirected client without a destination")
        layer = GatewayLayer(
            context,
            application,
            self.limits,
            link.inject,
            link.take_over,
            certificate,
            self.counters,
            opened,
            destination,
        )
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
                modes.lengthen_queue(server)
            self._ready([(address[0], address[1]) for server in servers for address in server.listen_addrs])
        except Exception as error:
            self.failure = error
            ctx.master.shutdown()


async def serve(
    gateway: GatewayAddon,
    listen: Sequence[Listener],
    confdir: Path,
    ready: Ready,
    stopper: Stopper | None = None,
    *,
    shared: bool = False,
) -> None:
    """Serve until SIGINT, SIGTERM or cancellation, then close every connection.

    `ready` is told what was bound. Without a certificate mitmproxy signs one with its own authority, kept in `confdir`.
    On a signal `stopper` first lets the calls in flight finish, on a second one it does not; on cancellation, and where
    there is no stopper, nothing is waited for. With `shared` other processes have the same addresses, and SIGINT is
    somebody else's. OSError if an address cannot be bound; what `ready` raises is raised here.
    """
    options = Options()
    master = Master(options)
    master._legacy_log_events.uninstall()  # it would format every log record and offer it to every addon
    started = _Started(ready)
    master.addons.add(Proxyserver(), *([OwnAuthority()] if gateway.client_tls is None else []), gateway, started)
    options.update(**listening_options(listen, gateway.limits, confdir, shared=shared))
    if stopper is not None:
        stopper.serve(gateway)
    numbers = (signal.SIGTERM,) if shared else (signal.SIGINT, signal.SIGTERM)
    try:
        with signals({number: partial(_stop, master, stopper, number) for number in numbers}):
            await master.run()
    finally:
        await close(_proxyserver())
    if started.failure is not None:
        raise started.failure


def listening_options(
    listen: Sequence[Listener], limits: Limits, confdir: Path, *, shared: bool = False
) -> dict[str, str | int | list[str]]:
    """Options of a mitmproxy that listens for us; with `shared` other processes have the same addresses."""
    return {
        "mode": [_mode(listener, shared) for listener in listen],
        "connection_strategy": "lazy",
        "confdir": str(confdir),
        "tcp_timeout": _idle_seconds(limits),
    }


def _mode(listener: Listener, shared: bool) -> str:
    host, port, transparent = listener.host, listener.port, listener.transparent
    if shared or transparent:
        return modes.mode(host, port, shared=shared, transparent=transparent)
    return f"reverse:{NOWHERE}@{host}:{port}"


def _idle_seconds(limits: Limits) -> int:
    return max(1, round(limits.idle_seconds))


def state_folder() -> Path:
    """Where mitmproxy keeps the authority that signs certificates when none is given."""
    state = os.environ.get("XDG_STATE_HOME")
    return Path(state or os.path.expanduser("~/.local/state")) / "inferbridge"  # noqa: PTH111 - a user may have no home


def _stop(master: Master, stopper: Stopper | None, number: signal.Signals) -> None:
    if stopper is None:
        master.shutdown()
    else:
        stopper.ask(delay=has_time(number))


@contextmanager
def signals(handlers: Mapping[signal.Signals, Callable[[], None]]) -> Iterator[None]:
    """Call these on signals; where signals cannot be handled (another thread) cancellation still ends all."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number, call in handlers.items():
            loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in handlers:
                loop.remove_signal_handler(number)


async def close(proxyserver: Proxyserver) -> None:
    """Stop listening and end every client connection; mitmproxy would leave both to the end of the process."""
    await proxyserver.servers.update([])
    for handler in list(proxyserver.connections.values()):
        _cut(handler)
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            while proxyserver.connections:  # noqa: ASYNC110 - mitmproxy tells nobody when one is gone
                await asyncio.sleep(0.01)


def _cut(handler: ConnectionHandler) -> None:
    transport = handler.transports.get(handler.client)
    if transport is not None and transport.handler is not None:
        transport.handler.cancel("shutting down")
