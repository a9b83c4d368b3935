"""The HTTP/1.1 pool over real sockets."""

import asyncio
import logging
import socket
from collections import Counter

import pytest

from inferbridge.bridge.errors import Code
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.limits import Limits
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import Call, Pool, UpstreamRequest
from inferbridge.upstream.http1 import Http1Pool
from upstream.conftest import OpenPool
from upstream.h1_server import Answer, H1Server, Request, h1_server
from upstream.recorder import Broken, Recorder

GET = UpstreamRequest("GET", "/v2/health/ready", idempotent=True)
POST = UpstreamRequest("POST", "/v2/models/m/infer", (("content-type", "application/json"),), (b'{"a"', b":1}"))


def _send(pool: Pool, request: UpstreamRequest = GET, timeout: float | None = None) -> tuple[Recorder, Call]:
    recorder = Recorder()
    return recorder, pool.send(request, recorder, timeout)


async def test_requests_arrive_as_http11(opened: OpenPool) -> None:
    """Request line, Host, Content-Length and fields are what a server expects, and only those."""
    async with h1_server() as server:
        pool = opened(server.url)
        await _send(pool)[0].answer()
        recorder = await _send(pool, POST)[0].answer()
        await _send(pool, UpstreamRequest("POST", "/v2/repository/index"))[0].answer()
    host = ("host", server.url.removeprefix("http://"))
    get, post, empty = server.requests
    assert (get.line, get.headers) == ("GET /v2/health/ready HTTP/1.1", [host])
    assert post.line == "POST /v2/models/m/infer HTTP/1.1"
    assert post.headers == [host, ("content-type", "application/json"), ("content-length", "7")]
    assert post.body == b'{"a":1}'
    assert empty.headers == [host, ("content-length", "0")]
    assert (recorder.status, recorder.body, recorder.trailers) == (200, b"ok", ())


