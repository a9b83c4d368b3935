"""When a call's connection was opened, as a transcript of the call tells it: opened for the call, or there before."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import grpc
import pytest

from inferbridge.auth.identity import ANONYMOUS
from inferbridge.bridge.context import RuntimeProfile
from inferbridge.flows import timing
from inferbridge.gateway.calls.targets import Itself, Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import Leg, Transcript
from inferbridge.upstream.api import Pool, UpstreamRequest
from inferbridge.upstream.balanced import Spread
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.tls import TlsSettings
from inferbridge_generated.runtimes import PROFILES
from upstream.certificates import Certificates, make_certificates
from upstream.conftest import OpenPool
from upstream.grpc_server import framed, grpc_request, grpc_server
from upstream.h1_server import h1_server
from upstream.recorder import Recorder
from upstream.test_tls import _server_context

PROFILE: RuntimeProfile = PROFILES["triton"][0]
GET = UpstreamRequest("GET", "/")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Fresh certificates."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def leg(pool: Pool, request: UpstreamRequest) -> tuple[Leg, dict[str, float | None]]:
    """One call over a pool, as its transcript has it, and what a flow tells of its connection."""
    record = CallRecord(began=perf_counter())
    record.transcript = Transcript.of("POST", "/", ())
    recorder = Recorder()
    call = Target("one", PROFILE, "grpc", pool).send(request, recorder, None, Itself(ANONYMOUS), record)
    await recorder.answer()
    call.cancel()  # of a call that has ended, which changes nothing
    (found,) = record.transcript.legs
    return found, timing.connection(record.began, [found])


async def check(pool: Pool, request: UpstreamRequest, *, tls: bool) -> None:
    """The first call waits for a connection, the second one finds it."""
    first, told = await leg(pool, request)
    assert first.opening is not None
    assert first.connected
    assert first.opening.began < first.opening.connected
    assert bool(first.opening.secured) == tls
    if tls:
        assert first.opening.secured > first.opening.connected
    assert set(told) == {"connected", "secured"}
    assert told["connected"] is not None
    assert 0 < told["connected"] < (told["secured"] or 20_000)
    second, told = await leg(pool, request)
    assert second.opening is first.opening
    assert not second.connected
    assert set(told) == {"pooled"}
    assert told["pooled"] is not None
    assert told["pooled"] > 0


@pytest.mark.parametrize("tls", [False, True])
async def test_a_call_over_http1_tells_of_its_connection(
    tls: bool, opened: OpenPool, certificates: Certificates
) -> None:
    """TCP and TLS apart, for the call that waited for them; a later one says how long the connection was open."""
    async with h1_server(tls=_server_context(certificates) if tls else None) as server:
        settings = TlsSettings(ca_file=certificates.path("ca.crt")) if tls else None
        await check(opened(server.url, tls=settings), GET, tls=tls)
        assert server.connections == 1


@contextmanager
def server_of(certificates: Certificates, *, tls: bool) -> Iterator[int]:
    """The port of a gRPC server."""
    pair = (certificates.content("server.key"), certificates.content("server.crt"))
    with grpc_server(grpc.ssl_server_credentials([pair]) if tls else None) as (_, port, _):
        yield port


@pytest.mark.parametrize("tls", [False, True])
async def test_a_call_over_http2_tells_of_its_connection(
    tls: bool, opened: OpenPool, certificates: Certificates
) -> None:
    """The same over the one connection that all calls share."""
    with server_of(certificates, tls=tls) as port:
        settings = TlsSettings(ca_file=certificates.path("ca.crt")) if tls else None
        await check(opened(f"grpc{'s' if tls else ''}://localhost:{port}", tls=settings), grpc_request("Echo"), tls=tls)


async def test_a_growing_call_tells_of_its_connection(opened: OpenPool, certificates: Certificates) -> None:
    """One whose messages follow is noted as any other."""
    with server_of(certificates, tls=False) as port:
        pool, record, recorder = opened(f"grpc://localhost:{port}"), CallRecord(), Recorder()
        record.transcript = Transcript.of("POST", "/", ())
        target, asked = Target("one", PROFILE, "grpc", pool), grpc_request("Echo")
        bare = UpstreamRequest(asked.method, asked.path, asked.headers)
        call = target.begin(bare, recorder, lambda: None, None, Itself(ANONYMOUS), record)
        for piece in framed(b"hello"):
            call.write(piece)
        call.finish()
        await recorder.answer()
        assert record.transcript.legs[0].connected


async def test_a_call_at_one_of_several_addresses_tells_of_its_connection(certificates: Certificates) -> None:
    """Whichever address it went to."""
    with server_of(certificates, tls=False) as port:
        spread = Spread((("localhost", port),))
        pool = open_pool(f"grpc://localhost:{port}", limits=Limits(), spread=spread)
        try:
            await check(pool, grpc_request("Echo"), tls=False)
        finally:
            await pool.close()


async def test_a_call_that_reaches_nobody_has_no_connection(opened: OpenPool, tmp_path: Path) -> None:
    """Nothing is told of a connection that there never was, and nothing of the call is held."""
    record, recorder = CallRecord(), Recorder()
    record.transcript = Transcript.of("POST", "/", ())
    target = Target("one", PROFILE, "rest", opened("http://127.0.0.1:9"))
    target.send(GET, recorder, None, Itself(ANONYMOUS), record)
    await recorder.failure()
    (found,) = record.transcript.legs
    assert (found.opening, found.connected) == (None, False)
    assert timing.connection(0.0, [found]) == {}
