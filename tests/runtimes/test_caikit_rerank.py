"""Similarities and rankings on a real caikit runtime, through the proxy from either door and from vLLM's form."""

import json
import shlex
import subprocess
from collections.abc import Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from runtimes.lab import Lab
from translate.caikit_forms import pool

pytestmark = [pytest.mark.runtimes, pytest.mark.parametrize("upstream", ["rest", "grpc"])]

RUNTIME = "caikit-standalone"
SERVICE = "caikit.runtime.Nlp.NlpService"
QUERY = "a black bird"
DOCUMENTS: list[dict[str, Any]] = [
    {"text": "a grey cat", "nested": {"z": [1, 2.5, None, {"y": True}], "a": "é 漢字"}, "n": 999},
    {"_text": "a black bird", "whole": 1.0},
    {"title": "no text"},
    {"text": "the black and the white bird"},
]
TEXTS = ["a grey cat", "a black bird", "", "the black and the white bird"]
ORDER = [1, 3, 0, 2]


def post(host: str, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a call by curl."""
    command = f"curl http://{host}{path} -H 'content-type: application/json' -d {shlex.quote(json.dumps(body))}"
    arguments = [*shlex.split(command), "-s", "--max-time", "30", "--write-out", "\n%{http_code}"]
    output = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    text, _, status = output.rpartition("\n")
    return int(status), json.loads(text)


def ask(address: str, rpc: str, body: Mapping[str, Any], model: str = "jackdaw") -> Message:
    """The answer of one of the runtime's methods, of Google's protobuf."""
    method = pool().FindServiceByName(SERVICE).FindMethodByName(rpc)
    request = ParseDict(dict(body), GetMessageClass(method.input_type)())
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{rpc}")
        answer = call(request.SerializeToString(), metadata=(("mm-model-id", model),), timeout=30)
    return GetMessageClass(method.output_type).FromString(answer)


def doors(lab: Lab) -> tuple[str, str]:
    """The server's own addresses for REST and gRPC."""
    server = lab.server(RUNTIME)
    return f"127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}"


REST_CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "all": ("rerank", {"query": QUERY, "documents": DOCUMENTS}, {}),
    "best": ("rerank", {"query": QUERY, "documents": DOCUMENTS}, {"top_n": 2, "return_documents": False}),
    "numbers": (
        "rerank",
        {"query": "", "documents": DOCUMENTS},
        {"return_documents": False, "return_query": False, "return_text": False},
    ),
    "truncated": ("rerank", {"query": QUERY, "documents": DOCUMENTS}, {"truncate_input_tokens": 1}),
    "queries": ("rerank-tasks", {"queries": [QUERY, "grey"], "documents": DOCUMENTS}, {"return_queries": False}),
    "similar": ("sentence-similarity", {"source_sentence": QUERY, "sentences": TEXTS}, {}),
    "similar, truncated": (
        "sentence-similarity",
        {"source_sentence": QUERY, "sentences": TEXTS},
        {"truncate_input_tokens": 2},
    ),
    "sources": ("sentence-similarity-tasks", {"source_sentences": [QUERY, "cat"], "sentences": TEXTS}, {}),
}
GRPC_CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "all": ("RerankTaskPredict", {"query": QUERY, "documents": DOCUMENTS}),
    "best": ("RerankTaskPredict", {"query": QUERY, "documents": DOCUMENTS, "top_n": 2, "return_text": False}),
    "no query": ("RerankTaskPredict", {"documents": DOCUMENTS}),
    "queries": (
        "RerankTasksPredict",
        {"queries": ["cat", QUERY], "documents": DOCUMENTS, "return_documents": False, "return_queries": False},
    ),
    "similar": ("SentenceSimilarityTaskPredict", {"source_sentence": QUERY, "sentences": TEXTS}),
    "sources": (
        "SentenceSimilarityTasksPredict",
        {"source_sentences": ["cat", QUERY], "sentences": TEXTS, "truncate_input_tokens": 2},
    ),
}


@pytest.mark.parametrize("name", REST_CALLS)
def test_a_rest_client_gets_the_runtimes_own_answer(lab: Lab, upstream: str, name: str) -> None:
    """The proxy's JSON is that of the runtime's REST door: scores, documents with their numbers and order, nulls."""
    task, inputs, parameters = REST_CALLS[name]
    direct, _ = doors(lab)
    body = {"model_id": "jackdaw", "inputs": inputs, **({"parameters": parameters} if parameters else {})}
    own, ours = [post(host, f"/api/v1/task/{task}", body) for host in (direct, lab.proxy(RUNTIME, upstream).address)]
    assert own[0] == 200
    assert json.dumps(ours) == json.dumps(own)


