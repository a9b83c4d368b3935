"""Several addresses of one upstream over real sockets."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import pytest

from inferbridge.bridge.errors import Code
from inferbridge.gateway.limits import Limits
from inferbridge.upstream import breaker
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import DuplexPool, Pool, UpstreamRequest, WatchedPool
from inferbridge.upstream.balanced import Balanced, DuplexBalanced, Spread
from inferbridge.upstream.http1 import Http1Pool
from inferbridge.upstream.http2 import Http2Pool
from inferbridge.upstream.names import Lookup, system_lookup
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.retries import NoRetries, Reason, Retries
from upstream.grpc_server import grpc_request
from upstream.h1_server import Answer, H1Server, Request, h1_server
from upstream.h2_server import H2Server, Peer, h2_server
from upstream.recorder import Recorder

POST = UpstreamRequest("POST", "/v1/completions", (("content-type", "application/json"),), (b"{}",))
GET = UpstreamRequest("GET", "/v1/models", idempotent=True)
GRPC = grpc_request("Echo", b"hello", False)


def _send(pool: Pool, request: UpstreamRequest = POST, timeout: float | None = 20.0) -> Recorder:
    recorder = Recorder()
    pool.send(request, recorder, timeout)
    return recorder


def _endpoint(server: H1Server | H2Server | int) -> tuple[str, int]:
    port = server if isinstance(server, int) else int(server.url.rpartition(":")[2])
    return "127.0.0.1", port


@asynccontextmanager
async def _pool(
    *servers: H1Server | H2Server | int, url: str = "http://replicas:8000", **spread: object
) -> AsyncIterator[Pool]:
    given = Spread(tuple(map(_endpoint, servers)), **spread)  # type: ignore[arg-type]
    pool = open_pool(url, limits=Limits(), spread=given)
    try:
        yield pool
    finally:
        await pool.close()


@asynccontextmanager
async def _rest(count: int, behave: Callable[[Request], Answer] = lambda _: Answer()) -> AsyncIterator[list[H1Server]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(h1_server(behave)) for _ in range(count)]


@contextmanager
def _dead() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        yield place.getsockname()[1]


async def test_one_dead_address_of_three_costs_no_call() -> None:
    """Generation too: where no connection can be opened, nothing was sent. After five failures it is left out."""
    async with _rest(2) as servers:
        with _dead() as port:
            async with _pool(*servers, port) as pool:
                for _ in range(60):
                    assert (await _send(pool).answer()).status == 200
                assert isinstance(pool, WatchedPool)
                assert pool.state == "open"
        counts = [len(server.requests) for server in servers]
        assert sum(counts) == 60
        assert min(counts) >= 20


async def test_the_name_is_said_at_every_address() -> None:
    """`Host` is what the URL says, as a virtual host or a certificate has it."""
    async with _rest(2) as servers, _pool(*servers) as pool:
        for _ in range(4):
            await _send(pool).answer()
        heads = [dict(request.headers)["host"] for server in servers for request in server.requests]
        assert heads == ["replicas:8000"] * 4


async def test_calls_go_where_there_are_fewest() -> None:
    """While one address is busy with a long call, calls one after another all go to the other."""
    hold = asyncio.Event()

    def behave(request: Request) -> Answer:
        return Answer(hold=hold) if request.line.startswith("PUT") else Answer()

    async with _rest(2, behave) as servers, _pool(*servers) as pool:
        long = [_send(pool, UpstreamRequest("PUT", "/long"))]
        while not any(server.requests for server in servers):
            await asyncio.wait(
                [asyncio.ensure_future(server.arrived.wait()) for server in servers], return_when="FIRST_COMPLETED"
            )
        for _ in range(10):
            await _send(pool).answer()
        assert sorted(len(server.requests) for server in servers) == [1, 10]
        hold.set()
        await long[0].answer()


async def test_a_sticky_header_binds_calls_to_an_address_as_long_as_it_lives() -> None:
    """All calls of a session meet the same replica; when that dies they go on at another."""
    async with _rest(3) as servers, _pool(*servers, sticky="x-session-id") as pool:
        request = UpstreamRequest("POST", "/v1/completions", (("x-session-id", "alice"),), (b"{}",))
        for _ in range(12):
            await _send(pool, request).answer()
        assert sorted(len(server.requests) for server in servers) == [0, 0, 12]
        for _ in range(12):
            await _send(pool).answer()
        assert all(len(server.requests) >= 3 for server in servers)


async def test_sessions_move_on_when_their_address_is_ejected() -> None:
    """Every call is answered, by the living."""
    async with _rest(1) as servers:
        with _dead() as port:
            async with _pool(*servers, port, sticky="x-session-id") as pool:
                for session in map(str, range(20)):
                    request = UpstreamRequest("POST", "/", (("x-session-id", session),), (b"{}",))
                    await _send(pool, request).answer()
        assert len(servers[0].requests) == 20


async def test_an_address_is_back_when_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ejected, it listens again, and it gets its share."""
    monkeypatch.setattr(breaker, "CONNECT_EACH_SECONDS", 0.01)
    with _dead() as port:
        pass
    async with _rest(1) as servers, _pool(servers[0], port) as pool:
        assert isinstance(pool, Balanced)
        while pool.state == "closed":
            await _send(pool).answer()
        async with h1_server(port=port) as returned:
            async with asyncio.timeout(10):
                while len(returned.requests) < 5:
                    await _send(pool).answer()
            assert pool.state == "closed"
            await pool.close()


