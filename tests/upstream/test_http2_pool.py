"""The HTTP/2 pool over real sockets: grpcio for what is right, a scripted server for what is wrong."""

import asyncio
import gc
import logging
import socket
import threading
import weakref
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes

from inferbridge.bridge.errors import Code
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames
from inferbridge.http2.frames import frame_header
from inferbridge.upstream import http2_call
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import Call, DuplexPool, GrowingCall, Pool, UpstreamRequest
from inferbridge.upstream.http2 import Http2Pool
from upstream.conftest import OpenPool
from upstream.grpc_server import BIG, framed, grpc_request, grpc_server
from upstream.h2_server import HEAD, Peer, h2_server
from upstream.recorder import Broken, Recorder


def _send(
    pool: Pool, method: str = "Echo", message: bytes = b"hello", timeout: float | None = None, idempotent: bool = False
) -> tuple[Recorder, Call]:
    recorder = Recorder()
    return recorder, pool.send(grpc_request(method, message, idempotent), recorder, timeout)


async def _set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def test_a_unary_call_to_grpcio(opened: OpenPool) -> None:
    """Message, metadata and trailers pass between the pool and a real gRPC server."""
    with grpc_server() as (_, port, seen):
        recorder = await _send(opened(f"grpc://localhost:{port}"))[0].answer()
        assert seen.metadata["x-request"] == "r"
    assert recorder.status == 200
    assert dict(recorder.headers)["content-type"] == "application/grpc"
    assert recorder.body == b"".join(framed(b"hello"))
    assert recorder.trailers is not None
    assert dict(recorder.trailers)["grpc-status"] == "0"
    assert dict(recorder.trailers)["x-trailer"] == "t"


async def test_a_call_that_has_ended_is_gone(opened: OpenPool) -> None:
    """An ended call leaves no cycle behind: until the garbage collector came by, its bodies would fill the memory."""
    with grpc_server() as (_, port, _):
        recorder, call = _send(opened(f"grpc://localhost:{port}"))
        await recorder.answer()
        seen = weakref.ref(recorder)
        gc.disable()
        try:
            del recorder, call
            assert seen() is None
        finally:
            gc.enable()


async def test_errors_and_streams_of_grpcio(opened: OpenPool) -> None:
    """A status other than OK arrives in trailers or, for an unknown method, in the head; a stream arrives whole."""
    with grpc_server() as (_, port, _):
        pool = opened(f"grpc://localhost:{port}")
        failed = await _send(pool, "Fail")[0].answer()
        unknown = await _send(pool, "Unknown")[0].answer()
        stream = await _send(pool, "Stream")[0].answer()
    trailers = dict(failed.trailers or failed.headers)
    assert (trailers["grpc-status"], trailers["grpc-message"]) == ("5", "no such model: %C3%9C")
    assert dict(unknown.trailers or unknown.headers)["grpc-status"] == "12"
    assert stream.body == b"".join(b"".join(framed(b"%d" % index)) for index in range(50))