@pytest.mark.parametrize("name", GRPC_CALLS)
def test_a_grpc_client_gets_the_runtimes_own_answer(lab: Lab, upstream: str, name: str) -> None:
    """The proxy's message is that of the runtime's gRPC door."""
    rpc, body = GRPC_CALLS[name]
    _, direct = doors(lab)
    own, ours = [ask(address, rpc, body) for address in (direct, lab.proxy(RUNTIME, upstream).address)]
    assert own.ByteSize() > 0
    assert ours == own


def test_a_ranking_in_vllms_form(lab: Lab, upstream: str) -> None:
    """A client of vLLM's /rerank gets caikit's order, scores and texts, and its count of tokens."""
    direct, _ = doors(lab)
    inputs = {"query": QUERY, "documents": DOCUMENTS}
    _, own = post(direct, "/api/v1/task/rerank", {"model_id": "jackdaw", "inputs": inputs})
    for path, top in (("/rerank", 0), ("/v1/rerank", 2), ("/v2/rerank", 9)):
        body = {"model": "jackdaw", "query": QUERY, "documents": TEXTS, "top_n": top}
        status, ours = post(lab.proxy(RUNTIME, upstream).address, path, body)
        assert (status, ours["model"]) == (200, "jackdaw")
        found = [(item["index"], item["document"]["text"], item["relevance_score"]) for item in ours["results"]]
        scores = {item["index"]: item["score"] for item in own["result"]["scores"]}
        assert found == [(index, TEXTS[index], scores[index]) for index in ORDER[: top or 4]]
        assert ours["usage"] == {"prompt_tokens": own["input_token_count"], "total_tokens": own["input_token_count"]}


def test_scores_in_vllms_form(lab: Lab, upstream: str) -> None:
    """A client of vLLM's /score gets caikit's similarities, of one text with others and of pairs."""
    direct, _ = doors(lab)
    proxy = lab.proxy(RUNTIME, upstream).address
    inputs = {"source_sentences": [QUERY, "cat", "the bird", ""], "sentences": TEXTS}
    _, own = post(direct, "/api/v1/task/sentence-similarity-tasks", {"model_id": "jackdaw", "inputs": inputs})
    scores = [result["scores"] for result in own["results"]]
    status, one = post(proxy, "/v1/score", {"model": "jackdaw", "text_1": QUERY, "text_2": TEXTS})
    assert (status, [item["score"] for item in one["data"]]) == (200, scores[0])
    body = {"model": "jackdaw", "queries": inputs["source_sentences"], "documents": TEXTS}
    status, pairs = post(proxy, "/score", body)
    assert (status, [item["score"] for item in pairs["data"]]) == (200, [scores[place][place] for place in range(4)])
    assert pairs["usage"]["prompt_tokens"] == own["input_token_count"]


def test_errors_keep_their_meaning(lab: Lab, upstream: str) -> None:
    """An unknown model and a document that the model refuses are the runtime's own errors, in each client's form."""
    direct, direct_grpc = doors(lab)
    proxy = lab.proxy(RUNTIME, upstream).address
    for model, documents in (("nobody", DOCUMENTS), ("jackdaw", [{"text": 5}])):
        body = {"model_id": model, "inputs": {"query": QUERY, "documents": documents}}
        own, ours = [post(host, "/api/v1/task/rerank", body) for host in (direct, proxy)]
        assert ours[0] == own[0] != 200
        assert ours[1]["details"] == own[1]["details"]
        errors = []
        for address in (direct_grpc, proxy):
            with pytest.raises(grpc.RpcError) as caught:
                ask(address, "RerankTaskPredict", {"query": QUERY, "documents": documents}, model)
            errors.append((caught.value.code(), caught.value.details()))
        assert errors[0] == errors[1]
    status, missing = post(proxy, "/rerank", {"model": "nobody", "query": QUERY, "documents": TEXTS})
    assert (status, missing["error"]["type"]) == (404, "NotFoundError")


def test_a_number_that_protobuf_lacks(lab: Lab, upstream: str) -> None:
    """An integer that no double equals gets to a REST runtime as it is, and is refused by name before a gRPC one."""
    document = {"text": QUERY, "id": 2**53 + 1}
    body = {"model_id": "jackdaw", "inputs": {"query": QUERY, "documents": [{"text": "a"}, document]}}
    status, answer = post(lab.proxy(RUNTIME, upstream).address, "/api/v1/task/rerank", body)
    if upstream == "rest":
        assert (status, answer["result"]["scores"][0]["document"]) == (200, document)
    else:
        assert status == 400
        assert answer["details"].startswith("documents[1].id: 9007199254740993 ")
