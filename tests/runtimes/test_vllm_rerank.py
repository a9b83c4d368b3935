"""Caikit's similarity and rerank tasks served by a real vLLM, and what they rely on in its own answers."""

import json
import urllib.error
import urllib.request
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from translate.caikit_forms import pool

pytestmark = pytest.mark.heavy

SERVICE = "caikit.runtime.Nlp.NlpService"
QUERIES = ["one two three", "seven"]
DOCUMENTS: list[dict[str, Any]] = [
    {"text": "two three four", "id": 2**53 + 1, "nested": {"b": 1.0, "a": None}},
    {"_text": "naïve 🙂"},
    {"title": "no text"},
    {"text": "seven eight"},
]
TEXTS = ["two three four", "naïve 🙂", "", "seven eight"]
CLOSE = 1e-6
"""The order of additions, and with it a float32's last digit, follows from what else is in a batch."""


def post(host: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a call."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://{host}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def task(host: str, name: str, inputs: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    """What a caikit client gets."""
    status, answer = post(
        host, f"/api/v1/task/{name}", {"model_id": "tiny", "inputs": inputs, "parameters": parameters}
    )
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def own(host: str, path: str, **fields: Any) -> dict[str, Any]:
    """What vLLM answers itself."""
    status, answer = post(host, path, {"model": "tiny", **fields})
    assert status == 200, answer
    assert isinstance(answer, dict)
    return answer


def ask(address: str, rpc: str, body: dict[str, Any], model: str = "tiny") -> dict[str, Any]:
    """What a gRPC client of caikit gets, as JSON."""
    method = pool().FindServiceByName(SERVICE).FindMethodByName(rpc)
    request = ParseDict(body, GetMessageClass(method.input_type)())
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/{rpc}")
        answer = call(request.SerializeToString(), metadata=(("mm-model-id", model),), timeout=60)
    made: dict[str, Any] = MessageToDict(
        GetMessageClass(method.output_type).FromString(answer), preserving_proto_field_name=True
    )
    return made


def ranked(answer: dict[str, Any]) -> list[tuple[int, Any]]:
    """Index and score of vLLM's results, in their order."""
    return [(item["index"], pytest.approx(item["relevance_score"], abs=CLOSE)) for item in answer["results"]]


def test_a_ranking_over_rest(pooling_vllm: tuple[str, str]) -> None:
    """Order, scores and tokens are vLLM's; query, texts and documents, exact integers too, are what was sent."""
    server, proxy = pooling_vllm
    expected = own(server, "/rerank", query=QUERIES[0], documents=TEXTS)
    made = task(proxy, "rerank", {"query": QUERIES[0], "documents": DOCUMENTS})
    assert made["input_token_count"] == expected["usage"]["prompt_tokens"]
    assert made["result"]["query"] == QUERIES[0]
    scores = made["result"]["scores"]
    assert [(item["index"], item["score"]) for item in scores] == ranked(expected)
    assert [item["text"] for item in scores] == [TEXTS[item["index"]] for item in scores]
    assert [json.dumps(item["document"]) for item in scores] == [
        json.dumps(DOCUMENTS[item["index"]]) for item in scores
    ]


def test_rankings_over_grpc(pooling_vllm: tuple[str, str]) -> None:
    """Several queries are answered in their order, each as vLLM ranks it, with as many documents as wanted."""
    server, proxy = pooling_vllm
    body = {"queries": QUERIES, "documents": DOCUMENTS[1:], "top_n": 2, "return_documents": False}
    made = ask(proxy, "RerankTasksPredict", body)
    answers = [own(server, "/rerank", query=query, documents=TEXTS[1:], top_n=2) for query in QUERIES]
    for ranking, query, expected in zip(made["results"], QUERIES, answers, strict=True):
        assert ranking["query"] == query
        found = [(int(item.get("index", 0)), item["score"]) for item in ranking["scores"]]
        assert found == ranked(expected)
        assert len(found) == 2
        assert all("document" not in item for item in ranking["scores"])
    assert int(made["input_token_count"]) == sum(answer["usage"]["prompt_tokens"] for answer in answers)


@pytest.mark.parametrize("keep", [None, 2])
def test_similarities(pooling_vllm: tuple[str, str], keep: int | None) -> None:
    """The scores of one source are vLLM's, those of several come in order; a truncation counts two special tokens."""
    server, proxy = pooling_vllm
    cut = {"truncate_prompt_tokens": keep + 2} if keep else {}
    parameters = {"truncate_input_tokens": keep} if keep else {}
    answers = [own(server, "/score", text_1=source, text_2=TEXTS, **cut) for source in QUERIES]
    expected = [pytest.approx([item["score"] for item in answer["data"]], abs=CLOSE) for answer in answers]
    counts = [answer["usage"]["prompt_tokens"] for answer in answers]
    one = task(proxy, "sentence-similarity", {"source_sentence": QUERIES[0], "sentences": TEXTS}, **parameters)
    assert (one["result"]["scores"], one["input_token_count"]) == (expected[0], counts[0])
    body = {"source_sentences": QUERIES, "sentences": TEXTS, **parameters}
    several = ask(proxy, "SentenceSimilarityTasksPredict", body)
    assert [result["scores"] for result in several["results"]] == expected
    assert int(several["input_token_count"]) == sum(counts)


def test_vllms_pairs_are_the_diagonal(pooling_vllm: tuple[str, str]) -> None:
    """What vLLM says of two lists is what it says of each source with all: so pairs can be asked of caikit at once."""
    server, _ = pooling_vllm
    sources = [*QUERIES, "three", ""]
    pairs = own(server, "/score", text_1=sources, text_2=TEXTS)
    full = [own(server, "/score", text_1=source, text_2=TEXTS)["data"] for source in sources]
    assert [item["score"] for item in pairs["data"]] == pytest.approx(
        [full[place][place]["score"] for place in range(4)], abs=CLOSE
    )


def test_errors_keep_their_meaning(pooling_vllm: tuple[str, str]) -> None:
    """An unknown model and a text that is too long are vLLM's own errors, in caikit's form on either door."""
    server, proxy = pooling_vllm
    for model, text, code in (("nobody", "a", grpc.StatusCode.NOT_FOUND), ("tiny", "a" * 600, None)):
        status, body = post(server, "/rerank", {"model": model, "query": "a", "documents": [text]})
        message = body["error"]["message"]
        asked = {"query": "a", "documents": [{"text": text}]}
        answer = post(proxy, "/api/v1/task/rerank", {"model_id": model, "inputs": asked})
        assert (answer[0], answer[1]["details"]) == (status, message)
        with pytest.raises(grpc.RpcError) as caught:
            ask(proxy, "RerankTaskPredict", asked, model)
        assert (caught.value.code(), caught.value.details()) == (code or grpc.StatusCode.INVALID_ARGUMENT, message)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": -1}),
        ("/rerank", {"query": ["a", "b"], "documents": ["b"]}),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c", "d", "e"]}),
        ("/score", {"text_1": ["a", "b"], "text_2": "c"}),
        ("/score", {"text_1": "a", "text_2": []}),
    ],
)
def test_what_is_refused_before_caikit_is_refused_by_vllm(
    pooling_vllm: tuple[str, str], path: str, fields: dict[str, Any]
) -> None:
    """The calls that never get to a runtime of another API are those that vLLM refuses itself."""
    server, _ = pooling_vllm
    assert post(server, path, {"model": "tiny", **fields})[0] == 400