async def test_when_all_are_dead_calls_fail_at_once_with_the_time_to_come_back() -> None:
    """One connection attempt after another has failed; then none is made for a call."""
    with _dead() as first, _dead() as second:
        async with _pool(first, second) as pool:
            errors = [await _send(pool).failure() for _ in range(20)]
    assert {error.code for error in errors} == {Code.UNAVAILABLE}
    assert "connection refused" in errors[0].message
    assert "is not called for now" in errors[-1].message
    assert errors[-1].retry_after is not None


async def test_generation_is_never_sent_twice_whatever_dies() -> None:
    """Replicas that take a call and die: as many requests arrive as calls were made."""
    async with _rest(3, lambda _: Answer(b"", "reset")) as servers, _pool(*servers) as pool:
        for _ in range(9):
            await _send(pool).failure()
        assert sum(len(server.requests) for server in servers) == 9
    async with AsyncExitStack() as stack:
        h2 = [
            await stack.enter_async_context(h2_server(lambda peer, stream_id: peer.transport.abort())) for _ in range(3)
        ]
        async with _pool(*h2, url="grpc://replicas:8001") as pool:
            for _ in range(9):
                await _send(pool, GRPC).failure()
        assert sum(len(server.requests) for server in h2) == 9


async def test_what_is_idempotent_is_asked_of_another_address() -> None:
    """A connection that breaks before an answer, once, with the header that says so; the other address answers."""
    async with h2_server(lambda peer, stream_id: peer.transport.abort()) as broken, h2_server() as good:
        async with _pool(broken, good, url="grpc://replicas:8001") as pool:
            for _ in range(4):
                await _send(pool, grpc_request("Echo", b"hello", True)).answer()
        assert broken.requests
        repeated = [peer.heads[stream] for peer in good.peers for stream in peer.heads]
        told = [dict(head).get("grpc-previous-rpc-attempts") for head in repeated]
        assert Counter(told) == {None: 4 - len(broken.requests), "1": len(broken.requests)}


async def test_a_replica_that_goes_away_hands_its_calls_to_another() -> None:
    """GOAWAY above its last stream: not looked at, so even generation is answered elsewhere, and only there."""

    def leave(peer: Peer, stream_id: int) -> None:
        peer.h2.close_connection(last_stream_id=0)

    async with h2_server(leave) as leaving, h2_server() as good:
        async with _pool(leaving, good, url="grpc://replicas:8001") as pool:
            for _ in range(6):
                assert (await _send(pool, GRPC).answer()).body == b"reply"
        assert len(good.requests) == 6


async def test_a_growing_request_moves_on_with_all_that_was_written() -> None:
    """Its first address cannot be connected to; the second gets the body whole and in order."""
    bodies: list[bytes] = []

    async def _call(pool: Pool) -> None:
        assert isinstance(pool, DuplexPool)
        recorder = Recorder()
        call = pool.begin(UpstreamRequest("POST", "/a.B/C", GRPC.headers), recorder, lambda: None, 20.0)
        call.write(b"\0\0\0\0\2")
        call.write(b"hi")
        call.finish()
        await recorder.answer()

    def read(peer: Peer, stream_id: int) -> None:
        bodies.append(peer.bodies[stream_id])
        peer.answer(stream_id)

    async with h2_server(read) as good:
        with _dead() as port:
            async with _pool(port, good, url="grpc://replicas:8001") as pool:
                for _ in range(4):
                    await _call(pool)
    assert bodies == [b"\0\0\0\0\2hi"] * 4


def _resolving(lookup: Lookup, heard: Callable[[Reason], None] = lambda _: None) -> DuplexBalanced:
    def open_one(place: object) -> Http2Pool:
        return Http2Pool(place, Limits(), None, retries=NoRetries())  # type: ignore[arg-type]

    address = parse_address("grpc://replicas:8001")
    return DuplexBalanced(address, Spread(resolve_seconds=3600.0), open_one, Retries(heard), lookup)


