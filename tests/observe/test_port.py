"""A proxy with an admin port, on real sockets, in front of a mocked runtime."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.serving import TIMEOUT, curl
from inferbridge.config import Admin, Listener, Settings, Upstream
from inferbridge.gateway.calls.losses import log as losses_log
from inferbridge.mock.serving import Doors, mocking
from inferbridge.run import Bound, _announce, serving
from inferbridge.upstream.address import Address, parse_address

ANY_PORT = Listener("127.0.0.1", 0)
NOBODY = Upstream("down", "triton", Address("grpc", "127.0.0.1", 9))
LOSSY = json.dumps({"model": "m", "prompt": "a", "max_tokens": 2, "logit_bias": {"1": 2.0}, "suffix": "z"})


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mitmproxy keeps its authority in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@asynccontextmanager
async def proxy(*upstreams: Upstream) -> AsyncIterator[tuple[str, str]]:
    """URLs of a proxy that allows losses, and of its admin port."""
    settings = Settings(listen=(ANY_PORT,), upstreams=upstreams, lossy="allow", admin=Admin(ANY_PORT))
    async with asyncio.timeout(TIMEOUT), serving(settings) as bound:
        yield f"http://{bound.listen[0]}", f"http://{bound.admin}"


async def status(url: str) -> int:
    """The status of a page."""
    return int(await curl("-o", "/dev/null", "-w", "%{http_code}", url))


async def test_a_lossy_call_is_named_logged_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Each field that a call loses stands in the header of its answer, in the log and in the counter."""
    async with (
        mocking("tgis", Doors(grpc=0)) as urls,
        proxy(Upstream("one", "tgis", parse_address(urls[0]))) as (
            gateway,
            admin,
        ),
    ):
        before = await curl(f"{admin}/metrics")
        calls = [await curl("-i", "--json", LOSSY, f"{gateway}/v1/completions") for _ in range(2)]
        after = await curl("--http2-prior-knowledge", f"{admin}/metrics")
        assert await status(f"{admin}/readyz") == 200
    assert all(b"HTTP/1.1 200" in call and b"x-inferbridge-lost: suffix, logit_bias\r\n" in call for call in calls)
    told = [record.getMessage() for record in caplog.records if record.name == losses_log.name]
    assert told == ["completions to one: dropped suffix, logit_bias"] * 2
    assert b"lost_fields_total{" not in before
    assert b'inferbridge_lost_fields_total{api="openai",operation="generate",runtime="tgis"} 4.0\n' in after
    assert b'inferbridge_upstream_up{upstream="one"} 1.0\n' in after


async def test_dead_upstreams_take_the_traffic_away_and_not_the_proxy_down() -> None:
    """With nobody behind it the proxy is alive and started, not ready, and its metrics say so."""
    async with proxy(NOBODY) as (_, admin):
        pages = {path: await status(f"{admin}/{path}") for path in ("healthz", "startupz", "readyz", "metrics")}
        assert pages == {"healthz": 200, "startupz": 200, "readyz": 503, "metrics": 200}
        assert json.loads(await curl(f"{admin}/readyz"))["reasons"] == ["no upstream is ready: down"]
        assert b'inferbridge_upstream_up{upstream="down"} 0.0' in await curl(f"{admin}/metrics")


async def test_the_pages_are_nowhere_but_at_the_admin_port() -> None:
    """Clients' port has none of the admin pages, and the admin port serves no call."""
    async with proxy(NOBODY) as (gateway, admin):
        assert await status(f"{gateway}/metrics") == await status(f"{gateway}/config") == 404
        assert await status(f"{admin}/v1/models") == 404


async def test_without_an_admin_listener_there_is_no_port() -> None:
    """Nobody who has not asked for it gets an admin port."""
    async with serving(Settings(listen=(ANY_PORT,), upstreams=(NOBODY,))) as bound:
        assert bound.admin is None


async def test_an_address_in_use_stops_the_start() -> None:
    """An admin port that cannot be bound is an error that names it, and nothing is served without it."""
    async with proxy(NOBODY) as (gateway, _):
        host, port = gateway.removeprefix("http://").split(":")
        taken = Settings(listen=(ANY_PORT,), upstreams=(NOBODY,), admin=Admin(Listener(host, int(port))))
        with pytest.raises(OSError, match=port):
            async with serving(taken):
                pass


@pytest.mark.parametrize(("host", "lines"), [("127.0.0.1", 2), ("::1", 2), ("0.0.0.0", 3), ("", 3)])
def test_the_start_says_who_can_read(host: str, lines: int, capsys: pytest.CaptureFixture[str]) -> None:
    """An admin port that other machines can reach is allowed and said; on loopback there is nothing to say."""
    _announce(Settings(), Bound((ANY_PORT,), Listener(host, 9901)))
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == lines
    assert ("other machines" in printed[-1]) == (lines == 3)
