"""Embeddings, similarities and rankings between vLLM's API and caikit's, on recorded and on small answers."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from inferbridge.bridge.context import Policy
from inferbridge.translate import translate_call, translate_reply
from translate.caikit_forms import replies, rest_reply, rest_request

VLLM: dict[str, dict[str, Any]] = {
    case["name"]: case
    for case in json.loads((Path(__file__).parent.parent / "golden/tasks/vllm.json").read_text())["cases"]
}
EMBEDDING = rest_request("/api/v1/task/embedding", {"inputs": "hello world", "model_id": "minilm"})
RERANK = {
    "query": "hello world",
    "documents": [{"text": "hello there", "n": 1}, {"_text": "cats and dogs"}, {"text": "greetings, planet"}],
}
VECTOR = [0.5, -0.25, 1.0]
NP32 = base64.b64encode(b"\n\x10\x12\x0e\n\x0c" + struct.pack("<3f", *VECTOR) + b"\x18\x04").decode()
"""An EmbeddingResult: the vector as float32, and 4 tokens."""
NP32_LIST = base64.b64encode(b"\n\x12\n\x10\x12\x0e\n\x0c" + struct.pack("<3f", *VECTOR) + b"\x18\x04").decode()


def embeddings(**more: Any) -> dict[str, Any]:
    """A call of /v1/embeddings."""
    return rest_request("/v1/embeddings", {"model": "minilm", "input": "hello world", **more})


def body(form: dict[str, Any]) -> Any:
    """The JSON of a form."""
    return json.loads(form["body"])


def test_an_embedding_is_asked_of_caikit() -> None:
    """Text and model cross to the task that takes lists, and the truncation, which is without special tokens there."""
    call = embeddings(truncate_prompt_tokens=5, user="me", encoding_format="base64")
    made = translate_call("openai/rest", "caikit-standalone/rest", call)
    assert made["path"] == "/api/v1/task/embedding-tasks"
    assert body(made) == {
        "inputs": ["hello world"],
        "model_id": "minilm",
        "parameters": {"truncate_input_tokens": 3},
    }
    made = translate_call("openai/rest", "caikit-standalone/grpc", call)
    assert made["rpc"] == "/caikit.runtime.Nlp.NlpService/EmbeddingTasksPredict"
    assert base64.b64decode(made["messages_base64"][0]) == b"\n\x0bhello world\x10\x03"
    assert made["metadata"] == [["mm-model-id", "minilm"]]


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_caikits_vector_is_openais(encoding: str | None) -> None:
    """Numbers come as numbers, or as base64 of float32 where the client asks for it, with all that clients expect."""
    reply = {"code": 0, "details": "", "messages_base64": [NP32_LIST]}
    call = embeddings(**({"encoding_format": encoding} if encoding else {}))
    made = body(translate_reply("openai/rest", "caikit-standalone/grpc", {"request": call, "reply": reply}))
    packed = base64.b64encode(struct.pack("<3f", *VECTOR)).decode()
    assert made["data"] == [
        {"index": 0, "object": "embedding", "embedding": packed if encoding == "base64" else VECTOR}
    ]
    assert made["usage"] == {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0}
    assert (made["object"], made["model"], made["id"][:5]) == ("list", "minilm", "embd-")


@pytest.mark.parametrize("name", ["string", "base64"])
def test_a_recorded_vector_is_caikits(name: str) -> None:
    """A caikit client gets vLLM's numbers, however they were written, with the count of tokens."""
    recorded = body(VLLM["string"]["reply"])
    exchange = {"request": EMBEDDING, "reply": VLLM[name]["reply"]}
    made = body(translate_reply("caikit/rest", "vllm-nvidia/rest", exchange))
    assert made["result"]["data"]["values"] == recorded["data"][0]["embedding"]
    assert made["input_token_count"] == 4


def test_float32_numbers_travel_as_float32() -> None:
    """vLLM's numbers are float32 printed as doubles, so caikit's gRPC clients get them in the message for float32."""
    call = {
        "rpc": "/caikit.runtime.Nlp.NlpService/EmbeddingTaskPredict",
        "metadata": [["mm-model-id", "minilm"]],
        "messages_base64": [base64.b64encode(b"\n\x0bhello world").decode()],
    }
    exchange = {"request": call, "reply": VLLM["string"]["reply"]}
    (made,) = replies(translate_reply("caikit/grpc", "vllm-nvidia/rest", exchange), call["rpc"])  # type: ignore[arg-type]
    recorded = body(VLLM["string"]["reply"])["data"][0]["embedding"]
    assert list(made.result.data_npfloat32sequence.values) == recorded  # type: ignore[attr-defined]
    exchange["reply"] = rest_reply({"data": [{"index": 0, "embedding": [0.1]}], "usage": {"prompt_tokens": 1}})
    (made,) = replies(translate_reply("caikit/grpc", "vllm-nvidia/rest", exchange), call["rpc"])  # type: ignore[arg-type]
    assert list(made.result.data_npfloat64sequence.values) == [0.1]  # type: ignore[attr-defined]


def test_a_caikit_call_is_vllms() -> None:
    """A truncation to 0 tokens, which means none, is not sent to vLLM, where it is an error."""
    parameters = {"truncate_input_tokens": 0}
    call = rest_request(
        "/api/v1/task/embedding-tasks", {"inputs": ["a", "b"], "model_id": "m", "parameters": parameters}
    )
    made = body(translate_call("caikit/rest", "vllm-nvidia/rest", call))
    assert made == {"input": ["a", "b"], "model": "m", "encoding_format": "base64"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dimensions", 8),
        ("encoding_format", "bytes"),
        ("input", [1, 2]),
        ("endianness", "big"),
        ("embed_dtype", "float16"),
    ],
)
def test_what_caikit_cannot_say_is_refused_by_name(field: str, value: Any) -> None:
    """A field without a counterpart is a 400 in OpenAI's form."""
    made = translate_call("openai/rest", "caikit-standalone/rest", embeddings(**{field: value}))
    assert made["error"]["status"] == 400
    message = body(made["error"])["error"]["message"]
    assert field in message or "token ids" in message


