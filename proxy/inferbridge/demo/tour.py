"""`inferbridge demo`: the proxy between real clients and mocked runtimes, and a tour of what it does to their calls.

    REST client ──▶ ┌───────┐ ──▶ gRPC-only runtimes: TGIS, Caikit, Triton
                    │ proxy │
    gRPC client ──▶ └───────┘ ──▶ REST-only runtimes: vLLM, MLServer

The runtimes are in this process and are for this demo only; proxy, bridges and clients are the real ones. Each scene
compares the answer with what it has to be, so the tour is also a check of the installation.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from inferbridge.calling.asking import Place, composed, find_endpoint, spoken
from inferbridge.config.values import Listener, Settings, Upstream
from inferbridge.demo import signs
from inferbridge.demo.client import Got, call
from inferbridge.demo.scenes import SCENES, Scene
from inferbridge.demo.sides import got_lines, said_lines, seen_lines, sent_lines
from inferbridge.demo.view import Lines, Screen
from inferbridge.gateway.limits import Limits
from inferbridge.mock.exchange import Seen
from inferbridge.mock.serving import Doors, mocking
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import Pool
from inferbridge.upstream.pool import open_pool

type StartProxy = Callable[[Settings], AbstractAsyncContextManager[Listener]]
"""Starts a proxy with these settings, gives the address it really listens on, and stops it at the end."""
ANY_PORT = Listener("127.0.0.1", 0)
_SECONDS = 10.0
_TEMPLATE = Path(__file__).with_name("chat.jinja")
_RUNTIMES = {
    "tgis": ("grpc", "poet-tgis"),
    "vllm-nvidia": ("rest", "poet-vllm"),
    "caikit-tgis": ("grpc", "poet-caikit"),
    "triton": ("grpc", "echo-grpc"),
    "mlserver": ("rest", "echo-rest"),
}
"""The protocol that each of them speaks here, and its only model."""


@dataclass(frozen=True, slots=True)
class Lab:
    """What runs during the tour."""

    address: Listener
    clients: Mapping[str, Pool]
    """By protocol."""
    seen: list[tuple[str, Seen]]
    """Runtime and call, the latest last."""


@asynccontextmanager
async def open_lab(start_proxy: StartProxy, listen: Listener) -> AsyncIterator[Lab]:
    """The runtimes, the proxy in front of them and a client for either protocol."""
    seen: list[tuple[str, Seen]] = []
    async with AsyncExitStack() as stack:
        upstreams = []
        for name, (protocol, model) in _RUNTIMES.items():
            url = await stack.enter_async_context(_runtime(name, protocol, seen))
            upstreams.append(Upstream(name, name, parse_address(url), (model,), chat_template=_TEMPLATE))
        address = await stack.enter_async_context(start_proxy(Settings(listen=(listen,), upstreams=tuple(upstreams))))
        urls = {"rest": f"http://{address}", "grpc": f"grpc://{address}"}
        clients = {protocol: open_pool(url, limits=Limits()) for protocol, url in urls.items()}
        for pool in clients.values():
            stack.push_async_callback(pool.close)
        yield Lab(address, clients, seen)


@asynccontextmanager
async def _runtime(name: str, protocol: str, seen: list[tuple[str, Seen]]) -> AsyncIterator[str]:
    """One runtime, of which only the URL of one protocol is used."""
    async with mocking(name, Doors(rest=0, grpc=0), observer=lambda call: seen.append((name, call))) as urls:
        yield next(url for url in urls if url.startswith("grpc") == (protocol == "grpc"))


@dataclass(frozen=True, slots=True)
class Shown:
    """Both sides of a scene as text, and whether the answer was the right one."""

    sent: Lines
    received: Lines
    got: Lines
    answered: Lines
    right: bool


async def play(lab: Lab, scene: Scene) -> Shown:
    """Make the call of a scene."""
    lab.seen.clear()
    place = Place(f"{'grpc' if scene.protocol == 'grpc' else 'http'}://{lab.address}")
    ask = spoken(*find_endpoint(scene.endpoint), place, scene.protocol)
    request = composed(ask, scene.body, scene.headers, scene.path)
    got = await call(lab.clients[scene.protocol], ask, request, _SECONDS)
    runtime, seen = lab.seen[-1] if lab.seen else ("", None)
    return Shown(
        sent_lines(ask, request),
        seen_lines(seen),
        got_lines(ask, got),
        said_lines(seen),
        runtime == scene.runtime and _is_right(scene, got),
    )


def _is_right(scene: Scene, got: Got) -> bool:
    try:
        return scene.right(got)
    except (ValueError, KeyError, IndexError, TypeError):  # an answer of another shape
        return False


async def tour(lab: Lab, screen: Screen, stop: asyncio.Event) -> bool:
    """Make all calls and show them; whether every answer was the right one."""
    right = True
    for number, scene in enumerate(SCENES, 1):
        if stop.is_set():
            return False
        shown = await play(lab, scene)
        _show(screen, f"{number}. {scene.title}", shown)
        right &= shown.right
    return right


def _show(screen: Screen, title: str, shown: Shown) -> None:
    screen.title(title)
    screen.columns(("the client sent", "the runtime received"), shown.sent, shown.received)
    screen.text()
    screen.columns(("the client got", "the runtime answered"), shown.got, shown.answered)
    if not shown.right:
        screen.text("✗ this is not the answer it should be")


async def run_demo(
    start_proxy: StartProxy, out: TextIO, listen: Listener = ANY_PORT, serve_until: asyncio.Event | None = None
) -> int:
    """The demo; answers its exit code: 0 when every answer was right. With `serve_until` it serves until that is set.

    SIGINT and SIGTERM end it early, after the call in flight.
    """
    screen, stop = Screen(out), serve_until or asyncio.Event()
    async with open_lab(start_proxy, listen) as lab:
        with _ended_by_signals(stop):
            signs.welcome(screen, lab.address)
            right = await tour(lab, screen, stop)
            signs.farewell(screen, lab.address, serving=serve_until is not None)
            if serve_until is not None:
                await serve_until.wait()
    return 0 if right else 1


@contextmanager
def _ended_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`. The proxy has handlers of its own, which would end it and leave the demo."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
