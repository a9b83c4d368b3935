"""Deadlines through a running proxy, whose runtimes fall silent: over within 50 ms, for the client and the runtime."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from hostile.calls import CALLS, INFER_JSON, Field, best, upstreams
from hostile.proxy import TIMEOUT, Proxy, proxy, read_to_end
from hostile.quiet import Quiet, quiet_grpc, quiet_rest

SOON = 0.05
EARLY = 0.01
"""By which gRPC's deadline may be over before ours: a part of it was the way."""


@dataclass(frozen=True)
class Scene:
    """A proxy and the two runtimes."""

    proxy: Proxy
    rest: Quiet
    grpc: Quiet


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A proxy that allows 1.2 seconds for a call."""
    with (
        quiet_rest() as (rest, rest_port),
        quiet_grpc() as (grpc, grpc_port),
        proxy(
            tmp_path_factory.mktemp("deadlines"),
            config=f"{upstreams(rest_port, grpc_port)}\nlimits: {{call_timeout: 1.2s}}\n",
        ) as run,
    ):
        yield Scene(run, rest, grpc)


@pytest.fixture
def scene(started: Scene) -> Scene:
    """The same, with nothing arrived yet."""
    for seen in (started.rest, started.grpc):
        seen.clear()
    return started


def lateness(runtime: Quiet, deadline: float) -> float:
    """Seconds after a deadline by which the client, just now, and the runtime have heard of it; never before it."""
    now = time.monotonic()
    assert runtime.left.wait(TIMEOUT)
    assert min(now, runtime.left_at) >= deadline - EARLY
    return max(now, runtime.left_at) - deadline


def rest_call(*fields: bytes, body: bytes = INFER_JSON) -> bytes:
    """A call that is passed through."""
    lines = (b"POST /v2/models/rest-tensors/infer HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ((b"X-Request-Timeout: 0.4",), 0.4),
        ((b"X-Request-Timeout: 400ms",), 0.4),
        ((b"Grpc-Timeout: 400m",), 0.4),
        ((b"Grpc-Timeout: 5S", b"X-Request-Timeout: 0.4"), 0.4),
        ((b"Grpc-Timeout: 400m", b"X-Request-Timeout: 5s"), 0.4),
        ((b"X-Request-Timeout: 1m",), 1.2),
        ((), 1.2),
    ],
)
def test_the_smallest_deadline_of_a_rest_call_wins(scene: Scene, fields: tuple[bytes, ...], seconds: float) -> None:
    """Client, by either header, or configuration: 504 when the first is over, the runtime is told and then left."""

    def late() -> float:
        scene.rest.clear()
        began = time.monotonic()
        with scene.proxy.connect() as client:
            client.sendall(rest_call(b"Connection: close", *fields))
            assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
        return lateness(scene.rest, began + seconds)

    assert best(SOON, late) <= SOON
    told = scene.rest.fields.get("x-request-timeout")
    assert told is None if not fields else float(told or 0) <= seconds


@pytest.mark.parametrize(("timeout", "seconds"), [("400m", 0.4), ("1H", 1.2), ("", 1.2)])
def test_the_smaller_deadline_of_a_grpc_call_wins(scene: Scene, timeout: str, seconds: float) -> None:
    """DEADLINE_EXCEEDED when it is over, the runtime is told at most that, and its stream is reset."""
    asked, fields = CALLS["Generate"], [("grpc-timeout", timeout)] if timeout else []

    def late() -> float:
        scene.grpc.clear()
        began = time.monotonic()
        with closing(scene.proxy.connect()) as connected:
            assert asked.begin(connected, *fields).outcome() == "4"
        return lateness(scene.grpc, began + seconds)

    assert best(SOON, late) <= SOON
    if timeout:
        assert int(scene.grpc.fields["grpc-timeout"].removesuffix("m")) <= seconds * 1000


@pytest.mark.parametrize("name", CALLS)
def test_every_kind_of_call_has_its_deadline(scene: Scene, name: str) -> None:
    """504 or DEADLINE_EXCEEDED when its time is over, in the stream where that has begun, and the runtime is left."""
    asked = CALLS[name]
    field: Field = ("grpc-timeout", "400m") if asked.grpc else ("X-Request-Timeout", "0.4")
    runtime = scene.rest if asked.model.startswith("rest") else scene.grpc

    def late() -> float:
        runtime.clear()
        began = time.monotonic()
        with closing(scene.proxy.connect()) as connected:
            outcome = asked.begin(connected, field).outcome()
        assert outcome == ("4" if asked.grpc else "error event" if asked.streams else "504")
        return lateness(runtime, began + 0.4)

    assert best(SOON, late) <= SOON


def test_time_that_the_body_took_is_taken_off(scene: Scene) -> None:
    """Of 1 s a body that takes 0.5 leaves the runtime less than 0.6, and the client has its 504 after 1."""
    whole = rest_call(b"X-Request-Timeout: 1", b"Connection: close")

    def late() -> float:
        scene.rest.clear()
        began = time.monotonic()
        with scene.proxy.connect() as client:
            client.sendall(whole[:-5])
            time.sleep(0.5)  # the body's way
            client.sendall(whole[-5:])
            assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
        return lateness(scene.rest, began + 1)

    assert best(SOON, late) <= SOON
    assert 0 < float(scene.rest.fields["x-request-timeout"]) < 0.6


def test_a_body_may_use_up_the_deadline(scene: Scene) -> None:
    """A body that does not come within the deadline is answered 504 then, and the runtime hears nothing."""
    with scene.proxy.connect() as client:
        client.sendall(rest_call(b"X-Request-Timeout: 0.3")[:-1])
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
    assert not scene.rest.asked.is_set()


@pytest.mark.parametrize("value", [b"soon", b"-1", b"1h", b"1e3", b"0x1", b"1,5", b"", b"999999999"])
def test_what_is_no_time_is_refused(scene: Scene, value: bytes) -> None:
    """A deadline that cannot be read is the client's mistake (400), and the runtime hears nothing."""
    with scene.proxy.connect() as client:
        client.sendall(rest_call(b"X-Request-Timeout: " + value, b"Connection: close"))
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert not scene.rest.asked.is_set()
