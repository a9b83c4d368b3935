"""The gateway as a mitmproxy layer: nothing above it sees the requests, nothing below it ever gets their bytes.

Each event becomes at most one `SendData`. Answers that come from the event loop ask for a turn through `inject`,
which brings an `OutputReady` event here from the outside (see `inject.py`); it carries nothing, the layer takes
whatever output there is when it arrives. A client without TLS is handed to `DirectProtocol` with its first bytes, or
with an answer if more than those had come by then; the layer then only hears of the end.

Closing is done in two steps, or the client's unread bytes would make the kernel throw away our last answer: our half
is shut first and the client's input ignored, the rest follows when the client closes or `LINGER_SECONDS` have passed.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator, Layer

from inferbridge.auth.identity import ClientCertificate
from inferbridge.gateway.application import Application
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.limits import Limits

LINGER_SECONDS = 2.0
_log = logging.getLogger(__name__)

type Inject = Callable[[events.Event], None]
"""Deliver an event to this connection's layers, soon, from outside of them."""
type TakeOver = Callable[[ClientConnection, Callable[[], None]], bool]
"""Serve a connection from its socket, see `inject.Link.take_over`. False: try again later."""


@dataclass
class OutputReady(events.Event):
    """An answer was given while no event was being handled."""


class GatewayLayer(Layer):
    """Serves one client connection."""

    def __init__(
        self,
        context: Context,
        application: Application,
        limits: Limits,
        inject: Inject,
        take_over: TakeOver | None = None,
        certificate: Callable[[], ClientCertificate | None] = lambda: None,
        counters: Counters = NO_COUNTERS,
        opened: Callable[[ClientConnection], None] = lambda _: None,
        destination: tuple[str, ...] = (),
    ) -> None:
        """`certificate` is asked after the handshake for what TLS has verified; `opened` hears of the connection.

        `destination` names the upstreams that the client was connecting to, if it does not mean the gateway.
        """
        super().__init__(context)
        self._application = application
        self._limits = limits
        self._inject = inject
        self._take_over = take_over
        self._certificate = certificate
        self._counters = counters
        self._opened = opened
        self._destination = destination
        self._connection: ClientConnection | None = None
        self._awaits_turn = False
        self._closing = False

    @property
    def connection(self) -> ClientConnection | None:
        """There is one from the first byte on."""
        return self._connection

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        try:
            output, close = self._react(event)
        except Exception:
            _log.exception("connection closed after an internal error")
            output, close = b"", commands.CloseConnection(self.context.client)
        if output:
            yield commands.SendData(self.context.client, output)
        if close is not None:
            yield close
            if isinstance(close, commands.CloseTcpConnection):
                yield commands.RequestWakeup(LINGER_SECONDS)

    def _react(self, event: events.Event) -> tuple[bytes, commands.CloseConnection | None]:
        """What to send, and how to close if it is time to."""
        if isinstance(event, events.ConnectionClosed):
            self._closing = True  # a turn that was asked for before is still to come
            if self._connection is not None:
                self._connection.lost()
            return b"", commands.CloseConnection(self.context.client)
        if isinstance(event, events.Wakeup):
            return b"", commands.CloseConnection(self.context.client)
        if self._closing or not isinstance(event, events.DataReceived | OutputReady):
            return b"", None
        if self._connection is None:  # not before the first byte: ALPN is known only then
            self._connection = self._connect()
        else:
            self._hand_over(self._connection)
        if isinstance(event, OutputReady):
            self._awaits_turn = False
        self._connection.receive(event.data if isinstance(event, events.DataReceived) else b"")
        return self._output(self._connection)

    def _connect(self) -> ClientConnection:
        client = self.context.client
        host, port, *_ = client.peername or ("", 0)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        peer = Peer(address, tls=bool(client.tls), certificate=self._certificate(), destination=self._destination)
        connection = ClientConnection(self._application, self._limits, self._wake, peer, client.alpn, self._counters)
        self._opened(connection)
        self._hand_over(connection)
        return connection

    def _hand_over(self, connection: ClientConnection) -> None:
        if self._take_over is not None and self._take_over(connection, self._wake):
            self._take_over = None

    def _output(self, connection: ClientConnection) -> tuple[bytes, commands.CloseConnection | None]:
        output = connection.take_all()
        if not connection.closing:
            return output, None
        self._closing = True
        connection.lost()
        return output, commands.CloseTcpConnection(self.context.client, half_close=True)

    def _wake(self) -> None:
        """Ask for one turn, however many pieces of an answer come before it."""
        if not self._awaits_turn:
            self._awaits_turn = True
            self._inject(OutputReady())


class ClosingLayer(Layer):
    """Says `farewell`, if anything, and closes: what to install when nothing else may handle the bytes."""

    def __init__(self, context: Context, farewell: bytes = b"") -> None:
        super().__init__(context)
        self._farewell = farewell

    def _handle_event(self, event: events.Event) -> CommandGenerator[None]:
        farewell, self._farewell = self._farewell, b""
        if farewell:
            yield commands.SendData(self.context.client, farewell)
        yield commands.CloseConnection(self.context.client)
