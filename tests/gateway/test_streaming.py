"""Streams between APIs over real sockets: curl at one end, a gRPC server at the other."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import pytest

from gateway.serving import TIMEOUT, curl, serving
from gateway.test_translating import completion, message
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.calls import pulse
from inferbridge_generated.tgis import wire
from timers import noted

RPC = "/fmaas.GenerationService/GenerateStream"


@asynccontextmanager
async def tgis(*texts: str) -> AsyncIterator[int]:
    """A gRPC server that streams these texts to whoever asks; the port."""

    async def generate(request: bytes, context: object) -> AsyncIterator[bytes]:
        asked = wire.decode_SingleGenerationRequest(request, [])
        assert asked.request is not None
        yield b"".join(map(bytes, wire.encode_GenerationResponse(wire.GenerationResponse(input_token_count=1))))
        for count, text in enumerate(texts, 1):
            response = wire.GenerationResponse(text=text, generated_token_count=count)
            response.stop_reason = 2 if count == len(texts) else 0
            yield b"".join(map(bytes, wire.encode_GenerationResponse(response)))

    handler = grpc.unary_stream_rpc_method_handler(generate)
    server = grpc.aio.server()
    service, method = RPC[1:].split("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_a_grpc_stream_reaches_curl_as_events(confdir: Path) -> None:
    """An OpenAI completion streams from a gRPC runtime, to its mark of success."""
    body = json.dumps({"model": "m", "prompt": "a", "stream": True, "stream_options": {"include_usage": True}})
    async with tgis("Hel", "lo", "") as upstream:
        settings = build.settings(None, {}, Flags(upstream=(f"tgis=grpc://127.0.0.1:{upstream}",)))
        application = build.application(settings)
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            url = f"http://127.0.0.1:{port}/v1/completions"
            output = await curl("-N", "-H", "content-type: application/json", "-d", body, url)
        await application.close()
    *events, usage, done = [line.removeprefix("data: ") for line in output.decode().split("\n\n") if line]
    texts = [json.loads(event)["choices"][0]["text"] for event in events]
    assert "".join(texts) == "Hello"
    assert json.loads(usage)["usage"] == {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
    assert done == "[DONE]"


async def test_a_client_that_left_needs_no_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the client gone nothing is written and no timer is left, which would hold the call until it is due."""
    timers = noted(monkeypatch)
    client, upstream, sink = completion(stream=True)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, (("content-type", "application/grpc"),))
    receiver.on_data(message(generated_token_count=1, text="x"))
    before = client.body
    assert timers.pending
    sink.on_cancel()
    assert not timers.pending
    assert client.body == before


async def test_a_silent_stream_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a runtime says nothing within a stream, comments keep the client's connection from being given up."""
    monkeypatch.setattr(pulse, "SECONDS", 0.01)
    client, upstream, _ = completion(stream=True)
    _, receiver = upstream.calls[0]
    receiver.on_head(200, (("content-type", "application/grpc"),))
    receiver.on_data(message(generated_token_count=1, text="x"))
    async with asyncio.timeout(TIMEOUT):
        while b": ping" not in client.body:  # noqa: ASYNC110 - the collecting client tells nobody
            await asyncio.sleep(0)
    receiver.on_data(message(generated_token_count=2, stop_reason=2))
    receiver.on_end((("grpc-status", "0"),))
    assert client.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("application/json;stream=array", "application/json"), ("application/x-ndjson", "application/x-ndjson")],
)
async def test_a_stream_comes_as_the_client_accepts_it(confdir: Path, accept: str, content_type: str) -> None:
    """Of an endpoint that only streams, who accepts JSON gets one array, and who accepts lines gets lines."""
    body = json.dumps({"model_id": "m", "inputs": "a"})
    async with tgis("Hel", "lo", "") as upstream:
        settings = build.settings(None, {}, Flags(upstream=(f"tgis=grpc://127.0.0.1:{upstream}",)))
        application = build.application(settings)
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            url = f"http://127.0.0.1:{port}/api/v1/task/server-streaming-text-generation"
            output = await curl("-i", "-H", f"accept: {accept}", "-d", body, url)
        await application.close()
    head, _, text = output.decode().partition("\r\n\r\n")
    assert f"content-type: {content_type}" in head.lower()
    pieces = json.loads(text) if content_type == "application/json" else [json.loads(line) for line in text.split()]
    assert "".join(piece["generated_text"] for piece in pieces) == "Hello"
