"""What clients hear when the gateway stops: of the codecs, of a connection, and of streams that are passed through."""

from collections.abc import Callable

import h2.events
import pytest
from hyperframe.frame import HeadersFrame

from gateway.applications import Silent
from gateway.http2_client import Client
from gateway.test_reframing import called
from gateway.test_service import GRPC, Runtime
from gateway.test_service import Client as Caller
from inferbridge.bridge.context import Policy
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Headers
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.codecs.http1 import Http1Codec
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
OK: Headers = (("content-type", "text/plain"),)
STOPPING = BridgeError(Code.UNAVAILABLE, "the gateway is stopping")
EVENTS: Headers = (("content-type", "text/event-stream; charset=utf-8"),)


@pytest.mark.parametrize("whole", [True, False])
def test_the_answer_under_way_says_close(whole: bool) -> None:
    """An HTTP/1.1 client whose request is in flight is answered in full, with `connection: close`, and then closed."""
    codec = Http1Codec(Limits())
    codec.receive(GET)
    codec.drain()
    assert not codec.closing
    if whole:
        codec.send_whole(1, 200, OK, (b"body",))
    else:
        codec.send_head(1, 200, OK)
        codec.send_data(1, b"body")
        codec.end(1)
    answer = codec.take_output()
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nbody")
    assert codec.closing


def test_a_request_that_is_on_its_way_is_served() -> None:
    """Between being told and leaving, a kept connection takes one request more; one half read is read to its end."""
    for leave in (False, True):
        codec = Http1Codec(Limits())
        codec.drain()
        codec.receive(GET[:9])
        if leave:
            codec.leave()
        assert not codec.closing
        assert codec.receive(GET[9:])
        codec.send_whole(1, 200, OK, (b"body",))
        assert b"connection: close" in codec.take_output()
        assert codec.closing


def test_an_idle_connection_is_left() -> None:
    """A kept HTTP/1.1 connection without a request is closed, and not before it is left."""
    codec = Http1Codec(Limits())
    codec.receive(GET)
    codec.send_whole(1, 200, OK, (b"body",))
    codec.drain()
    assert not codec.closing
    codec.leave()
    assert codec.closing


def goaways(client: Client) -> list[tuple[int | None, int | None]]:
    """Code and last stream of each GOAWAY that a client has got."""
    found = [event for event in client.seen if isinstance(event, h2.events.ConnectionTerminated)]
    return [(event.error_code, event.last_stream_id) for event in found]


def test_http2_is_told_in_two_steps() -> None:
    """GOAWAY with the highest stream, after which a call is still served; then the last one, and refusal after it."""
    client = Client(Http2Codec(Limits()))
    first = client.send()
    client.exchange()
    client.codec.drain()
    second = client.send()
    client.exchange()  # the second call has crossed the GOAWAY
    assert goaways(client) == [(0, 2**31 - 1)]
    client.codec.leave()
    for stream in (first, second):
        client.codec.send_whole(stream, 200, OK, (b"body",))
    assert not client.codec.closing
    output = client.codec.take_output()
    assert output.startswith(b"\0\0\x08\x07\0\0\0\0\0" + second.to_bytes(4) + bytes(4)), "GOAWAY with the last stream"
    assert output.count(b"body") == 2
    assert client.codec.closing


def test_http2_refuses_after_it_has_left() -> None:
    """A call after the last GOAWAY is REFUSED_STREAM, which clients send again elsewhere; those before it go on."""
    client = Client(Http2Codec(Limits()))
    first = client.send()
    client.exchange()
    client.codec.leave()
    late = HeadersFrame(first + 2, client.h2.encoder.encode([(":method", "GET"), (":path", "/")]))
    late.flags.add("END_HEADERS")
    late.flags.add("END_STREAM")
    assert client.codec.receive(late.serialize()) == []
    assert (first + 2).to_bytes(4) + (7).to_bytes(4) in client.codec.take_output()
    client.codec.send_whole(first, 200, OK, (b"body",))
    assert b"body" in client.codec.take_output()