async def test_large_messages_both_ways(opened: OpenPool) -> None:
    """20 MB go out and come back unchanged, while small calls on the same connection are served."""
    message = bytes(range(256)) * (BIG // 256)
    with grpc_server() as (_, port, seen):
        pool = opened(f"grpc://localhost:{port}")
        large, _ = _send(pool, message=message)
        small = [_send(pool)[0] for _ in range(10)]
        for recorder in small:
            await recorder.answer()
        await large.answer()
        assert large.body == b"".join(framed(message))
        assert len(seen.peers) == 1


async def test_many_calls_share_one_connection_within_the_servers_limit(opened: OpenPool) -> None:
    """200 concurrent calls are answered over one connection, never more than ten at a time."""
    with grpc_server(options=(("grpc.max_concurrent_streams", 10),)) as (_, port, seen):
        pool = opened(f"grpc://localhost:{port}")
        sent = [_send(pool, message=b"%d" % index)[0] for index in range(200)]
        for index, recorder in enumerate(sent):
            await recorder.answer()
            assert recorder.body == b"".join(framed(b"%d" % index))
        assert len(seen.peers) == 1
        assert seen.most_active <= 10


async def test_cancel_reaches_the_server(opened: OpenPool) -> None:
    """The server's handler learns of the cancellation; the connection goes on."""
    with grpc_server() as (_, port, seen):
        pool = opened(f"grpc://localhost:{port}")
        recorder, call = _send(pool, "Wait")
        await _set(seen.waiting)
        call.cancel()
        await _set(seen.cancelled)
        await _send(pool)[0].answer()
        assert recorder.heads == 0
        assert not recorder.finished.is_set()


def _begin(pool: Pool, drained: Callable[[], None] = lambda: None) -> tuple[Recorder, GrowingCall]:
    assert isinstance(pool, DuplexPool)
    recorder = Recorder()
    request = grpc_request("Echo")
    return recorder, pool.begin(UpstreamRequest(request.method, request.path, request.headers), recorder, drained, 10.0)


async def test_a_growing_request_can_be_written_before_there_is_a_connection(opened: OpenPool) -> None:
    """What comes while the pool connects goes out in order, and then there is room again."""
    rooms: list[bool] = []
    with grpc_server() as (_, port, _):
        recorder, call = _begin(opened(f"grpc://localhost:{port}"), lambda: rooms.append(True))
        first, *rest = framed(b"hello")
        assert not call.write(first)
        assert not call.write(b"".join(rest))
        call.finish()
        await recorder.answer()
    assert recorder.body == b"".join(framed(b"hello"))
    assert rooms in ([], [True])


@pytest.mark.parametrize(("size", "tries"), [(0, 2), (1, 2), (100, 2), (101, 1)])
async def test_a_growing_request_is_sent_again_while_all_of_it_is_kept(
    opened: OpenPool, monkeypatch: pytest.MonkeyPatch, size: int, tries: int
) -> None:
    """A server that refuses a stream gets it again, whole and in order, unless more of it has left than is kept."""
    monkeypatch.setattr("inferbridge.upstream.http2_call._KEPT_BYTES", 100)
    again = asyncio.Event()

    def refuse_first(peer: Peer, stream_id: int) -> None:
        if len(server.requests) == 1:
            peer.h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            again.set()

    async with h2_server() as server:
        server.on_head = refuse_first
        recorder, call = _begin(opened(server.url))
        call.write(b"a" * size)
        if tries > 1:
            await asyncio.wait_for(again.wait(), 10)
            call.write(b"b")
            call.finish()
        await recorder.done()
        assert len(server.requests) == tries
        assert (recorder.error is None) is (tries > 1)
        if tries > 1:
            assert server.peers[0].bodies[server.requests[-1][1]] == b"a" * size + b"b"


async def test_the_deadline_cancels_at_the_server(opened: OpenPool) -> None:
    """On expiry the call fails with DEADLINE_EXCEEDED and the server is told to stop."""
    with grpc_server() as (_, port, seen):
        recorder, _ = _send(opened(f"grpc://localhost:{port}"), "Wait", timeout=0.2)
        error = await recorder.failure()
        assert error.code is Code.DEADLINE_EXCEEDED
        assert error.message == f"no complete answer from grpc://localhost:{port} within 0.2 s"
        await _set(seen.cancelled)


async def test_a_server_going_away_finishes_what_it_has(opened: OpenPool) -> None:
    """During a graceful stop the running call is answered and new calls find the server's successor."""
    with grpc_server() as (server, port, seen):
        pool = opened(f"grpc://localhost:{port}")
        running, _ = _send(pool, "Wait")
        await _set(seen.waiting)
        stopped = server.stop(10)
        with grpc_server(port=port) as (_, _, successor):
            async with asyncio.timeout(10):
                while not successor.peers:
                    await _send(pool)[0].done()
            assert not running.finished.is_set()
            seen.release.set()
            assert (await running.answer()).body == b"".join(framed(b"hello"))
            await _set(stopped)


async def test_calls_above_goaway_are_sent_again(opened: OpenPool) -> None:
    """A request the server says it has not looked at is answered by the next connection."""

    def behave(peer: Peer, stream_id: int) -> None:
        if peer.number == 1:
            peer.h2.close_connection(last_stream_id=0)
        else:
            peer.answer(stream_id)

    async with h2_server(behave) as server:
        recorder, _ = _send(opened(server.url))
        assert (await recorder.answer()).body == b"reply"
        assert server.requests == [(1, 1), (2, 1)]


async def test_calls_are_not_sent_again_for_ever(opened: OpenPool) -> None:
    """A server that only ever goes away fails the call with UNAVAILABLE."""
    async with h2_server(lambda peer, _: peer.h2.close_connection(last_stream_id=0)) as server:
        error = await _send(opened(server.url))[0].failure()
        assert (error.code, error.message) == (Code.UNAVAILABLE, f"{server.url} is going away")
        assert len(server.requests) == 2


async def test_refused_streams_are_sent_again(opened: OpenPool) -> None:
    """REFUSED_STREAM is repeated, twice at most; the third refusal is UNAVAILABLE."""
    refusals = 1

    def behave(peer: Peer, stream_id: int) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            peer.h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            peer.answer(stream_id)

    async with h2_server(behave) as server:
        pool = opened(server.url)
        await _send(pool)[0].answer()
        refusals = 10
        error = await _send(pool)[0].failure()
        assert (error.code, error.message) == (
            Code.UNAVAILABLE,
            f"{server.url} ended the call: RST_STREAM REFUSED_STREAM",
        )
        assert len(server.requests) == 5


async def test_a_refused_call_can_be_cancelled_or_closed(opened: OpenPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that waits to be sent again after a refusal is neither sent nor forgotten when it or the pool ends."""

    monkeypatch.setattr(http2_call, "_REFUSED_SECONDS", (60.0, 60.0))

    def behave(peer: Peer, stream_id: int) -> None:
        if stream_id < 5:
            peer.h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
        else:
            peer.answer(stream_id)

    async with h2_server(behave) as server:
        pool = opened(server.url)
        (cancelled, call), (closed, _), (answered, _) = _send(pool), _send(pool), _send(pool)
        await answered.answer()
        late, _ = _send(pool)
        call.cancel()
        await pool.close()
        for recorder in (closed, late):
            assert (await recorder.failure()).code is Code.UNAVAILABLE
        assert not cancelled.finished.is_set()
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (ErrorCodes.CANCEL, Code.CANCELLED),
        (ErrorCodes.ENHANCE_YOUR_CALM, Code.RESOURCE_EXHAUSTED),
        (ErrorCodes.INTERNAL_ERROR, Code.INTERNAL),
        (ErrorCodes.NO_ERROR, Code.INTERNAL),
    ],
)
async def test_resets_become_grpc_codes(opened: OpenPool, reset: ErrorCodes, code: Code) -> None:
    """RST_STREAM maps to the code that the gRPC specification gives it."""
    async with h2_server(lambda peer, stream_id: peer.h2.reset_stream(stream_id, reset)) as server:
        assert (await _send(opened(server.url))[0].failure()).code is code


@pytest.mark.parametrize(("idempotent", "tries"), [(False, 1), (True, 2)])
async def test_a_broken_connection(opened: OpenPool, idempotent: bool, tries: int) -> None:
    """When the connection breaks before an answer, only idempotent calls are sent again, once."""
    async with h2_server(lambda peer, _: peer.transport.abort()) as server:
        error = await _send(opened(server.url), idempotent=idempotent)[0].failure()
        assert error.code is Code.UNAVAILABLE
        assert error.message.startswith(f"connection to {server.url} lost: ")
        assert len(server.requests) == tries


async def test_a_connection_that_broke_while_idle_is_replaced(opened: OpenPool) -> None:
    """After the server has closed the connection the next call opens another."""
    async with h2_server() as server:
        pool = opened(server.url)
        await _send(pool)[0].answer()
        server.peers[0].transport.abort()
        recorder, _ = _send(pool)
        await recorder.done()
        if recorder.error is not None:  # it was sent before the loss could be seen
            await _send(pool)[0].answer()
        assert len(server.peers) == 2


async def test_violations_fail_all_calls_of_the_connection(opened: OpenPool) -> None:
    """A server that breaks the protocol loses the connection; its calls fail with INTERNAL, the next call is served."""

    def behave(peer: Peer, stream_id: int) -> None:
        if len(server.requests) == 2:
            peer.transport.write(b"\0\0\1\7\0\0\0\0\0x")
        elif len(server.requests) > 2:
            peer.answer(stream_id)

    async with h2_server(behave) as server:
        pool = opened(server.url)
        for recorder in [_send(pool)[0], _send(pool)[0]]:
            error = await recorder.failure()
            assert (error.code, error.message) == (
                Code.INTERNAL,
                f"{server.url} broke HTTP/2: GOAWAY too short",
            )
        await _send(pool)[0].answer()


async def test_a_server_of_another_protocol(opened: OpenPool) -> None:
    """An HTTP/1 server behind a grpc:// URL is UNAVAILABLE with a hint."""
    async with h2_server(greeting=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        error = await _send(opened(server.url))[0].failure()
        assert (error.code, error.message) == (
            Code.UNAVAILABLE,
            f"cannot connect to {server.url}: the first frame is not SETTINGS (no HTTP/2 server?)",
        )


async def test_a_silent_server(opened: OpenPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and says nothing is given up after the connect time."""
    monkeypatch.setattr("inferbridge.upstream.http2.CONNECT_SECONDS", 0.1)
    async with h2_server(greeting=b"") as server:
        error = await _send(opened(server.url))[0].failure()
        assert error.code is Code.UNAVAILABLE
        assert error.message.startswith(f"cannot connect to {server.url}: no answer within")


async def test_a_server_that_greets_with_goodbye(opened: OpenPool) -> None:
    """GOAWAY right behind the first SETTINGS fails the calls that wait, at the second try, with the server's reason."""
    greeting = frames.settings({}) + frame_header(12, frames.GOAWAY, 0, 0) + bytes(7) + b"\x0bfull"
    async with h2_server(greeting=greeting) as server:
        error = await _send(opened(server.url))[0].failure()
        assert error.message == f"cannot connect to {server.url}: GOAWAY ENHANCE_YOUR_CALM full"
        assert len(server.peers) == 2


async def test_nobody_listening(opened: OpenPool) -> None:
    """Calls fail with UNAVAILABLE, the URL and the reason, and the next call tries anew."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"grpc://127.0.0.1:{unused.getsockname()[1]}"
        pool = opened(url)
        for _ in range(2):
            for recorder in [_send(pool)[0] for _ in range(3)]:
                error = await recorder.failure()
                assert (error.code, error.message) == (
                    Code.UNAVAILABLE,
                    f"cannot connect to {url}: connection refused",
                )


async def test_an_unknown_host(opened: OpenPool) -> None:
    """A host that does not resolve is UNAVAILABLE with the resolver's words."""
    error = await _send(opened("grpc://nowhere.invalid:1"))[0].failure()
    assert error.code is Code.UNAVAILABLE
    assert error.message.startswith("cannot connect to grpc://nowhere.invalid:1: ")


async def test_connecting_under_eager_tasks(opened: OpenPool) -> None:
    """With an eager task factory, as mitmproxy has it, `send` still returns before the call can fail."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            pool = opened(f"grpc://127.0.0.1:{unused.getsockname()[1]}")
            for _ in range(2):
                recorder, _ = _send(pool)
                assert not recorder.finished.is_set()
                await recorder.failure()
        async with h2_server() as server:
            await _send(opened(server.url))[0].answer()
    finally:
        loop.set_task_factory(None)


async def test_the_queue_is_bounded() -> None:
    """Calls beyond the queue fail at once; a cancelled call gives its place back and is never sent."""
    async with h2_server() as server:
        pool = Http2Pool(parse_address(server.url), Limits(), None, max_waiting=2)
        first, second, third = _send(pool), _send(pool), _send(pool)
        assert (await third[0].failure()).code is Code.UNAVAILABLE
        first[1].cancel()
        fourth = _send(pool)
        for recorder, _ in (second, fourth):
            await recorder.answer()
        assert len(server.requests) == 2
        assert not first[0].finished.is_set()
        await pool.close()


async def test_replies_are_limited(opened: OpenPool) -> None:
    """A reply over the limit fails with RESOURCE_EXHAUSTED, its stream is reset, the connection goes on."""

    def behave(peer: Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, HEAD)
        peer.h2.send_data(stream_id, bytes(stream_id * 1000), end_stream=stream_id == 1)

    async with h2_server(behave) as server:
        pool = opened(server.url, Limits(reply_bytes=2000))
        await _send(pool)[0].answer()
        error = await _send(pool)[0].failure()
        assert (error.code, error.message) == (
            Code.RESOURCE_EXHAUSTED,
            f"reply from {server.url} exceeds 2000 bytes",
        )
        await asyncio.wait_for(server.reset.wait(), 5)
        assert server.resets == [(3, ErrorCodes.CANCEL)]
        assert len(server.peers) == 1


async def test_injection_reaches_nobody(opened: OpenPool) -> None:
    """A header with a line break fails the call, after `send` has returned, and nothing is connected."""
    async with h2_server() as server:
        recorder = Recorder()
        opened(server.url).send(UpstreamRequest("POST", "/a/b", (("x", "a\r\nb: c"),)), recorder)
        assert not recorder.finished.is_set()
        assert (await recorder.failure()).code is Code.INVALID_ARGUMENT
        assert server.peers == []


@pytest.mark.parametrize("where", ["head", "data", "end"])
async def test_a_receiver_that_raises_harms_nobody_else(
    opened: OpenPool, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """The exception is logged, its call is over, other calls on the connection go on."""

    def behave(peer: Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, HEAD)
        peer.h2.send_data(stream_id, b"reply", end_stream=where == "end")

    async with h2_server(behave) as server:
        pool = opened(server.url)
        broken = Broken(where)
        pool.send(grpc_request("Echo"), broken)
        await asyncio.wait_for(broken.started.wait(), 5)
        if where != "end":
            await asyncio.wait_for(server.reset.wait(), 5)
            assert server.resets == [(1, ErrorCodes.CANCEL)]
        server.behave = Peer.answer
        await _send(pool)[0].answer()
        assert len(server.peers) == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.name for record in errors] == ["inferbridge.upstream"]


async def test_close_fails_what_is_in_flight_or_waiting(opened: OpenPool) -> None:
    """`close` ends calls in flight, and later calls fail too."""
    async with h2_server(lambda peer, stream_id: None) as server:
        pool = opened(server.url)
        sent = [_send(pool)[0], _send(pool, idempotent=True)[0]]
        await asyncio.wait_for(server.arrived.wait(), 5)
        await pool.close()
        sent.append(_send(pool)[0])
        for recorder in sent:
            error = await recorder.failure()
            assert (error.code, error.message) == (
                Code.UNAVAILABLE,
                f"{server.url}: the gateway is stopping",
            )


async def test_close_while_connecting(opened: OpenPool) -> None:
    """`close` does not wait for a connection being opened, and fails the calls that do."""
    async with h2_server(greeting=b"") as server:
        pool = opened(server.url)
        recorder, _ = _send(pool)
        await pool.close()
        assert (await recorder.failure()).code is Code.UNAVAILABLE
