"""A client served straight from its socket, past mitmproxy's own way of moving bytes."""

import asyncio
from pathlib import Path

import h2.connection
import pytest

from gateway.applications import Echo, EchoSink, Silent
from gateway.serving import TIMEOUT, serving, talk
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.calls.answers import PassthroughAnswer
from inferbridge.gateway.clients import inject
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.clients.direct import DirectProtocol
from inferbridge.gateway.limits import Limits

POST = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
POST_HEADERS = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/a")]


class WholeSink(EchoSink):
    """Answers as a whole, from the event loop."""

    def on_end(self) -> None:
        asyncio.get_running_loop().call_soon(self._answer)

    def _answer(self) -> None:
        self.responder.whole(200, (("content-type", "text/plain"),), self.body)


class Whole(Echo):
    """Like Echo, in one piece and later."""

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        return WholeSink(head, responder)


async def test_one_connection_serves_call_after_call(confdir: Path) -> None:
    """Calls on one connection are answered in order, whole, and the connection stays."""
    async with serving(Whole(), confdir) as port, asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(POST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(5) == b"hello"
        writer.close()


class Socket(asyncio.Transport):
    """Notes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The one that was there before."""
        return asyncio.Protocol()

    def is_closing(self) -> bool:
        """Never."""
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note."""
        self.written += data


def take(application: Silent) -> tuple[DirectProtocol, Socket]:
    """A client's connection that writes to a `Socket`."""
    transport = Socket()
    connection = ClientConnection(application, Limits(), lambda: None)
    protocol = DirectProtocol(transport, connection, lambda: None, lambda: None)
    connection.wake, connection.flush = protocol.wake, protocol.flush
    return protocol, transport


async def test_a_message_of_a_stream_does_not_wait_for_another_turn() -> None:
    """What the client of a stream waits for is on its socket before the event loop goes on; a mere piece is not."""
    application = Silent()
    protocol, transport = take(application)
    protocol.data_received(POST)
    responder = application.sinks[0].responder
    responder.head(200, (("content-type", "text/event-stream"),))
    responder.data(b"piece")
    assert transport.written == b""
    responder.message(b"message")
    assert transport.written.endswith(b"c\r\npiecemessage\r\n")


async def test_messages_of_calls_that_share_a_connection_leave_together() -> None:
    """Over HTTP/2 a lone call's messages leave at once; those of several wait for the end of the event loop's turn."""
    application = Silent()
    protocol, transport = take(application)
    client = h2.connection.H2Connection()
    client.initiate_connection()
    for stream, alone in ((1, True), (3, False)):
        client.send_headers(stream, POST_HEADERS, end_stream=True)
        protocol.data_received(client.data_to_send())
        responder = application.sinks[-1].responder
        responder.head(200, (("content-type", "application/grpc"),))
        await asyncio.sleep(0)
        before = transport.written
        responder.message(b"message")
        assert (transport.written != before) is alone
        await asyncio.sleep(0)
        assert transport.written.endswith(b"message")


@pytest.mark.parametrize(
    ("content_type", "streams", "at_once"),
    [
        ("text/event-stream; charset=utf-8", False, True),
        ("application/x-ndjson", False, True),
        ("application/json", False, False),
        ("application/grpc", True, True),
        ("application/grpc", False, False),
    ],
)
async def test_a_stream_that_is_passed_through_leaves_as_it_comes(
    content_type: str, streams: bool, at_once: bool
) -> None:
    """Pieces of a runtime's stream do not wait for another turn; one answer does, to leave whole."""
    application = Silent()
    protocol, transport = take(application)
    protocol.data_received(POST)
    answer = PassthroughAnswer(application.sinks[0].responder, streams, streams=streams)
    answer.on_head(200, (("content-type", content_type),))
    answer.on_data(b"piece")
    assert (b"piece" in transport.written) is at_once


async def test_pipelined_calls_are_answered_in_order(confdir: Path) -> None:
    """Requests sent at once are served one after the other, each freed by the answer before it."""
    async with serving(Whole(), confdir) as port, asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"hello", b"first") + POST.replace(b"hello", b"secnd") + POST)
        for expected in (b"first", b"secnd", b"hello"):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(5) == expected
        writer.close()


async def test_a_client_that_leaves_cancels_its_call(confdir: Path) -> None:
    """The end of the connection reaches the call that is in flight."""
    application = Silent()
    async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        while not application.sinks:  # noqa: ASYNC110 - the toy application tells nobody
            await asyncio.sleep(0)
        writer.close()
        while not application.sinks[0].cancelled:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)


async def test_a_client_that_does_not_read_is_not_read(confdir: Path) -> None:
    """Answers that nobody takes stop the reading of further requests, so memory stays bounded."""
    application = Echo()
    big = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(1000000)
    async with serving(application, confdir) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # StreamReader has no way to say so
        for _ in range(100):
            writer.write(big)
        seen = -1
        while seen != len(application.sinks):
            seen = len(application.sinks)
            await asyncio.sleep(0.2)
        assert 0 < seen < 50
        writer.transport.abort()


async def test_idle_clients_are_closed(confdir: Path) -> None:
    """A connection without traffic is closed by mitmproxy's watchdog as before; one with traffic is not idle."""
    limits = Limits(idle_seconds=1)
    async with serving(Whole(), confdir, limits=limits) as port, asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(4):
            writer.write(POST)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.4)
        assert await reader.read() == b""
        writer.close()


async def test_the_first_bytes_of_a_connection_keep_their_order(confdir: Path) -> None:
    """A large request that arrives at once on a new connection is received as it was sent, byte for byte."""
    body = b"".join(b"%07d " % number for number in range(1 << 18))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(Echo(), confdir) as port:
        for _ in range(5):
            _, _, echoed = (await talk(port, head + body)).partition(b"\r\n\r\n")
            assert echoed == body


@pytest.mark.parametrize("ends", [False, True], ids=["open", "half closed"])
async def test_a_large_first_request_is_soon_served_from_its_socket(
    confdir: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """What mitmproxy has read of a request by then comes first, nothing is lost, and it reads no more of it."""
    body = b"".join(b"%07d " % number for number in range(1 << 21))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    received: list[int] = []

    class Noted(DirectProtocol):
        def data_received(self, data: bytes) -> None:
            received.append(len(data))
            super().data_received(data)

    monkeypatch.setattr(inject, "DirectProtocol", Noted)
    async with serving(Echo(), confdir) as port, asyncio.timeout(TIMEOUT):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=len(body) * 2)
        writer.write(head + body)
        if ends:
            writer.write_eof()
        _, _, echoed = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert echoed == body
    assert sum(received) > len(body) // 2
