"""TLS as mitmproxy drives it: the handshake in any pieces, its failures, and the gateway inside, without a socket."""

import ssl
from pathlib import Path

import pytest
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy import commands, events

from gateway.test_layer import GET, context
from gateway.tls_clients import ALICE, AUTHORITY, OTHER, Issued, Names, client, server_certificate
from inferbridge.config import ListenerTls
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.clients.layer import ClosingLayer, GatewayLayer, OutputReady
from inferbridge.gateway.clients.tls_layer import ListenerTlsLayer
from inferbridge.gateway.limits import Limits

WHOLE = 1 << 20


class Handshake:
    """A TLS client in memory, and the layers it talks to, which get what it says in pieces of a size."""

    def __init__(self, folder: Path, shown: Issued | None, size: int = WHOLE) -> None:
        authorities = folder / "clients.pem"
        authorities.write_bytes(AUTHORITY.certificate_pem)
        listener = ListenerTls(server_certificate().write(folder / "server.pem"), client_ca=authorities)
        self.names = Names()
        self.context = context()
        ClosingLayer(self.context)  # as mitmproxy has its mode's layer around all others
        self.injected: list[events.Event] = []
        self.layer = ListenerTlsLayer(self.context, ClientTls(listener).connection())
        self.layer.child_layer = GatewayLayer(
            self.context, self.names, Limits(), self.injected.append, certificate=self.layer.certificate
        )
        self.size = size
        self.seen: list[commands.Command] = []
        self.received, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client(folder, shown).wrap_bio(self.received, self.out, server_hostname="localhost")
        self.feed(events.Start())

    def feed(self, event: events.Event) -> None:
        """Deliver an event, and do what comes of it as mitmproxy does."""
        for command in self.layer.handle_event(event):
            self.seen.append(command)
            if isinstance(command, commands.SendData):
                self.received.write(command.data)
            elif isinstance(command, commands.StartHook):
                self.feed(events.HookCompleted(command))
            elif isinstance(command, commands.CloseConnection):
                self.context.client.state = ConnectionState.CLOSED

    def carry(self) -> None:
        """Bring what the client says to the layers."""
        said = self.out.read()
        for at in range(0, len(said), self.size):
            self.feed(events.DataReceived(self.context.client, said[at : at + self.size]))

    def shake(self) -> None:
        """Go through the handshake; ssl.SSLError where it fails."""
        for _ in range(5):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.carry()
            else:
                self.carry()
                return
        raise AssertionError("the handshake does not come to an end")

    def ask(self) -> bytes:
        """The answer to one request."""
        self.tls.write(GET)
        self.carry()
        return self.tls.read(WHOLE)

    def closes(self) -> int:
        """How often the layers have said to close."""
        return sum(isinstance(command, commands.CloseConnection) for command in self.seen)


@pytest.mark.parametrize("size", [WHOLE, 100, 7, 1])
def test_a_handshake_in_any_pieces(tmp_path: Path, size: int) -> None:
    """However the bytes of a handshake and a request arrive, the call is served, with the verified name."""
    handshake = Handshake(tmp_path, ALICE, size)
    handshake.shake()
    assert handshake.ask().endswith(b"\r\n\r\nalice")
    assert handshake.closes() == 0


def test_nothing_is_answered_before_the_handshake_is_done(tmp_path: Path) -> None:
    """A ClientHello that has not all come, and a turn that comes meanwhile, give no command at all."""
    handshake = Handshake(tmp_path, ALICE, 50)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.tls.do_handshake()
    before = list(handshake.seen)
    hello = handshake.out.read()
    handshake.feed(events.DataReceived(handshake.context.client, hello[:50]))
    handshake.feed(OutputReady())
    assert handshake.seen == before
    assert handshake.names.heads == []


@pytest.mark.parametrize("shown", [None, OTHER.issue("CN=alice")], ids=["none", "of another authority"])
def test_a_client_that_is_not_verified_never_reaches_the_gateway(tmp_path: Path, shown: Issued | None) -> None:
    """Its handshake ends in an alert and a close; what it has sent behind it is read by nobody."""
    handshake = Handshake(tmp_path, shown)
    handshake.shake()  # TLS 1.3 tells the client only with the first answer
    with pytest.raises(ssl.SSLError, match="alert"):
        handshake.ask()
    assert handshake.closes() == 1
    handshake.feed(OutputReady())
    assert handshake.names.heads == []


def test_a_client_that_leaves_within_the_handshake(tmp_path: Path) -> None:
    """The connection is closed, and the gateway has never heard of it."""
    handshake = Handshake(tmp_path, ALICE)
    with pytest.raises(ssl.SSLWantReadError):
        handshake.tls.do_handshake()
    handshake.carry()
    handshake.feed(events.ConnectionClosed(handshake.context.client))
    assert handshake.closes() >= 1
    assert handshake.names.heads == []


@pytest.mark.parametrize(
    "noise", [b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + bytes(70_000), b"\x16GET / HTTP/1.1\r\n"]
)
def test_what_is_no_handshake_is_closed(tmp_path: Path, noise: bytes) -> None:
    """Bytes that only begin like TLS end the connection, and are no request."""
    handshake = Handshake(tmp_path, ALICE)
    handshake.feed(events.DataReceived(handshake.context.client, noise))
    handshake.feed(events.ConnectionClosed(handshake.context.client))
    assert handshake.closes() >= 1
    assert handshake.names.heads == []


def test_a_client_that_goes_after_the_handshake_is_gone(tmp_path: Path) -> None:
    """The gateway inside hears of it, and a turn that comes late sends nothing."""
    handshake = Handshake(tmp_path, ALICE)
    handshake.shake()
    handshake.ask()
    handshake.feed(events.ConnectionClosed(handshake.context.client))
    before = len(handshake.seen)
    handshake.feed(OutputReady())
    assert handshake.closes() >= 1
    assert len(handshake.seen) == before
