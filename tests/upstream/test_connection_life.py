"""How connections to a runtime grow old, fall silent and break, over real sockets."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from inferbridge.bridge.errors import Code
from inferbridge.gateway.limits import Limits
from inferbridge.upstream import breaker, pinging
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import Pool, UpstreamRequest
from inferbridge.upstream.http1 import Http1Pool
from inferbridge.upstream.http2 import Http2Pool
from inferbridge.upstream.http2_connection import Http2Connection
from inferbridge.upstream.retries import Reason, Retries
from upstream.conftest import OpenPool
from upstream.grpc_server import framed, grpc_request
from upstream.h1_server import Answer, Request, h1_server
from upstream.h2_server import HEAD, H2Server, Peer, h2_server
from upstream.recorder import Recorder

GET = UpstreamRequest("GET", "/v2/health/ready", idempotent=True)
POST = UpstreamRequest("POST", "/v1/completions", (("content-type", "application/json"),), (b"{}",))


def _send(pool: Pool, request: UpstreamRequest | None = None) -> Recorder:
    recorder = Recorder()
    pool.send(request or grpc_request("Echo", b"hello", False), recorder, 20.0)
    return recorder


async def _until(server: H2Server, requests: int) -> None:
    while len(server.requests) < requests:
        server.arrived.clear()
        await asyncio.wait_for(server.arrived.wait(), 10)


def _only(pool: Http2Pool) -> Http2Connection:
    (connection,) = pool._connections
    return connection


async def test_an_old_connection_finishes_what_it_has_while_calls_go_to_another() -> None:
    """The stream that runs on it is answered; then it is closed."""
    async with h2_server(lambda peer, stream_id: None) as server:
        pool = Http2Pool(parse_address(server.url), Limits(), None, age_seconds=0.05)
        running = _send(pool)
        await _until(server, 1)
        first = _only(pool)
        while pool._current is first:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)
        server.behave = Peer.answer
        await _send(pool).answer()
        assert server.requests[-1][0] == len(server.peers) > 1
        assert not running.finished.is_set()
        server.peers[0].answer(1)
        server.peers[0].flush()
        assert (await running.answer()).body == b"reply"
        await asyncio.wait_for(first.gone, 10)
        await pool.close()


async def test_an_old_connection_that_nobody_uses_is_closed() -> None:
    """And none takes its place until there is a call."""
    async with h2_server() as server:
        pool = Http2Pool(parse_address(server.url), Limits(), None, age_seconds=0.05)
        await _send(pool).answer()
        await asyncio.wait_for(_only(pool).gone, 10)
        assert (pool.connections, len(server.peers)) == (0, 1)
        await _send(pool).answer()
        await pool.close()


async def test_an_old_connection_goes_on_when_no_other_can_be_opened() -> None:
    """The runtime accepts no more, so calls still go where they are answered."""
    async with h2_server(lambda peer, stream_id: None) as server:
        pool = Http2Pool(parse_address(server.url), Limits(), None)
        running = _send(pool)
        await _until(server, 1)
        connection = _only(pool)
        pool._connect_failed(pool._connector.failure(ConnectionRefusedError()))
        assert (pool._current, pool.breaker.failures) == (connection, 0)
        server.peers[0].answer(1)
        server.peers[0].flush()
        await running.answer()
        await pool.close()


async def test_an_old_rest_connection_takes_no_more_calls() -> None:
    """Its call ends in peace, and the next opens another."""
    async with h1_server() as server:
        pool = Http1Pool(parse_address(server.url), Limits(), None, age_seconds=0.0)
        for _ in range(3):
            await _send(pool, POST).answer()
        assert [(request.connection, request.nth) for request in server.requests] == [(1, 1), (2, 1), (3, 1)]
        await pool.close()


async def test_a_silent_connection_is_dead(opened: OpenPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that does not even answer a PING fails its calls with UNAVAILABLE, and the next call connects anew."""
    monkeypatch.setattr(pinging, "PING_SECONDS", 0.02)
    monkeypatch.setattr(pinging, "PING_ANSWER_SECONDS", 0.05)

    def freeze(peer: Peer, stream_id: int) -> None:
        peer.transport.pause_reading()

    async with h2_server(freeze) as server:
        pool = opened(server.url)
        error = await _send(pool).failure()
        assert (error.code, error.message) == (
            Code.UNAVAILABLE,
            f"connection to {server.url} lost: no answer to a PING within 0.05 s",
        )
        assert len(server.requests) == 1
        server.behave = Peer.answer
        await _send(pool).answer()


async def test_a_retry_says_that_it_is_one(opened: OpenPool) -> None:
    """An idempotent call whose connection broke carries grpc-previous-rpc-attempts the second time, and only then."""
    seen: list[object] = []

    def behave(peer: Peer, stream_id: int) -> None:
        if len(server.requests) == 1:
            peer.transport.abort()
        else:
            peer.answer(stream_id)

    async with h2_server(behave) as server:
        server.on_head = lambda peer, stream_id: seen.append(dict(peer.heads[stream_id]))
        await _send(opened(server.url), grpc_request("Echo", b"hello", True)).answer()
    names = [head.get("grpc-previous-rpc-attempts") for head in seen if isinstance(head, dict)]
    assert names == [None, "1"]