class Turns(Recorder):
    """Notes how much came in each turn of the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[int] = Counter()
        self._turn = 0
        self._next()

    def _next(self) -> None:
        self._turn += 1
        if not self.finished.is_set():
            asyncio.get_running_loop().call_soon(self._next)

    def on_data(self, data: Buffer) -> None:
        """Note its size."""
        self.bytes[self._turn] += len(data)


async def test_much_is_read_in_turns(opened: OpenPool) -> None:
    """However much a runtime has sent, each turn of the event loop brings one read: it may be one too many already."""
    size = 16 << 20
    answer = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, bytes(size)))
    async with h1_server(lambda _: answer) as server:
        turns = Turns()
        opened(server.url).send(GET, turns)
        await turns.answer()
    assert turns.bytes.total() == size
    assert max(turns.bytes.values()) <= 2 << 18


async def test_connections_are_kept_and_the_last_used_comes_first(opened: OpenPool) -> None:
    """One call after another uses one connection, also when there are more to choose from."""
    async with h1_server() as server:
        pool = opened(server.url)
        for recorder, _ in [_send(pool), _send(pool)]:
            await recorder.answer()
        assert server.connections == 2
        for _ in range(5):
            await _send(pool)[0].answer()
        assert server.connections == 2
        assert len({request.connection for request in server.requests[2:]}) == 1


async def test_a_call_from_on_end_uses_the_same_connection(opened: OpenPool) -> None:
    """The connection is free before the receiver hears of the end."""
    async with h1_server() as server:
        pool = opened(server.url)
        second = Recorder()

        class Next(Recorder):
            def on_end(self, trailers: Headers) -> None:
                super().on_end(trailers)
                pool.send(GET, second)

        first = Next()
        pool.send(GET, first)
        await second.answer()
        assert server.connections == 1


async def test_calls_beyond_the_connections_wait_their_turn() -> None:
    """With four connections a hundred calls are all answered, four at a time; beyond the queue they fail at once."""
    async with h1_server() as server:
        pool = Http1Pool(parse_address(server.url), Limits(), None, max_connections=4, max_waiting=96)
        sent = [_send(pool)[0] for _ in range(101)]
        error = await sent[100].failure()
        assert (error.code, error.message) == (Code.UNAVAILABLE, f"{server.url}: 96 calls are waiting already")
        for recorder in sent[:100]:
            await recorder.answer()
        assert server.connections == 4
        assert server.most_busy <= 4
        await pool.close()


async def test_a_connection_dropped_without_a_word_costs_no_call(opened: OpenPool) -> None:
    """After a response that promised keep-alive the server closes, as uvicorn does; the next calls are answered."""
    fail = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"
    async with h1_server(lambda _: Answer(fail, after="close")) as server:
        pool = opened(server.url)
        for _ in range(20):
            recorder = await _send(pool, POST)[0].answer()
            assert recorder.status == 500


def _stale(after: str) -> object:
    def behave(request: Request) -> Answer:
        return Answer(b"", after=after) if request.nth == 2 else Answer()  # type: ignore[arg-type]

    return behave


@pytest.mark.parametrize("after", ["close", "reset"])
async def test_a_stale_connection_is_replaced(opened: OpenPool, after: str) -> None:
    """A reused connection closed before a byte of the answer: an idempotent call is sent again on a new one, once."""
    async with h1_server(_stale(after)) as server:  # type: ignore[arg-type]
        pool = opened(server.url)
        await _send(pool)[0].answer()
        await _send(pool)[0].answer()
        assert [(request.connection, request.nth) for request in server.requests] == [(1, 1), (1, 2), (2, 1)]


@pytest.mark.parametrize("after", ["close", "reset"])
async def test_what_is_not_idempotent_is_never_sent_twice(opened: OpenPool, after: str) -> None:
    """The same of a call that the runtime may have worked on: it fails, and the server has seen it once."""
    async with h1_server(_stale(after)) as server:  # type: ignore[arg-type]
        pool = opened(server.url)
        await _send(pool, POST)[0].answer()
        error = await _send(pool, POST)[0].failure()
        assert (error.code, len(server.requests)) == (Code.UNAVAILABLE, 2)


@pytest.mark.parametrize("request_", [GET, POST], ids=["get", "post"])
async def test_a_new_connection_closed_is_a_failure(opened: OpenPool, request_: UpstreamRequest) -> None:
    """A server that closes a new connection instead of answering is not asked again."""
    async with h1_server(lambda _: Answer(b"", after="close")) as server:
        error = await _send(opened(server.url), request_)[0].failure()
        assert error.code is Code.UNAVAILABLE
        assert error.message == f"connection to {server.url} lost: closed by the runtime"
        assert len(server.requests) == 1


async def test_the_second_try_is_the_last(opened: OpenPool) -> None:
    """When the new connection breaks too, the call fails."""
    first = True

    def behave(request: Request) -> Answer:
        nonlocal first
        answer = Answer() if first else Answer(b"", after="close")
        first = False
        return answer

    async with h1_server(behave) as server:
        pool = opened(server.url)
        await _send(pool)[0].answer()
        await _send(pool)[0].failure()
        assert len(server.requests) == 3


async def test_nothing_is_repeated_once_an_answer_has_begun(opened: OpenPool) -> None:
    """A reused connection cut off within the answer is a failure, whatever the method."""

    def behave(request: Request) -> Answer:
        return Answer(b"HTTP/1.1 200 OK\r\nconte", after="close") if request.nth == 2 else Answer()

    async with h1_server(behave) as server:
        pool = opened(server.url)
        await _send(pool)[0].answer()
        assert (await _send(pool)[0].failure()).code is Code.UNAVAILABLE
        assert len(server.requests) == 2


async def test_redirects_are_answers(opened: OpenPool) -> None:
    """A 307 is passed on, not followed."""
    moved = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with h1_server(lambda _: Answer(moved)) as server:
        recorder = await _send(opened(server.url))[0].answer()
        assert (recorder.status, dict(recorder.headers)["location"]) == (307, "/elsewhere")
        assert len(server.requests) == 1


async def test_chunks_trailers_and_bodies_until_close(opened: OpenPool) -> None:
    """Every framing of a body is understood over a real connection."""
    answers = [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ]
    async with h1_server(lambda r: Answer(answers[r.nth - 1], "close" if r.nth == 3 else "keep")) as server:
        pool = opened(server.url)
        seen = [await _send(pool)[0].answer() for _ in answers]
    assert [(each.status, each.body) for each in seen] == [(200, b"abc"), (204, b""), (200, b"abc")]
    assert seen[0].trailers == (("x-t", "1"),)
    assert server.connections == 1


async def test_head_leaves_the_connection_usable(opened: OpenPool) -> None:
    """The answer to HEAD has a length but no body."""
    async with h1_server(lambda _: Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")) as server:
        pool = opened(server.url)
        for _ in range(2):
            await _send(pool, UpstreamRequest("HEAD", "/"))[0].answer()
        assert server.connections == 1


async def test_large_bodies_both_ways(opened: OpenPool) -> None:
    """20 MB in chunks go out and come back unchanged."""

    def echo(request: Request) -> Answer:
        return Answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(request.body) + request.body)

    chunks = [bytes([i]) * (1 << 20) for i in range(20)]
    async with h1_server(echo) as server:
        pool = opened(server.url)
        recorder = await _send(pool, UpstreamRequest("POST", "/", (), chunks))[0].answer()
        assert recorder.body == b"".join(chunks)
        await _send(pool, POST)[0].answer()
        assert server.connections == 1


async def test_cancel_closes_the_connection(opened: OpenPool) -> None:
    """The server sees the connection closed, the receiver hears nothing, the pool goes on."""
    hold = asyncio.Event()
    async with h1_server(lambda r: Answer(hold=hold if r.connection == 1 else None)) as server:
        pool = opened(server.url)
        recorder, call = _send(pool)
        await asyncio.wait_for(server.arrived.wait(), 5)
        call.cancel()
        call.cancel()
        await asyncio.wait_for(server.left.wait(), 5)
        await _send(pool)[0].answer()
        assert not recorder.finished.is_set()
        assert recorder.heads == 0


async def test_cancelled_while_waiting_is_never_sent() -> None:
    """A call cancelled in the queue or while its connection is opened does not reach the server."""
    async with h1_server() as server:
        pool = Http1Pool(parse_address(server.url), Limits(), None, max_connections=1)
        calls = [_send(pool), _send(pool), _send(pool)]
        calls[0][1].cancel()
        calls[1][1].cancel()
        await calls[2][0].answer()
        assert len(server.requests) == 1
        await pool.close()


async def test_the_deadline_covers_the_whole_call(opened: OpenPool) -> None:
    """No complete answer in time: DEADLINE_EXCEEDED, and the connection is closed."""
    part = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"
    async with h1_server(lambda _: Answer(part)) as server:
        recorder, _ = _send(opened(server.url), timeout=0.2)
        error = await recorder.failure()
        assert error.code is Code.DEADLINE_EXCEEDED
        assert error.message == f"no complete answer from {server.url} within 0.2 s"
        assert recorder.body == b"ab"
        await asyncio.wait_for(server.left.wait(), 5)


@pytest.mark.parametrize("framing", [b"content-length: 1001", b"x: y"])
async def test_replies_are_limited(opened: OpenPool, framing: bytes) -> None:
    """A reply over the limit fails with RESOURCE_EXHAUSTED."""
    answer = Answer(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + bytes(1001), after="close")
    async with h1_server(lambda _: answer) as server:
        recorder, _ = _send(opened(server.url, Limits(reply_bytes=1000)))
        error = await recorder.failure()
        assert (error.code, error.message) == (
            Code.RESOURCE_EXHAUSTED,
            f"reply from {server.url} exceeds 1000 bytes",
        )


async def test_a_refused_reply_does_not_hand_its_connection_on(opened: OpenPool) -> None:
    """A reply complete in one read but over the limit leaves its connection closed, not idle."""
    answer = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n" + bytes(1001))
    async with h1_server(lambda r: answer if r.connection == 1 else Answer()) as server:
        pool = opened(server.url, Limits(reply_bytes=1000))
        await _send(pool)[0].failure()
        await _send(pool)[0].answer()
        assert server.connections == 2


async def test_unasked_bytes_end_the_connection(opened: OpenPool) -> None:
    """A second response behind the first is never taken for the answer to the next call."""
    double = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok" * 2
    async with h1_server(lambda _: Answer(double)) as server:
        pool = opened(server.url)
        for _ in range(3):
            assert (await _send(pool)[0].answer()).body == b"ok"
        assert server.connections == 3


async def test_a_server_of_another_protocol(opened: OpenPool) -> None:
    """What is not HTTP/1.1 is an INTERNAL error that says so."""
    async with h1_server(lambda _: Answer(b"\0\0\0\4\0\0\0\0\0")) as server:
        error = await _send(opened(server.url))[0].failure()
        assert error.code is Code.INTERNAL
        assert f"{server.url} does not speak HTTP/1.1" in error.message


async def test_idle_connections_are_closed() -> None:
    """A connection nobody has used for a while is closed by us."""
    async with h1_server() as server:
        pool = Http1Pool(parse_address(server.url), Limits(), None, idle_seconds=0.05)
        await _send(pool)[0].answer()
        await asyncio.wait_for(server.left.wait(), 5)
        await _send(pool)[0].answer()
        assert server.connections == 2
        await pool.close()


async def test_nobody_listening(opened: OpenPool) -> None:
    """Calls fail with UNAVAILABLE, the URL and the reason."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        pool = opened(url)
        for recorder in [_send(pool)[0] for _ in range(3)]:
            error = await recorder.failure()
            assert (error.code, error.message) == (
                Code.UNAVAILABLE,
                f"cannot connect to {url}: connection refused",
            )