def test_a_connection_that_has_said_nothing_is_left() -> None:
    """Without a byte there is no protocol, and nothing to wait for."""
    connection = ClientConnection(Silent(), Limits(), lambda: None)
    connection.drain()
    assert not connection.closing
    connection.leave()
    assert connection.closing


def test_what_is_in_flight_can_be_ended() -> None:
    """A call that has no answer yet is refused and its work cancelled; one whose answer has begun is cut."""
    application = Silent()
    waiting, begun = (ClientConnection(application, Limits(), lambda: None) for _ in range(2))
    waiting.receive(GET)
    begun.receive(GET)
    application.sinks[1].responder.head(200, OK)
    application.sinks[1].responder.data(b"part")
    for connection in (waiting, begun):
        connection.drain()
        connection.end(STOPPING)
    assert b"the gateway is stopping" in waiting.take_output()
    assert application.refused == [STOPPING]
    assert [sink.cancelled for sink in application.sinks] == [True, True]
    assert waiting.closing
    assert begun.closing
    assert waiting.calls == begun.calls == 0


def test_marks_tell_when_calls_have_ended() -> None:
    """A mark is of the calls that were there when it was made, however many come after."""
    application = Silent()
    connection = ClientConnection(application, Limits(), lambda: None)
    assert not connection.marked()()
    connection.receive(GET)
    in_flight = connection.marked()
    assert in_flight()
    application.sinks[0].responder.whole(200, OK, (b"body",))
    connection.receive(GET)
    assert connection.calls == 1
    assert not in_flight()


type Answering = Callable[[UpstreamRequest, Receiver], None]


def breaks_off(request: UpstreamRequest, receiver: Receiver) -> None:
    """A gRPC runtime that is lost after a message."""
    receiver.on_head(200, GRPC)
    receiver.on_data(b"\0\0\0\0\0")
    receiver.on_failure(STOPPING)


def test_a_grpc_stream_that_breaks_off_ends_with_a_status() -> None:
    """What passes through untouched ends like what is translated: with the status, where it was only cut before."""
    (profile,) = [one for one in PROFILES["tgis"] if one.api == "tgis"]
    service = GatewayService([Target("one", profile, "grpc", Runtime(breaks_off))], APIS, Policy(), Limits())
    caller = Caller()
    head = RequestHead("POST", "/fmaas.GenerationService/GenerateStream", "a", (*GRPC, ("te", "trailers")), "2")
    sink = service.open(head, caller)
    sink.on_data(b"\0\0\0\0\0")
    sink.on_end()
    assert (caller.ended, caller.aborted) == (True, False)
    assert (caller.get("grpc-status"), caller.get("grpc-message")) == ("14", STOPPING.message)


@pytest.mark.parametrize(
    ("pieces", "headers", "told"),
    [
        ((b"data: {}\n\n",), EVENTS, True),
        ((), EVENTS, True),
        ((b"data: {", b"}\n\n"), EVENTS, True),
        ((b"data: {}\n", b"\n"), EVENTS, False),  # where the last piece alone does not tell, it is cut
        ((b"data: {",), EVENTS, False),
        ((b"\x1f\x8b",), (*EVENTS, ("content-encoding", "gzip")), False),
        ((b"{",), (("content-type", "application/json"),), False),
    ],
)
def test_events_that_break_off_end_with_an_error(pieces: tuple[bytes, ...], headers: Headers, told: bool) -> None:
    """Between two events the error is one more, in the API's form and without its mark of success; else it is cut."""
    seen, upstream = called("/v1/completions", "*/*")
    receiver = upstream.calls[0][1]
    receiver.on_head(200, headers)
    for piece in pieces:
        receiver.on_data(piece)
    receiver.on_failure(STOPPING)
    assert (seen.ended, seen.aborted) == (told, not told)
    assert (b'"message":"the gateway is stopping"' in seen.body) == told
    assert b"[DONE]" not in seen.body
