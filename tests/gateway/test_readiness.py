"""grpc.health.v1 answered with the readiness of the upstreams, which are asked in their own APIs."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from gateway.local_calls import open_call, unary
from gateway.test_local_health import CHECK, LIST, RESPONSE, WATCH, request, seen
from gateway.test_service import Runtime, silent, target
from inferbridge.bridge.context import Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.gateway.calls.readiness import FRESH_SECONDS, Probe, Readiness
from inferbridge.gateway.local import health
from inferbridge.gateway.local.health import ServiceStates, Status
from inferbridge.gateway.local.messages import message_class
from inferbridge.gateway.local.services import LocalServices
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS

type Answering = Callable[[UpstreamRequest, Receiver], None]
SERVICE = "a.Service"


def status(number: int) -> Answering:
    """A runtime that answers a REST status."""

    def answering(_: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(number, ())
        receiver.on_end(())

    return answering


def message(data: bytes, code: int = 0) -> Answering:
    """A runtime that answers a gRPC message."""

    def answering(_: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(200, (("content-type", "application/grpc"),))
        for chunk in frame([(data,)]) if not code else ():
            receiver.on_data(chunk)
        receiver.on_end((("grpc-status", str(code)),))

    return answering


def unreachable(_: UpstreamRequest, receiver: Receiver) -> None:
    """A runtime that nobody can connect to."""
    receiver.on_failure(BridgeError(Code.UNAVAILABLE, "connection refused"))


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def probe(runtime: Runtime, name: str, protocol: str, clock: Clock | None = None) -> Probe:
    """The probe of a known runtime."""
    asked = replace(target(runtime, name, protocol), setting=Setting(operations=operations))
    made = Probe.of(asked, APIS[asked.profile.api])
    assert made is not None
    made._now = clock or Clock()
    return made


def services(*probes: Probe) -> LocalServices:
    """The gateway's own services in front of one that some upstreams serve."""
    readiness = Readiness({SERVICE: probes})
    states = ServiceStates({SERVICE: lambda: readiness.ready(SERVICE)}, readiness.refresh)
    return LocalServices([], states)


def check(local: LocalServices) -> Status:
    """What Check says of the service."""
    (answer,) = unary(local, CHECK, request(SERVICE)).messages(RESPONSE)
    return Status(answer.status)


@pytest.mark.parametrize(
    ("name", "protocol", "path", "ready", "not_ready"),
    [
        ("triton", "rest", "/v2/health/ready", status(200), status(400)),
        ("triton", "grpc", "/inference.GRPCInferenceService/ServerReady", message(b"\x08\x01"), message(b"")),
        ("vllm-nvidia", "rest", "/health", status(200), status(503)),
        ("tgis", "grpc", "/grpc.health.v1.Health/Check", message(b"\x08\x01"), message(b"\x08\x02")),
        ("caikit-tgis", "rest", "/health", status(200), status(500)),
        ("caikit-tgis", "grpc", "/grpc.health.v1.Health/Check", message(b"\x08\x01"), unreachable),
    ],
)
def test_each_runtime_is_asked_its_own_question(
    name: str, protocol: str, path: str, ready: Answering, not_ready: Answering
) -> None:
    """The service of an upstream is SERVING when the upstream itself says that it is ready, and not otherwise."""
    runtime = Runtime(ready)
    assert check(services(probe(runtime, name, protocol))) is Status.SERVING
    assert [sent.path for sent in runtime.sent] == [path]
    assert check(services(probe(Runtime(not_ready), name, protocol))) is Status.NOT_SERVING


@pytest.mark.parametrize(("protocol", "answering"), [("grpc", message(b"", Code.UNIMPLEMENTED)), ("rest", status(404))])
def test_a_runtime_that_does_not_know_the_question_runs(protocol: str, answering: Answering) -> None:
    """TGIS has no health service, ModelMesh no health paths: that they answer shows that they run."""
    assert check(services(probe(Runtime(answering), "caikit-tgis", protocol))) is Status.SERVING


def test_one_upstream_that_is_ready_is_enough() -> None:
    """Of several upstreams of one service any may serve it; all of them are asked."""
    dead, alive = Runtime(unreachable), Runtime(status(200))
    local = services(probe(dead, "triton", "rest"), probe(alive, "triton", "rest"))
    assert check(local) is Status.SERVING
    assert len(dead.sent) == len(alive.sent) == 1


def test_an_answer_counts_for_a_while() -> None:
    """Checks in quick succession ask once; later ones ask again and hear of a change."""
    clock, runtime = Clock(), Runtime(status(200))
    local = services(probe(runtime, "triton", "rest", clock))
    assert [check(local), check(local)] == [Status.SERVING, Status.SERVING]
    assert len(runtime.sent) == 1
    runtime.answering, clock.time = unreachable, FRESH_SECONDS
    assert check(local) is Status.NOT_SERVING
    assert len(runtime.sent) == 2


def test_everybody_waits_for_one_answer() -> None:
    """Checks while an upstream is asked are answered together; who has left hears nothing."""
    runtime = Runtime(silent)
    asked = probe(runtime, "triton", "rest")
    local = services(asked)
    calls = [open_call(local, CHECK) for _ in range(3)]
    for call in calls:
        call.send(request(SERVICE))
        call.sink.on_end()
    assert len(runtime.sent) == 1
    assert not any(call.answer.ended for call in calls)
    calls[0].sink.on_cancel()
    asked._take(True)
    assert [call.answer.ended for call in calls] == [False, True, True]
    assert [each.status for each in calls[1].answer.messages(RESPONSE)] == [Status.SERVING]


def test_the_gateway_itself_is_not_its_upstreams() -> None:
    """ "" is SERVING whatever the upstreams say, and nobody is asked; List tells of both."""
    runtime = Runtime(unreachable)
    local = services(probe(runtime, "triton", "rest"))
    (answer,) = unary(local, CHECK, request()).messages(RESPONSE)
    assert (answer.status, runtime.sent) == (Status.SERVING, [])
    (listed,) = unary(local, LIST, message_class("grpc.health.v1.HealthListRequest")()).messages(
        "grpc.health.v1.HealthListResponse"
    )
    assert {name: each.status for name, each in listed.statuses.items()} == {"": 1, SERVICE: 2}


def test_a_watch_hears_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody watches, upstreams are asked from time to time; afterwards they are left alone."""
    monkeypatch.setattr(health, "WATCH_SECONDS", 0.0)

    async def watch() -> None:
        clock, runtime = Clock(), Runtime(status(200))
        call = open_call(services(probe(runtime, "triton", "rest", clock)), WATCH)
        call.send(request(SERVICE))
        assert seen(call) == [Status.SERVING]
        runtime.answering, clock.time = unreachable, FRESH_SECONDS
        await turns()
        assert seen(call) == [Status.SERVING, Status.NOT_SERVING]
        call.sink.on_cancel()
        await turns()
        asked = len(runtime.sent)
        clock.time = 9 * FRESH_SECONDS
        await turns()
        assert len(runtime.sent) == asked

    asyncio.run(watch())


async def turns() -> None:
    """A few turns of the event loop."""
    for _ in range(5):
        await asyncio.sleep(0)
