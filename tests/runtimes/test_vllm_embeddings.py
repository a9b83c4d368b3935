"""Caikit's embedding tasks served by a real vLLM, and OpenAI's SDK through the proxy to it."""

import base64
import json
import struct
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest

from inferbridge_generated.caikit import wire
from runtimes.lab import environment
from runtimes.programs import run_client

pytestmark = pytest.mark.heavy

TEXT = "one two three four five"
METHOD = "/caikit.runtime.Nlp.NlpService/EmbeddingTasksPredict"


def post(host: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a call."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{host}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def own(host: str, **fields: Any) -> dict[str, Any]:
    """What vLLM answers itself."""
    status, body = post(host, "/v1/embeddings", {"model": "tiny", **fields})
    assert status == 200
    assert isinstance(body, dict)
    return body


def over_grpc(address: str, texts: list[str], model: str = "tiny", keep: int | None = None) -> wire.EmbeddingResults:
    """A caikit client's call."""
    asked = wire.EmbeddingTasksRequest(texts=texts, truncate_input_tokens=keep)
    with grpc.insecure_channel(address) as channel:
        data = b"".join(map(bytes, wire.encode_EmbeddingTasksRequest(asked)))
        call = channel.unary_unary(METHOD)
        return wire.decode_EmbeddingResults(call(data, metadata=(("mm-model-id", model),), timeout=60), [])


def singles(answer: wire.EmbeddingResults) -> list[bytes]:
    """The float32 of its vectors."""
    assert answer.results is not None
    found = [vector.data_npfloat32sequence for vector in answer.results.vectors]
    return [bytes(sequence.values) for sequence in found if sequence is not None]


def test_a_caikit_rest_client_gets_vllms_numbers(pooling_vllm: tuple[str, str]) -> None:
    """One text to the embedding task gives the numbers and the count of tokens that vLLM answers itself."""
    server, proxy = pooling_vllm
    expected = own(server, input=TEXT)
    status, body = post(proxy, "/api/v1/task/embedding", {"model_id": "tiny", "inputs": TEXT})
    assert status == 200
    assert body["result"]["data"]["values"] == expected["data"][0]["embedding"]
    assert body["input_token_count"] == expected["usage"]["prompt_tokens"]


def test_a_caikit_grpc_client_gets_vllms_float32(pooling_vllm: tuple[str, str]) -> None:
    """Several texts give vectors with the bytes of vLLM's own base64, in order."""
    server, proxy = pooling_vllm
    texts = [TEXT, "", "naïve 🙂"]
    expected = own(server, input=texts, encoding_format="base64")
    made = over_grpc(proxy, texts)
    assert singles(made) == [base64.b64decode(each["embedding"]) for each in expected["data"]]
    assert made.input_token_count == expected["usage"]["prompt_tokens"]


@pytest.mark.parametrize(("keep", "counted"), [(1, 3), (4, 6), (-1, -1)])
def test_truncation_counts_special_tokens(pooling_vllm: tuple[str, str], keep: int, counted: int) -> None:
    """Caikit keeps so many tokens besides two special ones, which vLLM counts: its vector is of as many tokens."""
    server, proxy = pooling_vllm
    expected = own(server, input=TEXT, truncate_prompt_tokens=counted, encoding_format="base64")
    made = over_grpc(proxy, [TEXT], keep=keep)
    assert singles(made) == [base64.b64decode(expected["data"][0]["embedding"])]
    assert made.input_token_count == expected["usage"]["prompt_tokens"] == (counted if counted > 0 else 12)
    cut = own(server, input=TEXT, truncate_prompt_tokens=counted, truncation_side="right", encoding_format="base64")
    assert cut["data"] == expected["data"]


def test_errors_keep_their_meaning(pooling_vllm: tuple[str, str]) -> None:
    """An unknown model and a text that is too long are vLLM's own errors, in caikit's form on either door."""
    server, proxy = pooling_vllm
    for model, text, code in (("nobody", "a", grpc.StatusCode.NOT_FOUND), ("tiny", "a" * 600, None)):
        status, body = post(server, "/v1/embeddings", {"model": model, "input": text})
        message = body["error"]["message"]
        assert post(proxy, "/api/v1/task/embedding", {"model_id": model, "inputs": text})[0] == status != 200
        with pytest.raises(grpc.RpcError) as caught:
            over_grpc(proxy, [text], model)
        assert caught.value.code() is (code or grpc.StatusCode.INVALID_ARGUMENT)
        assert caught.value.details() == message


def test_openais_sdk_through_the_proxy(pooling_vllm: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """The SDK's calls, vLLM's own fields and shortened vectors included, pass as they are."""
    server, proxy = pooling_vllm
    expected = own(server, input=[TEXT, "two"], encoding_format="base64")["data"]
    with run_client(environment("openai"), "openai_sdk", proxy, tmp_path_factory.mktemp("client")) as client:
        made = client.call("embed", model="tiny", input=[TEXT, "two"])["result"]
        more = client.call("embed", model="tiny", input="a", extra_body={"use_activation": False})["result"]
    packed = [base64.b64decode(each["embedding"]) for each in expected]
    assert made["vectors"] == [list(struct.unpack(f"<{len(data) // 4}f", data)) for data in packed]
    assert more["vectors"] == [each["embedding"] for each in own(server, input="a", use_activation=False)["data"]]
