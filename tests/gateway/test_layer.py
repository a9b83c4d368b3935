"""The layer driven as mitmproxy drives it, one event at a time, without a master or a socket."""

import pytest
from mitmproxy.connection import Client, ConnectionState
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context

from gateway.applications import Boom, Echo, Silent
from gateway.http2_client import REQUEST
from gateway.http2_client import Client as Http2Client
from inferbridge.bridge.errors import BridgeError
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.clients.layer import LINGER_SECONDS, ClosingLayer, GatewayLayer, OutputReady
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


def context() -> Context:
    client = Client(
        peername=("10.0.0.1", 1234),
        sockname=("127.0.0.1", 8080),
        timestamp_start=0,
        state=ConnectionState.OPEN,
    )
    return Context(client, Options())


class Driver:
    """A layer, its client, and the events it asked to have injected."""

    def __init__(self, application: Echo, limits: Limits | None = None, alpn: bytes | None = None) -> None:
        self.application = application
        self.context = context()
        self.context.client.alpn = alpn
        self.injected: list[events.Event] = []
        self.layer = GatewayLayer(self.context, application, limits or Limits(), self.injected.append)
        assert self.feed(events.Start()) == []

    def feed(self, event: events.Event) -> list[commands.Command]:
        return list(self.layer.handle_event(event))

    def data(self, data: bytes) -> list[commands.Command]:
        return self.feed(events.DataReceived(self.context.client, data))

    def turn(self) -> list[commands.Command]:
        """Deliver the one event that must be waiting."""
        (event,) = self.injected
        assert isinstance(event, OutputReady)
        self.injected.clear()
        return self.feed(event)


def sent(found: list[commands.Command]) -> bytes:
    """The data of the only command."""
    (command,) = found
    assert isinstance(command, commands.SendData), command
    return command.data


def test_one_write_for_an_event() -> None:
    """Three pipelined requests in one read are answered in one write."""
    output = sent(Driver(Echo()).data(GET * 3))
    assert output.count(b"HTTP/1.1 200 OK") == 3


def test_head_tells_the_peer() -> None:
    """The application learns the address of the client."""
    application = Echo()
    Driver(application).data(GET)
    assert application.sinks[0].head.peer == "10.0.0.1:1234"
    assert not application.sinks[0].head.tls


def test_late_answer_asks_for_one_turn() -> None:
    """Pieces of an answer given outside of an event are collected and leave together."""
    application = Silent()
    driver = Driver(application)
    assert driver.data(GET) == []
    responder = application.sinks[0].responder
    responder.head(200, ())
    responder.data(b"a")
    responder.data(b"b")
    responder.end()
    assert sent(driver.turn()).endswith(b"content-length: 2\r\n\r\nab")
    assert driver.injected == []


def test_late_answer_frees_the_next_request() -> None:
    """A pipelined request is served in the turn in which the one before it is answered."""
    application = Silent()
    driver = Driver(application)
    driver.data(GET + GET)
    assert len(application.sinks) == 1
    application.sinks[0].responder.head(204, ())
    application.sinks[0].responder.end()
    driver.turn()
    assert len(application.sinks) == 2


def test_stream_leaves_piece_by_piece() -> None:
    """Each piece of a long answer leaves in its own turn."""
    application = Silent()
    driver = Driver(application)
    driver.data(GET)
    responder = application.sinks[0].responder
    responder.head(200, ())
    assert b"chunked" in sent(driver.turn())
    responder.data(b"token")
    assert sent(driver.turn()) == b"5\r\ntoken\r\n"
    responder.end()
    assert sent(driver.turn()) == b"0\r\n\r\n"


def test_client_gone() -> None:
    """A client that goes away cancels its calls, and what the application still says is ignored."""
    application = Silent()
    driver = Driver(application)
    driver.data(GET)
    (command,) = driver.feed(events.ConnectionClosed(driver.context.client))
    assert isinstance(command, commands.CloseConnection)
    assert application.sinks[0].cancelled
    application.sinks[0].responder.head(200, ())
    application.sinks[0].responder.abort()
    assert driver.injected == []