async def test_calls_wait_for_the_first_lookup_and_follow_the_name() -> None:
    """Addresses that are new get calls; one that is gone gets none, finishes what it has and is closed."""
    answers: list[Sequence[tuple[str, int]]] = []

    async def lookup(host: str, port: int) -> Sequence[tuple[str, int]]:
        return answers[-1]

    async with h2_server(lambda peer, stream_id: None) as first, h2_server() as second:
        answers.append([_endpoint(first)])
        pool = _resolving(lookup)
        running = _send(pool, GRPC)
        await asyncio.wait_for(first.arrived.wait(), 10)
        answers.append([_endpoint(second)])
        assert pool._names is not None
        pool._names.look()
        while second.url.rpartition(":")[2] not in "".join(map(str, pool._members)):  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0)
        await _send(pool, GRPC).answer()
        assert (len(first.requests), len(second.requests), pool.connections) == (1, 1, 2)
        first.peers[0].answer(1)
        first.peers[0].flush()
        assert (await running.answer()).body == b"reply"
        pool._names.look()
        while pool.connections > 1:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        await pool.close()


async def test_a_name_that_does_not_resolve_fails_its_calls_and_is_looked_up_again() -> None:
    """UNAVAILABLE with the resolver's words; the next call tries anew."""
    outcomes: list[OSError | list[tuple[str, int]]] = [socket.gaierror(-2, "Name or service not known")]

    async def lookup(host: str, port: int) -> Sequence[tuple[str, int]]:
        outcome = outcomes[-1]
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    async with h2_server() as server:
        pool = _resolving(lookup)
        error = await _send(pool, GRPC).failure()
        assert (error.code, error.message) == (
            Code.UNAVAILABLE,
            "cannot look up replicas: name or service not known",
        )
        outcomes.append([_endpoint(server)])
        await _send(pool, GRPC).answer()
        await pool.close()


async def test_a_call_does_not_wait_for_a_name_beyond_its_deadline() -> None:
    """Nor after it was cancelled, nor after the pool was closed."""

    async def lookup(host: str, port: int) -> Sequence[tuple[str, int]]:
        await asyncio.Event().wait()
        return []

    pool = _resolving(lookup)
    assert (await _send(pool, GRPC, 0.01).failure()).code is Code.DEADLINE_EXCEEDED
    cancelled = Recorder()
    pool.send(GRPC, cancelled, None).cancel()
    late = _send(pool, GRPC, None)
    await pool.close()
    assert (await late.failure()).message == "the connection pool is closed"
    assert (await _send(pool, GRPC).failure()).message == "the connection pool is closed"
    assert not cancelled.finished.is_set()


async def test_the_real_resolver_finds_this_machine() -> None:
    """A name of the system's own."""
    async with h1_server() as server:
        place = parse_address(server.url.replace("localhost", "127.0.0.1"))
        pool = Balanced(
            place,
            Spread(resolve_seconds=30.0),
            lambda address: Http1Pool(address, Limits(), None, retries=NoRetries()),
            lookup=system_lookup,
        )
        await _send(pool).answer()
        await pool.close()


async def test_health_checks_eject_and_return() -> None:
    """Two misses in a row take an address out, one answer brings it back; one miss alone is forgiven."""
    ready: dict[str, list[bool]] = {}

    def check(pool: Pool, then: Callable[[bool], None]) -> None:
        assert isinstance(pool, Http1Pool)
        answers = ready.get(pool.url, [])
        then(answers.pop(0) if answers else True)

    async with _rest(2) as servers, _pool(*servers, check=check, check_seconds=3600.0) as pool:
        assert isinstance(pool, Balanced)
        sick = f"http://127.0.0.1:{_endpoint(servers[0])[1]}"
        ready[sick] = [False, True, False, False, True]

        async def calls() -> list[int]:
            before = [len(server.requests) for server in servers]
            for _ in range(4):
                await _send(pool).answer()
            return [len(server.requests) - count for server, count in zip(servers, before, strict=True)]

        assert await calls() == [2, 2]  # the first call begins the checks, of which one fails
        for expected in ([2, 2], [2, 2], [0, 4], [2, 2]):
            pool._check_all(check)
            assert await calls() == expected


async def test_retries_stay_within_the_budget_when_all_addresses_refuse() -> None:
    """A brown-out: hardly more requests arrive than calls were made."""
    heard: list[Reason] = []

    def refuse(peer: Peer, stream_id: int) -> None:
        peer.h2.reset_stream(stream_id, 7)

    async with h2_server(refuse) as first, h2_server(refuse) as second:

        async def lookup(host: str, port: int) -> Sequence[tuple[str, int]]:
            return [_endpoint(first), _endpoint(second)]

        pool = _resolving(lookup, heard.append)
        for _ in range(200):
            await _send(pool, GRPC).failure()
        sent = len(first.requests) + len(second.requests)
        assert sent == 200 + len(heard)
        assert len(heard) <= 10 + 0.2 * 200 + 20  # and one for each second that this takes
        assert set(heard) == {Reason.REFUSED}
        await pool.close()
