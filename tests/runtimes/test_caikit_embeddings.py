"""Embeddings on a real caikit runtime, through the proxy from either of its doors and from OpenAI's SDK."""

import base64
import json
import shlex
import struct
import subprocess
from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from inferbridge_generated.caikit import wire
from runtimes.lab import Lab
from runtimes.routes import Route

pytestmark = [pytest.mark.runtimes, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

RUNTIME = "caikit-standalone"
SERVICE = "/caikit.runtime.Nlp.NlpService"
CURL = (  # as OpenShift AI documents it
    """curl -H 'Content-Type: application/json' -d '{{"inputs": "{text}", "model_id": "sparrow"}}' """
    """http://{host}/api/v1/task/embedding -H 'Authorization: Bearer token'"""
)
TEXT = "one two three"


def curl(command: str) -> tuple[int, str]:
    """Status and body of a command's call."""
    arguments = [*shlex.split(command), "-s", "--max-time", "30", "--write-out", "\n%{http_code}"]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    text, _, status = output.rpartition("\n")
    return int(status), text


def post(host: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a call."""
    kind = "-H 'content-type: application/json'"
    status, text = curl(f"curl http://{host}{path} {kind} -d {shlex.quote(json.dumps(body))}")
    return status, json.loads(text)


def embed_grpc(address: str, text: str, model: str = "sparrow", keep: int | None = None) -> wire.EmbeddingResult:
    """The documented gRPC call: the model is named in the metadata `mm-model-id`."""
    asked = wire.EmbeddingTaskRequest(text=text, truncate_input_tokens=keep)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"{SERVICE}/EmbeddingTaskPredict")
        metadata = (("mm-model-id", model), ("authorization", "Bearer token"))
        answer = call(b"".join(map(bytes, wire.encode_EmbeddingTaskRequest(asked))), metadata=metadata, timeout=30)
    return wire.decode_EmbeddingResult(answer, [])


def embed_grpc_list(address: str, *texts: str) -> wire.EmbeddingResults:
    """Several texts in one call."""
    asked = wire.EmbeddingTasksRequest(texts=list(texts))
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"{SERVICE}/EmbeddingTasksPredict")
        data = b"".join(map(bytes, wire.encode_EmbeddingTasksRequest(asked)))
        answer = call(data, metadata=(("mm-model-id", "sparrow"),), timeout=30)
    return wire.decode_EmbeddingResults(answer, [])


def doors(lab: Lab) -> tuple[str, str]:
    """The server's own addresses for REST and gRPC."""
    server = lab.server(RUNTIME)
    return f"127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}"


def test_the_documented_curl(lab: Lab, upstream: str) -> None:
    """The documented REST call gives through the proxy what the runtime's REST door gives itself, to the last bit."""
    direct, _ = doors(lab)
    answers = [curl(CURL.format(host=host, text=TEXT)) for host in (direct, lab.proxy(RUNTIME, upstream).address)]
    assert [status for status, _ in answers] == [200, 200]
    own, ours = [json.loads(text) for _, text in answers]
    assert ours == own
    assert len(own["result"]["data"]["values"]) == 384
    assert own["input_token_count"] == 5


def test_the_documented_grpc_call(lab: Lab, upstream: str) -> None:
    """The documented gRPC call gives through the proxy what the runtime's gRPC door gives itself, bytes and all."""
    _, direct = doors(lab)
    own, ours = [embed_grpc(address, TEXT) for address in (direct, lab.proxy(RUNTIME, upstream).address)]
    assert ours == own
    assert own.result is not None
    assert own.result.data_npfloat32sequence is not None
    assert len(own.result.data_npfloat32sequence.values) == 4 * 384
    assert own.input_token_count == 5


@pytest.mark.parametrize("word", ["DOUBLE", "LIST"])
def test_doubles_stay_doubles(lab: Lab, upstream: str, word: str) -> None:
    """A vector of doubles is not rounded to float32 on its way to a gRPC client; REST has one form for both kinds."""
    _, direct = doors(lab)
    text = f"one {word}"
    own, ours = [embed_grpc(address, text).result for address in (direct, lab.proxy(RUNTIME, upstream).address)]
    assert own is not None
    assert ours is not None
    numbers = (own.data_npfloat64sequence or own.data_pyfloatsequence).values  # type: ignore[union-attr]
    assert (ours.data_npfloat64sequence or ours.data_pyfloatsequence).values == numbers  # type: ignore[union-attr]
    assert len(numbers) == 8 * 384


def test_lists_and_truncation(lab: Lab, upstream: str) -> None:
    """Several texts are one call of either door, and a truncation is the runtime's own."""
    rest, direct = doors(lab)
    proxy = lab.proxy(RUNTIME, upstream).address
    parameters = {"truncate_input_tokens": 2}
    body = {"model_id": "sparrow", "inputs": ["one two three", "", "four"], "parameters": parameters}
    own, ours = [post(host, "/api/v1/task/embedding-tasks", body) for host in (rest, proxy)]
    assert ours == own
    assert (own[0], own[1]["input_token_count"]) == (200, 2 + 0 + 1 + 3 * 2)
    assert embed_grpc_list(proxy, "one", "two three") == embed_grpc_list(direct, "one", "two three")
    assert embed_grpc(proxy, TEXT, keep=1) == embed_grpc(direct, TEXT, keep=1)
    assert embed_grpc(proxy, "a " * 30, keep=-1) == embed_grpc(direct, "a " * 30, keep=-1)


def test_errors_keep_their_meaning(lab: Lab, upstream: str) -> None:
    """An unknown model, a failing one and a text that is too long are the runtime's own errors on either door."""
    rest, direct = doors(lab)
    proxy = lab.proxy(RUNTIME, upstream).address
    for model, text in (("nobody", "a"), ("sparrow", "FAIL"), ("sparrow", "a " * 30)):
        body = {"model_id": model, "inputs": text}
        own, ours = [post(host, "/api/v1/task/embedding", body) for host in (rest, proxy)]
        assert ours[0] == own[0] != 200
        assert ours[1]["details"] == own[1]["details"]
        errors = []
        for address in (direct, proxy):
            with pytest.raises(grpc.RpcError) as caught:
                embed_grpc(address, text, model)
            errors.append((caught.value.code(), caught.value.details()))
        assert errors[0] == errors[1]


def test_a_model_of_another_task_gives_no_vector(lab: Lab, upstream: str) -> None:
    """Caikit lets a model that writes text answer a call for a vector; a client of the other protocol gets an error."""
    if upstream == "grpc":
        status, body = post(
            lab.proxy(RUNTIME, upstream).address, "/api/v1/task/embedding", {"model_id": "parrot", "inputs": "a"}
        )
        assert (status, "details" in body) == (500, True)
    else:
        with pytest.raises(grpc.RpcError) as caught:
            embed_grpc(lab.proxy(RUNTIME, upstream).address, "a", "parrot")
        assert caught.value.code() is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_openais_sdk(lab: Lab, upstream: str, encoding: dict[str, str]) -> None:
    """OpenAI's SDK gets the runtime's float32 for one text and for several, as numbers and as base64."""
    _, direct = doors(lab)
    client = lab.client(Route("openai_sdk", RUNTIME, upstream))
    results = embed_grpc_list(direct, TEXT, "four").results
    assert results is not None
    sequences = [vector.data_npfloat32sequence for vector in results.vectors]
    packed = [bytes(sequence.values) for sequence in sequences if sequence is not None]
    for asked, expected, tokens in (([TEXT, "four"], packed, 8), (TEXT, packed[:1], 5)):
        made = client.call("embed", model="sparrow", input=asked, **encoding)["result"]
        vectors = [unpacked(each) if isinstance(each, str) else each for each in made["vectors"]]
        assert vectors == [list(struct.unpack("<384f", data)) for data in expected]
        assert (made["indices"], made["prompt_tokens"], made["model"]) == (
            list(range(len(expected))),
            tokens,
            "sparrow",
        )


def unpacked(text: str) -> list[float]:
    """The SDK leaves base64 alone where its user asked for it."""
    return list(struct.unpack("<384f", base64.b64decode(text)))


def test_openais_sdk_gets_its_errors(lab: Lab, upstream: str) -> None:
    """What the runtime refuses and what it has no place for are the exceptions of the SDK that users catch."""
    client = lab.client(Route("openai_sdk", RUNTIME, upstream))
    missing = client.call("embed", model="nobody", input="a")["error"]
    assert missing["status"] == "404 NotFoundError"
    failing = client.call("embed", model="sparrow", input="FAIL")["error"]
    assert (failing["status"], "the text wants it" in failing["message"]) == ("400 BadRequestError", True)
    shorter = client.call("embed", model="sparrow", input="a", dimensions=8)["error"]
    assert (shorter["status"], "dimensions" in shorter["message"]) == ("400 BadRequestError", True)
