"""Calls and connections leave nothing to the garbage collector: what they held is free as soon as they end."""

import asyncio
import gc
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
import trustme

from gateway.serving import TIMEOUT
from hostile.recorders import http1_recorder
from inferbridge.config import Listener
from inferbridge.gateway import build
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import versions
from inferbridge.process.proxy import Proxy
from process.running import SERVICE, Runtime, runtime, stream_request, unary_request

FREE = ("inferbridge", "mitmproxy.proxy.layer", "h2.", "OpenSSL")
MITMPROXYS = ("inferbridge.gateway.clients.release._Closed",)
"""What is left with mitmproxy's own handler, where its coroutine has ended by an exception that it holds itself."""
COMPLETION = json.dumps({"model": "text", "prompt": "a", "stream": True, "max_tokens": 3}).encode()
GENERATE = json.dumps({"modelId": "text", "requests": [{"text": "a"}]}).encode()
GENERATE_STREAM = json.dumps({"modelId": "text", "request": {"text": "a"}}).encode()
INFER = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'


@dataclass(frozen=True)
class Scene:
    """A proxy in this process, before a runtime of each protocol."""

    port: int
    tls: ssl.SSLContext | None
    runtime: Runtime

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A gRPC client with a connection of its own."""
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            yield channel

    async def post(self, path: str, body: bytes, *fields: str, until: bytes = b"", times: int = 1) -> None:
        """Calls over one HTTP/1.1 connection, which the client closes when it has seen `until`, or at the end."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.tls, server_hostname="localhost" if self.tls else None
        )
        lines = [f"POST {path} HTTP/1.1", "host: a", f"content-length: {len(body)}", *fields, "", ""]
        for _ in range(times):
            writer.write("\r\n".join(lines).encode() + body)
            if until:
                await reader.readuntil(until)
        if not until:
            assert b" 200 " in (await reader.read())[:20]
        writer.close()


async def _whole(scene: Scene) -> None:
    await scene.post("/v2/models/tensors/infer", INFER, until=b"{}", times=3)


async def _refused(scene: Scene) -> None:
    await scene.post("/v2/models/tensors/infer", b"[" * 1000, until=b"error")


async def _events(scene: Scene) -> None:
    await scene.post("/v1/completions", COMPLETION, "connection: close")


async def _events_left(scene: Scene) -> None:
    scene.runtime.gate.clear()
    await scene.post("/v1/completions", COMPLETION, until=b"Hel")
    await asyncio.sleep(0.05)  # the proxy sees it
    scene.runtime.gate.set()


async def _connect(scene: Scene) -> None:
    json_of = ("content-type: application/json", "connection: close")
    await scene.post(f"/{SERVICE}/Generate", GENERATE, *json_of)
    await scene.post(f"/{SERVICE}/GenerateStream", GENERATE_STREAM, *json_of, "accept: text/event-stream")


async def _grpc(scene: Scene) -> None:
    async with scene.channel() as channel:
        await channel.unary_unary(f"/{SERVICE}/Generate")(unary_request())
        async for _ in channel.unary_stream(f"/{SERVICE}/GenerateStream")(stream_request()):
            pass


async def _grpc_left(scene: Scene) -> None:
    scene.runtime.gate.clear()
    async with scene.channel() as channel:
        async for _ in (call := channel.unary_stream(f"/{SERVICE}/GenerateStream")(stream_request())):
            break
        call.cancel()
    scene.runtime.gate.set()


CALLS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "whole": _whole,
    "refused": _refused,
    "events": _events,
    "events that the client leaves": _events_left,
    "Connect": _connect,
    "gRPC": _grpc,
    "gRPC that the client leaves": _grpc_left,
}
OVER_TLS = ("whole", "refused", "events", "events that the client leaves", "Connect")


@asynccontextmanager
async def _scene(folder: Path, tensors: int, *, tls: bool) -> AsyncIterator[Scene]:
    lines, context = [], None
    if tls:
        authority = trustme.CA()
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        context = ssl.create_default_context()
        authority.configure_trust(context)
        lines = [f"tls: {{certificate: {folder / 'server.pem'}}}"]

    async with runtime() as text:
        text.gate.set()
        upstreams = (("text", "tgis", text.url), ("tensors", "triton", f"http://127.0.0.1:{tensors}"))
        lines += [
            "upstreams:",
            *(f"  - {{name: {a}, runtime: {b}, url: '{c}', models: [{a}, m]}}" for a, b, c in upstreams),
        ]
        proxy = Proxy(build.settings(folder / "a.yaml", text="\n".join(lines).encode()), Metrics(versions()))
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        listen = [Listener("127.0.0.1", 0)]
        task = asyncio.create_task(proxy.serve(listen, lambda addresses: bound.set_result(addresses[0][1])))
        try:
            async with asyncio.timeout(TIMEOUT):
                yield Scene(await bound, context, text)
        finally:
            task.cancel()
            await asyncio.wait([task])


@contextmanager
def _saving() -> Iterator[Counter[str]]:
    """Counts, at the end of the block, what of ours the garbage collector finds; until then it does not run."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.garbage.clear()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        found.update(type(each).__module__ + "." + type(each).__qualname__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    for name in list(found):
        if not name.startswith(FREE) or name in MITMPROXYS:
            del found[name]


@pytest.mark.parametrize(("name", "tls"), [*((name, False) for name in CALLS), *((name, True) for name in OVER_TLS)])
async def test_nothing_is_left_to_the_garbage_collector(tmp_path: Path, name: str, tls: bool) -> None:
    """Not one of our objects, of mitmproxy's layers or of h2's is found in a circle once its connection is closed."""
    with http1_recorder() as (_, tensors):
        async with _scene(tmp_path, tensors, tls=tls) as scene:
            call = CALLS[name]
            await call(scene)
            await asyncio.sleep(0.1)  # what the first call made once is there
            with _saving() as found:
                for _ in range(3):
                    await call(scene)
                await asyncio.sleep(0.3)  # the connections close
    assert not found, found
