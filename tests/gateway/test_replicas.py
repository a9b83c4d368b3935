"""Replicas of a runtime behind the whole gateway, from the configuration to the metrics."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from gateway.serving import TIMEOUT, curl, serving
from inferbridge.config import Admin, Listener, Settings, Upstream
from inferbridge.config.values import HealthCheck
from inferbridge.gateway import build
from inferbridge.gateway.calls.readiness import Probe
from inferbridge.run import serving as proxying
from inferbridge.upstream.address import Endpoint, parse_address
from inferbridge.upstream.balanced import Balanced
from inferbridge_generated.tgis import wire
from upstream.h1_server import Answer, H1Server, Request, h1_server

URL = parse_address("http://replicas:8000")
COMPLETION = json.dumps({"model": "m", "prompt": "a"})
REPLY = json.dumps(
    {"id": "1", "object": "text_completion", "created": 1, "model": "m",
     "choices": [{"index": 0, "text": "x", "finish_reason": "stop"}]}
)  # fmt: skip


def _answers(request: Request) -> Answer:
    return Answer(
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(REPLY)}\r\n\r\n{REPLY}".encode()
    )


def _endpoint(server: H1Server) -> Endpoint:
    return Endpoint("127.0.0.1", int(server.url.rpartition(":")[2]))


def _posts(server: H1Server) -> int:
    return sum(request.line.startswith("POST") for request in server.requests)


async def _complete(url: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await curl(*options, "--json", COMPLETION, f"{url}/v1/completions"))
    return found


async def _generate(port: int) -> tuple[grpc.StatusCode, str, bool]:
    """The status of a gRPC client's call, what of its text matters, and whether it is told when to come back."""
    batch = wire.BatchedGenerationRequest(model_id="m", requests=[wire.GenerationRequest(text="a")])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/fmaas.GenerationService/Generate")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"".join(map(bytes, wire.encode_BatchedGenerationRequest(batch))))
    error = caught.value
    names = {str(pair[0]) for pair in (*error.trailing_metadata(), *error.initial_metadata())}
    return error.code(), (error.details() or "").partition(" ")[2][:21], "retry-after" in names


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mitmproxy keeps its authority in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


async def test_one_dead_replica_costs_no_call_and_is_seen_in_the_metrics() -> None:
    """All calls are answered; what was sent again is counted, and the breaker that opened shows."""
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        async with h1_server(_answers) as first, h1_server(_answers) as second:
            addresses = (_endpoint(first), _endpoint(second), Endpoint("127.0.0.1", dead.getsockname()[1]))
            upstream = Upstream("llm", "vllm-nvidia", URL, addresses=addresses)
            listener = Listener("127.0.0.1", 0)
            settings = Settings(listen=(listener,), upstreams=(upstream,), admin=Admin(listener))
            async with asyncio.timeout(TIMEOUT * 3), proxying(settings) as bound:
                for _ in range(24):
                    assert (await _complete(f"http://{bound.listen[0]}"))["choices"][0]["text"] == "x"
                text = (await curl(f"http://{bound.admin}/metrics")).decode()
            assert _posts(first) + _posts(second) == 24
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert samples['inferbridge_breaker_state{upstream="llm"}'] == "2.0"
    assert samples['inferbridge_upstream_connections{upstream="llm"}'] == "2.0"
    assert float(samples['inferbridge_retries_total{reason="connect",upstream="llm"}']) >= 5


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
async def test_when_all_replicas_are_dead_clients_are_told_when_to_come_back(confdir: Path, protocol: str) -> None:
    """503 with Retry-After in OpenAI's form, and UNAVAILABLE, without a connection being tried for the call."""
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        upstream = Upstream("llm", "vllm-nvidia", parse_address(f"http://127.0.0.1:{dead.getsockname()[1]}"))
        application = build.application(Settings(upstreams=(upstream,)))
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            url = f"http://127.0.0.1:{port}"
            for _ in range(5):
                await _complete(url)
            if protocol == "rest":
                head, _, body = (await curl("-i", "--json", COMPLETION, f"{url}/v1/completions")).partition(b"\r\n\r\n")
                assert b"HTTP/1.1 503" in head
                assert b"retry-after: " in head.lower()
                assert "is not called for now" in json.loads(body)["error"]["message"]
            else:
                assert await _generate(port) == (grpc.StatusCode.UNAVAILABLE, "is not called for now", True)
        await application.close()


async def test_a_session_stays_at_its_replica(confdir: Path) -> None:
    """By the header that the configuration names, over a translation and without."""
    async with h1_server(_answers) as first, h1_server(_answers) as second:
        upstream = Upstream(
            "llm", "vllm-nvidia", URL, addresses=(_endpoint(first), _endpoint(second)), sticky="x-session-id"
        )
        application = build.application(Settings(upstreams=(upstream,)))
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            for _ in range(6):
                await _complete(f"http://127.0.0.1:{port}", "-H", "X-Session-Id: alice")
            task = json.dumps({"model_id": "m", "inputs": "a"})
            for _ in range(4):
                url = f"http://127.0.0.1:{port}/api/v1/task/text-generation"
                await curl("-H", "X-Session-Id: alice", "--json", task, url)
        await application.close()
        assert sorted((_posts(first), _posts(second))) == [0, 10]


async def test_a_replica_that_is_not_ready_is_left_out(confdir: Path) -> None:
    """Its API's own question is asked; when it says ready again it gets calls again."""
    ready = False

    def behave(request: Request) -> Answer:
        if request.line.startswith("GET") and not ready:
            return Answer(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
        return _answers(request)

    async with h1_server(behave) as sick, h1_server(_answers) as well:
        upstream = Upstream(
            "llm", "vllm-nvidia", URL, addresses=(_endpoint(sick), _endpoint(well)), health_check=HealthCheck(0.02)
        )
        settings = Settings(upstreams=(upstream,))
        service = build.service(settings)
        application = build.guard(settings, service)
        pool = service.targets[0].pool
        assert isinstance(pool, Balanced)
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            url = f"http://127.0.0.1:{port}"
            await _complete(url)
            while all(member.healthy for member in pool._members.values()):  # noqa: ASYNC110 - nobody is told
                await asyncio.sleep(0.01)
            before = _posts(sick)
            for _ in range(6):
                await _complete(url)
            assert _posts(sick) == before
            ready = True
            while not all(member.healthy for member in pool._members.values()):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            for _ in range(6):
                await _complete(url)
            assert _posts(sick) > before
        await application.close()
        assert all(request.line == "GET /health HTTP/1.1" for request in sick.requests if "GET" in request.line)


def test_a_health_check_needs_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime whose API cannot say whether it is ready cannot be left out for that."""
    monkeypatch.setattr(Probe, "of", classmethod(lambda *_: None))
    upstream = Upstream("llm", "vllm-nvidia", URL, resolve=30.0, health_check=HealthCheck())
    with pytest.raises(
        ValueError, match=r"^upstream 'llm': health_check: vllm-nvidia has no question for it over rest"
    ):
        build.application(Settings(upstreams=(upstream,)))