async def test_connecting_under_eager_tasks(opened: OpenPool) -> None:
    """With an eager task factory, as mitmproxy has it, `send` still returns before the call can fail."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            pool = opened(f"http://127.0.0.1:{unused.getsockname()[1]}")
            for _ in range(2):
                recorder, _ = _send(pool)
                assert not recorder.finished.is_set()
                await recorder.failure()
        async with h1_server() as server:
            await _send(opened(server.url))[0].answer()
    finally:
        loop.set_task_factory(None)


async def test_those_who_wait_share_a_connection_failure() -> None:
    """When no connection can be opened, the queue does not wait for its turn to fail."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        pool = Http1Pool(parse_address(url), Limits(), None, max_connections=2)
        for recorder in [_send(pool)[0] for _ in range(50)]:
            assert (await recorder.failure()).code is Code.UNAVAILABLE
        await pool.close()


async def test_injection_reaches_nobody(opened: OpenPool) -> None:
    """A header with a line break fails the call, after `send` has returned, and nothing is connected."""
    async with h1_server() as server:
        recorder, _ = _send(opened(server.url), UpstreamRequest("GET", "/", (("x", "a\r\nb: c"),)))
        assert not recorder.finished.is_set()
        assert (await recorder.failure()).code is Code.INVALID_ARGUMENT
        assert server.connections == 0


