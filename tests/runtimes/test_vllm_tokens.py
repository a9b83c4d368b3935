"""Tokens, models and health of a real vLLM with the fmaas adapter, for clients of every API."""

import json
from typing import Any

import grpc
import pytest

from inferbridge_generated.caikit import wire as caikit
from inferbridge_generated.tgis import wire as tgis
from runtimes.lab import Lab
from runtimes.test_caikit_info import ask, get, post

pytestmark = pytest.mark.heavy

RUNTIME = "vllm-nvidia"
UPSTREAMS = pytest.mark.parametrize("upstream", ["rest", "grpc"])
TEXT = "hello world"


def tokenize(address: str, **asked: Any) -> Any:
    """What fmaas' Tokenize says of two texts."""
    requests = [tgis.TokenizeRequest(text=text) for text in (TEXT, "one")]
    message = tgis.encode_BatchedTokenizeRequest(tgis.BatchedTokenizeRequest(requests=requests, **asked))
    return tgis.decode_BatchedTokenizeResponse(ask(address, "/fmaas.GenerationService/Tokenize", message), [])


@pytest.fixture
def model(lab: Lab) -> str:
    """The name of the only model."""
    listed = json.loads(get(f"127.0.0.1:{lab.server(RUNTIME).rest_port}", "/v1/models")[1])
    return str(listed["data"][0]["id"])


def test_tokens_of_its_rest_side_are_those_of_its_grpc_side(lab: Lab) -> None:
    """One engine behind both: fmaas' Tokenize in front of vLLM's REST side answers what the adapter does."""
    own = f"127.0.0.1:{lab.server(RUNTIME).grpc_port}"
    host = lab.proxy(RUNTIME, "rest").address
    for asked in ({}, {"return_tokens": True}, {"return_tokens": True, "truncate_input_tokens": 2}):
        assert tokenize(own, **asked) == tokenize(host, **asked)
    with pytest.raises(grpc.RpcError) as error:
        tokenize(host, return_offsets=True)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@UPSTREAMS
def test_a_caikit_client_counts_tokens(lab: Lab, upstream: str, model: str) -> None:
    """The count that vLLM gives itself."""
    own = post(f"127.0.0.1:{lab.server(RUNTIME).rest_port}", "/tokenize", {"prompt": TEXT})
    body = {"model_id": model, "inputs": TEXT}
    status, text = post(lab.proxy(RUNTIME, upstream).address, "/api/v1/task/tokenization", body)
    assert status == 200
    assert json.loads(text)["token_count"] == json.loads(own[1])["count"]


def test_ids_are_refused_where_they_cannot_be_had(lab: Lab, model: str) -> None:
    """vLLM's own call in front of the adapter is an error that names the tokens."""
    status, text = post(lab.proxy(RUNTIME, "grpc").address, "/tokenize", {"model": model, "prompt": TEXT})
    assert (status, json.loads(text)["error"]["message"].partition(":")[0]) == (400, "tokens")


def test_detokenized_text_is_its_own(lab: Lab) -> None:
    """vLLM's /detokenize goes through unread."""
    hosts = (f"127.0.0.1:{lab.server(RUNTIME).rest_port}", lab.proxy(RUNTIME, "rest").address)
    ids = json.loads(post(hosts[0], "/tokenize", {"prompt": TEXT})[1])["tokens"]
    own, ours = (post(host, "/detokenize", {"tokens": ids}) for host in hosts)
    assert own == ours
    assert TEXT in json.loads(ours[1])["prompt"]


@UPSTREAMS
def test_every_client_finds_it_ready(lab: Lab, upstream: str) -> None:
    """vLLM's, caikit's and V2's health in front of either side; vLLM's and caikit's answer is vLLM's own."""
    host = lab.proxy(RUNTIME, upstream).address
    assert [get(host, path)[0] for path in ("/health", "/ping", "/v2/health/ready", "/v2/health/live")] == [200] * 4
    request = caikit.encode_HealthCheckRequest(caikit.HealthCheckRequest(service="fmaas.GenerationService"))
    assert caikit.decode_HealthCheckResponse(ask(host, "/grpc.health.v1.Health/Check", request), []).status == 1


def test_its_models_and_version_in_other_apis(lab: Lab, model: str) -> None:
    """Caikit's and V2's clients find the model with its limit, and vLLM's version."""
    direct, host = f"127.0.0.1:{lab.server(RUNTIME).rest_port}", lab.proxy(RUNTIME, "rest").address
    own = json.loads(get(direct, "/v1/models")[1])["data"][0]
    (listed,) = json.loads(get(host, f"/info/models?model_ids={model}")[1])["models"]
    assert (listed["name"], listed["loaded"], listed["metadata"]) == (
        model,
        True,
        {"max_seq_length": own["max_model_len"]},
    )
    index = json.loads(post(host, "/v2/repository/index", {})[1])
    assert [(each["name"], each["state"]) for each in index] == [(model, "READY")]
    version = json.loads(get(direct, "/version")[1])["version"]
    assert json.loads(get(host, "/info/runtime")[1])["runtime_version"] == version
    assert json.loads(get(host, "/v2")[1]) == {"name": "vllm", "version": version, "extensions": []}


def test_its_limits_by_model_info(lab: Lab) -> None:
    """fmaas' ModelInfo in front of the REST side tells the limit that the adapter tells."""
    request = tgis.encode_ModelInfoRequest(tgis.ModelInfoRequest())
    addresses = (f"127.0.0.1:{lab.server(RUNTIME).grpc_port}", lab.proxy(RUNTIME, "rest").address)
    rpc = "/fmaas.GenerationService/ModelInfo"
    own, ours = (tgis.decode_ModelInfoResponse(ask(address, rpc, request), []) for address in addresses)
    assert own.max_sequence_length == ours.max_sequence_length
    assert own.model_kind == ours.model_kind