async def test_running_streams_outlive_goaway_and_unprocessed_ones_are_sent_again(opened: OpenPool) -> None:
    """Each of the two is answered once, by the connection that was to answer it."""

    def behave(peer: Peer, stream_id: int) -> None:
        if peer.number > 1:
            peer.answer(stream_id, b"second")
        elif stream_id == 3:
            peer.h2.close_connection(last_stream_id=1)

    async with h2_server(behave) as server:
        pool = opened(server.url)
        running = _send(pool)
        await _until(server, 1)
        unprocessed = _send(pool)
        assert (await unprocessed.answer()).body == b"second"
        assert not running.finished.is_set()
        # the h2 library sends nothing more after its own GOAWAY
        server.peers[0].transport.write(_answer_of(1))
        assert (await running.answer()).body == b"first"
        assert server.requests == [(1, 1), (1, 3), (2, 1)]


def _answer_of(stream_id: int) -> bytes:
    """The frames of an answer."""
    server, client = H2Connection(H2Configuration(client_side=False)), H2Connection()
    client.initiate_connection()
    client.send_headers(stream_id, [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "a")])
    server.initiate_connection()
    server.data_to_send()
    server.receive_data(client.data_to_send())
    server.data_to_send()
    server.send_headers(stream_id, HEAD)
    server.send_data(stream_id, b"first")
    server.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
    return server.data_to_send()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_calls_to_a_dead_runtime_fail_at_once_and_it_is_back_soon_after_it_returns(
    opened: OpenPool, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """The breaker opens after five failures; when the runtime listens again, calls are answered within two seconds."""
    request = POST if protocol == "http" else None
    with socket.socket() as place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        pool = opened(f"{protocol}://127.0.0.1:{port}")
        for _ in range(breaker.FAILURES):
            assert "connection refused" in (await _send(pool, request).failure()).message
        error = await _send(pool, request).failure()
        assert error.message.startswith(f"{protocol}://127.0.0.1:{port} is not called for now")
        assert error.retry_after is not None
    loop = asyncio.get_running_loop()
    async with h2_server(port=port) if protocol == "grpc" else h1_server(port=port):
        back = loop.time()
        async with asyncio.timeout(20):
            while (await _send(pool, request).done()).error is not None:
                pass
        assert loop.time() - back <= 2.0


class Unlucky:
    """Opens connections, but for the first time."""

    def __init__(self, pool: Http1Pool | Http2Pool, error: Exception) -> None:
        self.tries = 0
        self._open = pool._connector.open
        self._error = error

    async def open[P: asyncio.Protocol](self, factory: Callable[[], P]) -> P:
        self.tries += 1
        if self.tries == 1:
            raise self._error
        return await self._open(factory)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(("error", "tries"), [(ConnectionRefusedError(), 2), (TimeoutError(), 1), (OSError(), 1)])
async def test_connecting_is_tried_once_more(
    protocol: str, error: Exception, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it was refused at once: generation too, for nothing was sent. Time that is over is not spent twice."""
    async with h2_server() if protocol == "grpc" else h1_server() as server:
        kind = Http2Pool if protocol == "grpc" else Http1Pool
        heard: list[Reason] = []
        pool = kind(parse_address(server.url), Limits(), None, retries=Retries(heard.append))
        unlucky = Unlucky(pool, error)
        monkeypatch.setattr(pool._connector, "open", unlucky.open)
        recorder = await _send(pool, POST if protocol == "http" else None).done()
        assert (recorder.error is None, unlucky.tries, len(heard)) == (tries == 2, tries, tries - 1)
        await pool.close()


async def test_connections_that_answer_nothing_open_the_breaker(opened: OpenPool) -> None:
    """A runtime that accepts and then dies, whatever it is asked, is not asked a sixth time."""

    def die(request: Request) -> Answer:
        return Answer(b"", "reset")

    async with h1_server(die) as server:
        pool = opened(server.url)
        for _ in range(breaker.FAILURES + 3):
            await _send(pool, POST).failure()
        assert len(server.requests) == breaker.FAILURES
    async with h2_server(lambda peer, stream_id: peer.transport.abort()) as server2:
        pool = opened(server2.url)
        for _ in range(breaker.FAILURES + 3):
            await _send(pool).failure()
        assert len(server2.requests) == breaker.FAILURES


async def test_many_calls_lost_with_one_connection_are_one_failure(opened: OpenPool) -> None:
    """A runtime that is killed while it serves fifty calls and comes back at once is called at once."""
    async with h2_server(lambda peer, stream_id: None) as server:
        pool = opened(server.url)
        lost = [_send(pool) for _ in range(50)]
        await _until(server, 50)
        server.behave = Peer.answer
        server.peers[0].transport.abort()
        for recorder in lost:
            await recorder.failure()
        assert (await _send(pool).answer()).body == b"reply"
        assert len(server.requests) == 51


async def test_a_runtime_killed_in_the_middle_of_an_answer_is_a_failure_and_no_retry(opened: OpenPool) -> None:
    """Idempotent or not, what has begun to arrive is never asked for again, and never waited for."""

    def die(peer: Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, HEAD)
        peer.h2.send_data(stream_id, framed(b"some")[0])
        peer.flush()
        peer.transport.close()

    async with h2_server(die) as server:
        recorder = _send(opened(server.url), grpc_request("Echo", b"hello", True))
        assert (await recorder.failure()).code is Code.UNAVAILABLE
        assert (recorder.status, len(server.requests)) == (200, 1)
