"""vLLM's engine dies, as recorded (0.32, its worker killed): what each kind of client sees of it, in memory.

Of the recorded streams the middle was cut by who recorded them; the first events and the end are whole.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.test_reframing import called
from gateway.test_service import Client
from gateway.test_translating import Upstream, begun, responses_of
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.upstream.api import Receiver
from inferbridge_generated.caikit import wire as caikit
from inferbridge_generated.tgis import wire as tgis

DEATH = json.loads((Path(__file__).parent.parent / "golden/generation/vllm.json").read_text())["engine_death"]
MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."
REFUSED = BridgeError(Code.UNAVAILABLE, "cannot connect to http://vllm:8000: connection refused")
VLLM = "vllm-nvidia"
CAIKIT_GRPC = "/caikit.runtime.Nlp.NlpService/"


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


def framed(chunks: Any) -> bytes:
    """One gRPC message on the wire."""
    return b"".join(map(bytes, frame([chunks])))


def fmaas(stream: bool) -> tuple[Client, Upstream, Any]:
    """A client of TGIS."""
    text = tgis.GenerationRequest(text="hello world")
    if stream:
        single = tgis.SingleGenerationRequest(model_id="tiny-llama", request=text)
        return begun(
            VLLM,
            "rest",
            "/fmaas.GenerationService/GenerateStream",
            framed(tgis.encode_SingleGenerationRequest(single)),
            grpc=True,
        )
    batch = tgis.BatchedGenerationRequest(model_id="tiny-llama", requests=[text])
    body = framed(tgis.encode_BatchedGenerationRequest(batch))
    return begun(VLLM, "rest", "/fmaas.GenerationService/Generate", body, grpc=True)


def caikit_grpc(stream: bool) -> tuple[Client, Upstream, Any]:
    """A gRPC client of caikit."""
    if stream:
        asked = caikit.ServerStreamingTextGenerationTaskRequest(text="hello world")
        body = framed(caikit.encode_ServerStreamingTextGenerationTaskRequest(asked))
        return begun(VLLM, "rest", f"{CAIKIT_GRPC}ServerStreamingTextGenerationTaskPredict", body, grpc=True)
    body = framed(caikit.encode_TextGenerationTaskRequest(caikit.TextGenerationTaskRequest(text="hello world")))
    return begun(VLLM, "rest", f"{CAIKIT_GRPC}TextGenerationTaskPredict", body, grpc=True)


def caikit_rest(stream: bool) -> tuple[Client, Upstream, Any]:
    """A REST client of caikit."""
    task = "server-streaming-text-generation" if stream else "text-generation"
    body = b'{"model_id": "tiny-llama", "inputs": "hello world"}'
    return begun(VLLM, "rest", f"/api/v1/task/{task}", body)


GRPC_CLIENTS = {"fmaas": fmaas, "caikit": caikit_grpc}


def dies(receiver: Receiver, name: str) -> None:
    """The recorded answer."""
    reply = DEATH[name]["reply"]
    receiver.on_head(reply["status"], tuple(tuple(pair) for pair in reply["headers"]))
    receiver.on_data(reply["body"].encode())
    receiver.on_end(())


@pytest.mark.parametrize("client", GRPC_CLIENTS)
def test_a_grpc_client_of_a_stream_gets_what_came_and_then_the_error(client: str) -> None:
    """Both texts that the engine made arrive, then INTERNAL in vLLM's words; its [DONE] is no success."""
    seen, upstream, _ = GRPC_CLIENTS[client](True)
    dies(upstream.calls[0][1], "completions_stream")
    assert (seen.get("grpc-status"), seen.get("grpc-message")) == ("13", MESSAGE)
    assert b"," in seen.body
    assert b" how" in seen.body
    if client == "fmaas":
        found = responses_of(seen)
        assert [(each.text, each.generated_token_count, each.stop_reason) for each in found[1:]] == [
            (",", 1, 0),
            (" how", 2, 0),
        ]


@pytest.mark.parametrize("client", GRPC_CLIENTS)
def test_a_grpc_client_of_one_answer_gets_the_error_alone(client: str) -> None:
    """INTERNAL in vLLM's words, and no message."""
    seen, upstream, _ = GRPC_CLIENTS[client](False)
    dies(upstream.calls[0][1], "completions")
    assert (seen.get("grpc-status"), seen.get("grpc-message"), seen.body) == ("13", MESSAGE, b"")


def test_a_rest_client_of_another_api_is_told_in_its_stream() -> None:
    """A caikit client gets both texts as events of its own, and caikit's error event last."""
    seen, upstream, _ = caikit_rest(True)
    dies(upstream.calls[0][1], "completions_stream")
    *texts, error = [event for event in seen.body.decode().split("\r\n\r\n") if event]
    found = [json.loads(event.partition("data: ")[2])["generated_text"] for event in texts]
    assert [text for text in found if text] == [",", " how"]
    assert error.startswith("event: error\r\n")
    told = json.loads(error.partition("data: ")[2])
    assert (told["code"], told["details"]) == (500, MESSAGE)


def test_a_rest_client_of_another_api_gets_an_error_for_one_answer() -> None:
    """Caikit's status and form with vLLM's words."""
    seen, upstream, _ = caikit_rest(False)
    dies(upstream.calls[0][1], "completions")
    assert (seen.status, json.loads(seen.body)["details"]) == (500, MESSAGE)


STREAMS = {"completions_stream": "/v1/completions", "chat_stream": "/v1/chat/completions"}


@pytest.mark.parametrize("name", STREAMS)
def test_vllms_own_client_gets_vllms_bytes(name: str) -> None:
    """The error event and the [DONE] after it pass through as they came."""
    seen, upstream = called(STREAMS[name], "*/*", VLLM, DEATH[name]["request"]["body"].encode())
    dies(upstream.calls[0][1], name)
    assert (seen.status, seen.body.decode()) == (200, DEATH[name]["reply"]["body"])


@pytest.mark.parametrize("name", STREAMS)
def test_lines_end_with_the_error(name: str) -> None:
    """A client that asks for lines gets each event as one, the error last."""
    seen, upstream = called(STREAMS[name], "application/x-ndjson", VLLM, DEATH[name]["request"]["body"].encode())
    dies(upstream.calls[0][1], name)
    *chunks, error = [json.loads(line) for line in seen.body.split(b"\n") if line]
    assert len(chunks) == 2
    assert (error["error"]["code"], error["error"]["message"]) == (500, MESSAGE)


def test_a_dead_server_is_unavailable_to_grpc() -> None:
    """After its death vLLM's process is gone (recorded: connection refused); a gRPC client may try again elsewhere."""
    for begin in GRPC_CLIENTS.values():
        for stream in (False, True):
            seen, upstream, _ = begin(stream)
            upstream.calls[0][1].on_failure(REFUSED)
            assert (seen.get("grpc-status"), seen.get("grpc-message")) == ("14", REFUSED.message)


def test_a_dead_server_is_an_error_answer_to_rest() -> None:
    """Also where a stream was asked for: nothing of it was sent. OpenAI clients get 503, in OpenAI's form."""
    for name, path in STREAMS.items():
        seen, upstream = called(path, "*/*", VLLM, DEATH[name]["request"]["body"].encode())
        upstream.calls[0][1].on_failure(REFUSED)
        assert (seen.status, json.loads(seen.body)["error"]["message"]) == (503, REFUSED.message)
    for stream in (False, True):
        seen, upstream, _ = caikit_rest(stream)
        upstream.calls[0][1].on_failure(REFUSED)
        assert seen.status >= 500
        assert json.loads(seen.body)["details"] == REFUSED.message