def test_client_gone_before_the_first_byte() -> None:
    """A connection that closes without a word is closed."""
    driver = Driver(Echo())
    (command,) = driver.feed(events.ConnectionClosed(driver.context.client))
    assert isinstance(command, commands.CloseConnection)


def test_closing_lingers() -> None:
    """The last answer is sent, our half shut, input ignored, and the rest closed after a while."""
    driver = Driver(Echo())
    answer, half, wakeup = driver.data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(answer, commands.SendData)
    assert isinstance(half, commands.CloseTcpConnection)
    assert half.half_close
    assert isinstance(wakeup, commands.RequestWakeup)
    assert wakeup.delay == LINGER_SECONDS
    assert driver.data(GET) == []
    (close,) = driver.feed(events.Wakeup(wakeup))
    assert isinstance(close, commands.CloseConnection)
    assert not isinstance(close, commands.CloseTcpConnection)


def test_abort_closes() -> None:
    """An aborted HTTP/1.1 answer ends with the connection."""
    application = Silent()
    driver = Driver(application)
    driver.data(GET)
    application.sinks[0].responder.head(200, ())
    application.sinks[0].responder.data(b"part")
    driver.turn()
    application.sinks[0].responder.abort()
    half, wakeup = driver.turn()
    assert isinstance(half, commands.CloseTcpConnection)
    assert isinstance(wakeup, commands.RequestWakeup)


def test_alpn_decides() -> None:
    """A connection whose ALPN is h2 is HTTP/2 from the first byte, whatever that is."""
    output = Driver(Echo(), alpn=b"h2").data(GET)
    assert isinstance(output[0], commands.SendData)
    assert output[0].data[3] == 4  # SETTINGS


def test_http2_consumed_data_opens_the_window() -> None:
    """Data that the application took is acknowledged in the same write."""
    application = Silent()
    driver = Driver(application)
    client = Http2Client(Http2Codec(Limits()))
    client.h2.send_headers(1, REQUEST)
    for _ in range(4):
        client.h2.send_data(1, b"x" * 16_000)
    client.h2.receive_data(sent(driver.data(client.h2.data_to_send())))
    before = client.h2.local_flow_control_window(1)
    for _ in range(8):
        client.h2.send_data(1, b"x" * 16_000)
    client.h2.receive_data(sent(driver.data(client.h2.data_to_send())))
    assert client.h2.local_flow_control_window(1) > before - 8 * 16_000
    assert sum(map(len, application.sinks[0].body)) == 12 * 16_000


class BadRefusal(Echo):
    """Refuses with a header that must not go on a wire."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        raise Boom("open")

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        responder.head(500, (("x", "\r\n"),))
        responder.end()


def test_refusal_that_breaks_the_rules() -> None:
    """A refusal with an illegal header becomes a bare 500, and the connection lives."""
    driver = Driver(BadRefusal())
    output = sent(driver.data(GET + GET))
    assert output.count(b"HTTP/1.1 500 Internal Server Error") == 2
    assert output.count(b"internal error") == 2


def test_failed_late_answer() -> None:
    """An illegal header given from the event loop does not raise there; the client gets an error instead."""
    application = Silent()
    driver = Driver(application)
    driver.data(GET)
    responder = application.sinks[0].responder
    responder.head(200, (("x", "a\r\nb: c"),))
    responder.data(b"ignored")
    responder.end()
    assert sent(driver.turn()).startswith(b"HTTP/1.1 500 ")
    assert application.sinks[0].cancelled


@pytest.mark.parametrize("farewell", [b"", b"bye"])
def test_closing_layer(farewell: bytes) -> None:
    """The closing layer says its word once and closes, whatever comes."""
    layer = ClosingLayer(context(), farewell)
    first = list(layer.handle_event(events.Start()))
    assert [type(command) for command in first] == [commands.SendData] * bool(farewell) + [commands.CloseConnection]
    again = list(layer.handle_event(events.DataReceived(layer.context.client, GET)))
    assert [type(command) for command in again] == [commands.CloseConnection]