@pytest.mark.parametrize("name", ["score_pair", "score_one_many", "score_queries_documents"])
def test_a_recorded_score_is_a_similarity(name: str) -> None:
    """vLLM's scores become caikit's similarities, and a recorded call asks caikit for them."""
    case = VLLM[name]
    made = translate_call("openai/rest", "caikit-standalone/rest", case["request"])
    sent = body(case["request"])
    many = sent.get("text_2", sent.get("documents"))
    sentences = [many] if isinstance(many, str) else many
    assert made["path"] == "/api/v1/task/sentence-similarity-tasks"
    assert body(made)["inputs"] == {"source_sentences": ["hello world"], "sentences": sentences}
    call = rest_request(
        "/api/v1/task/sentence-similarity",
        {"inputs": {"source_sentence": "hello world", "sentences": sentences}, "model_id": "minilm"},
    )
    answer = body(translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": case["reply"]}))
    assert answer["result"]["scores"] == [item["score"] for item in body(case["reply"])["data"]]


def test_similarities_are_scores() -> None:
    """Caikit's answer has the shape of vLLM's recorded one."""
    case = VLLM["score_one_many"]
    scores = [item["score"] for item in body(case["reply"])["data"]]
    reply = rest_reply({"results": [{"scores": scores}], "input_token_count": 13})
    made = body(translate_reply("openai/rest", "caikit-standalone/rest", {"request": case["request"], "reply": reply}))
    assert made["data"] == body(case["reply"])["data"]
    assert made["usage"] == {"prompt_tokens": 13, "total_tokens": 13, "completion_tokens": 0}


@pytest.mark.parametrize("name", ["rerank", "rerank_top_n", "rerank_v2"])
def test_a_recorded_ranking_is_caikits(name: str) -> None:
    """A caikit client gets its documents, texts and query back, in vLLM's order and with vLLM's scores."""
    case = VLLM[name]
    documents = [{"text": text, "n": place} for place, text in enumerate(body(case["request"])["documents"])]
    inputs = {"query": "hello world", "documents": documents}
    call = rest_request("/api/v1/task/rerank", {"inputs": inputs, "model_id": "minilm"})
    result = body(translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": case["reply"]}))[
        "result"
    ]
    assert result["query"] == "hello world"
    assert result["scores"] == [
        {
            "document": documents[item["index"]],
            "index": item["index"],
            "score": item["relevance_score"],
            "text": item["document"]["text"],
        }
        for item in body(case["reply"])["results"]
    ]


def test_a_caikit_client_gets_back_only_what_it_wants() -> None:
    """Query, documents and texts are left out where the client says so."""
    parameters = {"return_documents": False, "return_query": False, "return_text": False, "top_n": 2}
    call = rest_request("/api/v1/task/rerank", {"inputs": RERANK, "model_id": "m", "parameters": parameters})
    made = body(translate_call("caikit/rest", "vllm-nvidia/rest", call))
    assert made == {
        "query": "hello world",
        "documents": ["hello there", "cats and dogs", "greetings, planet"],
        "model": "m",
        "top_n": 2,
    }
    exchange = {"request": call, "reply": VLLM["rerank"]["reply"]}
    result = body(translate_reply("caikit/rest", "vllm-nvidia/rest", exchange))["result"]
    assert "query" not in result or result["query"] is None
    assert all(item["document"] is None and not item.get("text") for item in result["scores"])


def test_a_ranking_of_caikit_is_vllms() -> None:
    """An OpenAI client's texts become documents, and only texts are asked back."""
    case = VLLM["rerank"]
    made = body(translate_call("openai/rest", "caikit-standalone/rest", case["request"]))
    assert made["inputs"]["documents"][0] == {"text": "hello there"}
    assert made["parameters"] == {"return_documents": False, "return_queries": False, "return_text": True}
    scores = [
        {"document": None, "index": item["index"], "score": item["relevance_score"], "text": item["document"]["text"]}
        for item in body(case["reply"])["results"]
    ]
    reply = rest_reply({"results": [{"query": None, "scores": scores}], "input_token_count": 19})
    answer = body(
        translate_reply("openai/rest", "caikit-standalone/rest", {"request": case["request"], "reply": reply})
    )
    assert answer["usage"] == {"prompt_tokens": 19, "total_tokens": 19}
    recorded = body(case["reply"])["results"]
    assert [(item["index"], item["relevance_score"], item["document"]["text"]) for item in answer["results"]] == [
        (item["index"], item["relevance_score"], item["document"]["text"]) for item in recorded
    ]


def test_a_ranked_document_that_was_not_sent_is_the_runtimes_fault() -> None:
    """An index beyond the documents is no crash, and not the client's error."""
    call = rest_request("/api/v1/task/rerank", {"inputs": RERANK, "model_id": "m"})
    reply = rest_reply({"results": [{"index": 7, "relevance_score": 0.5}], "usage": {}})
    made = translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": reply})
    assert made["status"] == 500


def test_a_loss_can_be_allowed() -> None:
    """With losses allowed a vector keeps its length, and the answer names what was dropped."""
    made = translate_call("openai/rest", "caikit-standalone/rest", embeddings(dimensions=8), Policy(lossy=True))
    assert body(made)["inputs"] == ["hello world"]
