"""A runtime is killed in the middle of an answer: its clients get an error in their own dialect and never wait."""

import asyncio
import json
from pathlib import Path

import grpc.aio
import pytest

from gateway.serving import TIMEOUT, curl, serving
from gateway.test_reframing import called
from gateway.test_service import Client
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.calls.answers import PassthroughAnswer
from inferbridge_generated.tgis import wire
from upstream.h1_server import Answer, h1_server
from upstream.h2_server import HEAD, Peer, h2_server

LOST = BridgeError(Code.UNAVAILABLE, "connection to http://vllm:8000 lost: closed by the runtime")
BODY = json.dumps({"model": "m", "prompt": "a", "stream": True}).encode()
EVENT = b'data: {"id":"1","object":"text_completion","model":"m","choices":[{"index":0,"text":"Hel"}]}\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
GENERATE = "/fmaas.GenerationService/GenerateStream"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _request() -> bytes:
    text = wire.GenerationRequest(text="a")
    return b"".join(
        map(bytes, wire.encode_SingleGenerationRequest(wire.SingleGenerationRequest(model_id="m", request=text)))
    )


def _response(text: str) -> bytes:
    return b"".join(map(bytes, wire.encode_GenerationResponse(wire.GenerationResponse(text=text))))


def test_a_stream_that_passes_through_ends_with_the_error() -> None:
    """Between two events there is a place for it, in OpenAI's form; no [DONE] follows."""
    seen, upstream = called("/v1/completions", "*/*", "vllm-nvidia", BODY)
    receiver = upstream.calls[0][1]
    receiver.on_head(200, (("content-type", "text/event-stream"),))
    receiver.on_data(EVENT)
    receiver.on_failure(LOST)
    assert seen.body.startswith(EVENT)
    error = json.loads(seen.body[len(EVENT) :].decode().removeprefix("data: "))
    assert (error["error"]["message"], error["error"]["code"]) == (LOST.message, 503)
    assert (seen.ended, seen.aborted) == (True, False)


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ((("content-type", "text/event-stream"),), b'data: {"id"'),
        ((("content-type", "text/event-stream"), ("content-encoding", "gzip")), b"\n\n"),
        ((("content-type", "application/json"),), b"\n\n"),
    ],
)
def test_an_answer_without_a_place_for_an_error_is_cut(headers: tuple[tuple[str, str], ...], data: bytes) -> None:
    """Within an event, in a compressed stream or in a document, the client sees that the end is missing."""
    seen, upstream = called("/v1/completions", "*/*", "vllm-nvidia", BODY)
    receiver = upstream.calls[0][1]
    receiver.on_head(200, headers)
    receiver.on_data(data)
    receiver.on_failure(LOST)
    assert (seen.body, seen.ended, seen.aborted) == (data, False, True)


def test_a_grpc_call_that_passes_through_ends_with_a_status() -> None:
    """UNAVAILABLE in the trailers, behind the messages that came."""
    client = Client()
    receiver = PassthroughAnswer(client, True)
    receiver.on_head(200, (("content-type", "application/grpc"),))
    receiver.on_data(b"\0\0\0\0\1x")
    receiver.on_failure(LOST)
    assert (client.get("grpc-status"), client.get("grpc-message")) == ("14", LOST.message)


@pytest.mark.parametrize("runtime", ["vllm-nvidia", "tgis"])
async def test_a_rest_client_of_a_killed_runtime(confdir: Path, runtime: str) -> None:
    """What was generated arrives as events, then the error in OpenAI's form; the runtime was asked once."""

    def die(peer: Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, HEAD)
        for text in ("", "Hel"):
            peer.h2.send_data(stream_id, b"".join(map(bytes, frame([(_response(text),)]))))
        peer.flush()
        peer.transport.close()

    async with h1_server(lambda _: Answer(STREAM_HEAD + _chunk(EVENT), "close")) as rest, h2_server(die) as h2:
        url = h2.url if runtime == "tgis" else rest.url
        output = await _curl(confdir, f"{runtime}={url}")
        assert len(rest.requests) + len(h2.requests) == 1
    *events, error = [json.loads(line.removeprefix("data: ")) for line in output.decode().split("\n\n") if line]
    assert "".join(event["choices"][0]["text"] for event in events) == "Hel"
    assert error["error"]["code"] == 503
    assert "lost: closed by the runtime" in error["error"]["message"]


async def _curl(confdir: Path, upstream: str) -> bytes:
    application = build.application(build.settings(None, {}, Flags(upstream=(upstream,))))
    async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
        url = f"http://127.0.0.1:{port}/v1/completions"
        output = await curl("-N", "-H", "content-type: application/json", "-d", BODY.decode(), url)
    await application.close()
    return output


@pytest.mark.parametrize("runtime", ["vllm-nvidia", "tgis"])
async def test_a_grpc_client_of_a_killed_runtime(confdir: Path, runtime: str) -> None:
    """Messages that were made arrive, then UNAVAILABLE; the runtime was asked once."""

    def die(peer: Peer, stream_id: int) -> None:
        peer.h2.send_headers(stream_id, HEAD)
        peer.h2.send_data(stream_id, b"".join(map(bytes, frame([(_response("Hel"),)]))))
        peer.flush()
        peer.transport.close()

    async with h1_server(lambda _: Answer(STREAM_HEAD + _chunk(EVENT), "close")) as rest, h2_server(die) as h2:
        url = h2.url if runtime == "tgis" else rest.url
        application = build.application(build.settings(None, {}, Flags(upstream=(f"{runtime}={url}",))))
        async with serving(application, confdir) as port, asyncio.timeout(TIMEOUT):
            texts, code = await _generate(port)
        await application.close()
        assert len(rest.requests) + len(h2.requests) == 1
    assert ("".join(texts), code) == ("Hel", grpc.StatusCode.UNAVAILABLE)


async def _generate(port: int) -> tuple[list[str], grpc.StatusCode]:
    texts: list[str] = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream(GENERATE)(_request())
        try:
            async for each in call:
                texts.append(wire.decode_GenerationResponse(each, []).text)
        except grpc.aio.AioRpcError as error:
            return texts, error.code()
    return texts, grpc.StatusCode.OK
