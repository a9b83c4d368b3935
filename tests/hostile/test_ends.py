"""Whoever ends a call, the other side hears of it within 100 ms: every kind of call, also while all are silent."""

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from hostile.calls import CALLS, Asked, Call, best, upstreams
from hostile.proxy import TIMEOUT, Proxy, proxy
from hostile.quiet import Quiet, quiet_grpc, quiet_rest

SECONDS = 0.1


@dataclass(frozen=True)
class Scene:
    """A proxy with a listener of each kind before two runtimes that fall silent."""

    plain: Proxy
    tls: Proxy
    context: ssl.SSLContext
    rest: Quiet
    grpc: Quiet

    @contextmanager
    def calling(self, asked: Asked, *, tls: bool = False) -> Iterator[tuple[Call, Quiet]]:
        """A call, and its runtime that has fallen silent."""
        runtime = self.rest if asked.model.startswith("rest") else self.grpc
        runtime.clear()
        connected = (self.tls if tls else self.plain).connect()
        if tls:
            self.context.set_alpn_protocols(["h2" if asked.grpc else "http/1.1"])
            connected = self.context.wrap_socket(connected, server_hostname="localhost")
        with closing(connected):
            call = asked.begin(connected)
            assert runtime.asked.wait(TIMEOUT)
            if asked.streams:
                call.first()
            yield call, runtime


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Running for all of them."""
    folder: Path = tmp_path_factory.mktemp("ends")
    authority, file = trustme.CA(), folder / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ExitStack() as stack:
        rest, rest_port = stack.enter_context(quiet_rest())
        grpc, grpc_port = stack.enter_context(quiet_grpc())
        runtimes = upstreams(rest_port, grpc_port)
        for name in ("plain", "tls"):
            (folder / name).mkdir()
        plain = stack.enter_context(proxy(folder / "plain", config=runtimes))
        tls = stack.enter_context(proxy(folder / "tls", config=f"{runtimes}\ntls: {{certificate: {file}}}\n"))
        yield Scene(plain, tls, context, rest, grpc)


def leaving(scene: Scene, name: str, how: str, *, tls: bool) -> float:
    """Seconds from a client's leave until its runtime knows."""
    with scene.calling(CALLS[name], tls=tls) as (call, runtime):
        began = time.monotonic()
        call.leave(how)
        assert runtime.left.wait(TIMEOUT)
    return runtime.left_at - began


def cases(names: Iterable[str], ways: Iterable[str]) -> list[tuple[str, str]]:
    """Each call with each way to end it that its protocol has."""
    return [(name, how) for name in names for how in ways if how != "RST_STREAM" or CALLS[name].grpc]


@pytest.mark.parametrize(("name", "how"), cases(CALLS, ("close", "half close", "reset", "RST_STREAM")))
def test_a_runtime_hears_of_a_client_that_leaves(scene: Scene, name: str, how: str) -> None:
    """Its call is reset, or its connection closed, however the client goes."""
    assert best(SECONDS, lambda: leaving(scene, name, how, tls=False)) <= SECONDS


OVER_TLS = ("infer", "events", "events, translated", "GenerateStream", "ModelStreamInfer")


@pytest.mark.parametrize(("name", "how"), cases(OVER_TLS, ("close", "close_notify", "reset", "RST_STREAM")))
def test_a_runtime_hears_of_a_client_that_leaves_over_tls(scene: Scene, name: str, how: str) -> None:
    """The same where mitmproxy carries the bytes."""
    assert best(SECONDS, lambda: leaving(scene, name, how, tls=True)) <= SECONDS


RUNTIMES_END = [
    (name, how)
    for name, asked in CALLS.items()
    for how in (("close", "reset") if asked.model.startswith("rest") else ("close", "reset", "RST_STREAM", "GOAWAY"))
]


def expected(name: str, how: str) -> str:
    """How a client sees it: UNAVAILABLE, or INTERNAL where a runtime resets a stream with INTERNAL_ERROR."""
    if CALLS[name].grpc:
        return "13" if how == "RST_STREAM" else "14"
    if CALLS[name].streams:
        return "error event"
    return "500" if how == "RST_STREAM" else "503"


def ending(scene: Scene, name: str, how: str) -> float:
    """Seconds from the end that a runtime puts to a call until its client knows."""
    with scene.calling(CALLS[name]) as (call, runtime):
        began = time.monotonic()
        runtime.end(how)
        assert call.outcome() == expected(name, how)
    return time.monotonic() - began


@pytest.mark.parametrize(("name", "how"), RUNTIMES_END)
def test_a_client_hears_of_a_runtime_that_ends_its_call(scene: Scene, name: str, how: str) -> None:
    """The error comes in the client's dialect as soon as the runtime has put an end to the call."""
    assert best(SECONDS, lambda: ending(scene, name, how)) <= SECONDS