@pytest.mark.parametrize("where", ["head", "data", "end"])
async def test_a_receiver_that_raises_harms_nobody_else(
    opened: OpenPool, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """The exception is logged, its call is over, other calls go on."""
    async with h1_server() as server:
        pool = opened(server.url)
        broken = Broken(where)
        pool.send(GET, broken)
        await asyncio.wait_for(broken.started.wait(), 5)
        await _send(pool)[0].answer()
        assert broken.finished.is_set() == (where == "end")
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in errors] == ["inferbridge.upstream"]
    assert errors[0].exc_info is not None


async def _closing(server: H1Server, pool: Pool) -> list[Recorder]:
    sent = [_send(pool)[0] for _ in range(2)]
    while len(server.requests) < 2:
        server.arrived.clear()
        await asyncio.wait_for(server.arrived.wait(), 5)
    return [*sent, _send(pool)[0]]


async def test_close_fails_what_is_in_flight_or_connecting(opened: OpenPool) -> None:
    """`close` ends calls in flight and calls still connecting, and later calls fail too."""
    async with h1_server(lambda _: Answer(hold=asyncio.Event())) as server:
        pool = opened(server.url)
        sent = await _closing(server, pool)
        await pool.close()
        sent.append(_send(pool)[0])
        for recorder in sent:
            error = await recorder.failure()
            assert (error.code, error.message) == (
                Code.UNAVAILABLE,
                f"{server.url}: the gateway is stopping",
            )
