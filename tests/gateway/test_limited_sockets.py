"""Limits over real sockets: curl and a client that hangs up, a gRPC server behind the gateway."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio

from gateway.serving import TIMEOUT, curl, serving
from inferbridge.auth.settings import AuthSettings, NoneSettings, Rates, Rule
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge_generated.tgis import wire

SERVICE = "fmaas.GenerationService"
BODY = json.dumps({"model": "m", "prompt": "a", "temperature": 0, "stream": True})


class Slow:
    """A runtime that says one thing, and no more until it may."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.left = asyncio.Event()

    async def stream(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        yield b"".join(map(bytes, wire.encode_GenerationResponse(wire.GenerationResponse(text="a"))))
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        yield b"".join(map(bytes, wire.encode_GenerationResponse(wire.GenerationResponse(stop_reason=2))))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        server = grpc.aio.server()
        handler = grpc.unary_stream_rpc_method_handler(self.stream)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"GenerateStream": handler}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(None)


@asynccontextmanager
async def gateway(runtime: Slow, rates: Rates, confdir: Path) -> AsyncIterator[int]:
    """A guarded gateway with one rule for everybody; its port."""
    async with runtime.serving() as upstream:
        plain = build.settings(None, {}, Flags(upstream=(f"tgis=grpc://127.0.0.1:{upstream}",)))
        auth = AuthSettings((NoneSettings(),), rules=(Rule(rates=rates),))
        application = build.application(dataclasses.replace(plain, auth=auth))
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            yield port
        await application.close()


async def asked(port: int) -> bytes:
    """What curl gets for a completion, head and all."""
    url = f"http://127.0.0.1:{port}/v1/completions"
    return await curl("-i", "-H", "content-type: application/json", "-d", BODY, url)


async def test_a_client_that_hangs_up_makes_room_for_the_next(confdir: Path) -> None:
    """While one stream runs another is refused with 429; when its client is gone the next one is served to its end."""
    runtime = Slow()
    async with gateway(runtime, Rates(concurrent_calls=1), confdir) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n\r\n"
        writer.write(head.encode() + BODY.encode())
        await reader.readuntil(b'"text":"a"')
        refused = await asked(port)
        assert refused.startswith(b"HTTP/1.1 429")
        assert b"retry-after: 1\r\n" in refused
        assert b"too many calls at one time for this caller: at most 1" in refused
        writer.close()
        await runtime.left.wait()
        runtime.may_end.set()
        assert (await asked(port)).endswith(b"data: [DONE]\n\n")


async def test_a_grpc_client_is_told_when_to_try_again(confdir: Path) -> None:
    """RESOURCE_EXHAUSTED, with `retry-after` among the trailing metadata."""
    runtime = Slow()
    runtime.may_end.set()
    asking = wire.SingleGenerationRequest(model_id="m", request=wire.GenerationRequest(text="a"))
    message = b"".join(map(bytes, wire.encode_SingleGenerationRequest(asking)))
    async with (
        gateway(runtime, Rates(requests_per_minute=1), confdir) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        generate = channel.unary_stream(f"/{SERVICE}/GenerateStream")
        assert len([each async for each in generate(message)]) == 2
        call = generate(message)
        assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "at most 1 a minute" in (await call.details() or "")
        assert int(dict(await call.trailing_metadata())["retry-after"]) in range(50, 61)
