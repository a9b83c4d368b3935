"""Similarities and rankings recorded on caikit (0.27.7, caikit-nlp 0.5.13) and vLLM 0.32, for the other API's clients.

That caikit's two doors say the same is in `test_goldens_caikit_tasks`; here are their exact JSON, their errors and
refusals. Documented differences from caikit's own REST door:

* A malformed body is 400, where caikit answers 422; a member of `inputs` that is missing is named in our words.
* An empty list reaches a gRPC runtime, which says that the argument is missing, where caikit's REST door fails in
  other ways, some of them 500. To vLLM it is not sent.
* vLLM's null members (`multi_modal`) are left out.
* An empty `query` or `source_sentence` is all that protobuf can say of a missing one, so a REST runtime is sent that.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferbridge import translate
from inferbridge.bridge.context import Policy
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.caikit import wire
from inferbridge_generated.registry import APIS
from translate.caikit_forms import replies, rest_reply, rest_request

GOLDEN = Path(__file__).parent.parent / "golden" / "tasks"
RANKING, TASKS, POOLING = (json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("ranking", "caikit", "vllm"))
PAIRS: dict[str, dict[str, Any]] = {
    pair["name"]: pair
    for pair in TASKS["pairs"]
    if pair["name"].split("/")[1].startswith(("rerank", "sentence_similarity"))
}
ERRORS: dict[str, dict[str, Any]] = {pair["name"]: pair for pair in RANKING["errors"]}
REST_ONLY: dict[str, dict[str, Any]] = {case["name"]: case for case in RANKING["rest_only"]}
VLLM: dict[str, dict[str, Any]] = {case["name"]: case for case in [*POOLING["cases"], *RANKING["vllm"]]}
ROUNDED = [name for name in PAIRS if name.endswith("/documents_big_numbers")]
EXACT = [name for name in PAIRS if name not in ROUNDED]
RERANKS = [name for name in EXACT if name.split("/")[1] == "rerank"]
SIMILARITIES = [name for name in PAIRS if name.split("/")[1] == "sentence_similarity"]

REST, GRPC, VLLM_REST = "caikit-standalone/rest", "caikit-standalone/grpc", "vllm-nvidia/rest"
TAKEN = {"light/rerank/documents_fields_form", "light/rerank/top_n_string"}
"""What caikit's REST door takes, and we do: documents of any members, and a number as text."""


def body(form: dict[str, Any]) -> Any:
    """The JSON of a form."""
    return json.loads(form["body"])


def texts(documents: list[dict[str, Any]]) -> list[str]:
    """What caikit ranks of documents."""
    return [document.get("text") or document.get("_text") or "" for document in documents]


def test_there_are_recordings() -> None:
    """All four tasks of both servers, their errors and refusals, and vLLM's score and rerank."""
    tasks = {"rerank", "rerank_tasks", "sentence_similarity", "sentence_similarity_tasks"}
    assert {name.rpartition("/")[0] for name in PAIRS} == {f"{s}/{t}" for s in ("light", "standalone") for t in tasks}
    assert (len(PAIRS), len(ERRORS), len(REST_ONLY)) == (34, 19, 32)


# caikit's two doors


@pytest.mark.parametrize("name", EXACT)
def test_a_rest_client_gets_the_very_json(name: str) -> None:
    """A gRPC answer becomes the recorded REST answer, with its nulls, empty texts, order of members and numbers."""
    pair = PAIRS[name]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    made = translate_reply("caikit/rest", GRPC, exchange)
    assert json.dumps(body(made)) == json.dumps(body(pair["rest"]["reply"]))


@pytest.mark.parametrize("name", PAIRS)
def test_a_rest_runtime_is_sent_the_very_json(name: str) -> None:
    """A recorded gRPC call becomes a body with all members of `inputs`, empty ones too."""
    pair = PAIRS[name]
    made = body(translate_call("caikit/grpc", REST, pair["grpc"]["request"]))
    recorded = body(pair["rest"]["request"])
    if name in ROUNDED:
        recorded["inputs"]["documents"][0]["big"] -= 1
    assert made == recorded


@pytest.mark.parametrize("name", ROUNDED)
def test_a_rounded_number_is_named_where_losses_are_allowed(name: str) -> None:
    """The client then gets the document that was ranked, and the name of what it lost."""
    pair = PAIRS[name]
    made = translate_reply(
        "caikit/rest",
        GRPC,
        {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]},
        Policy(lossy=True),
    )
    assert ["x-inferbridge-lost", "documents[0].big"] in made["headers"]
    assert body(made)["result"]["scores"][0]["document"]["big"] == 9007199254740992


@pytest.mark.parametrize("name", ERRORS)
def test_a_rest_call_that_fails_is_the_grpc_call(name: str) -> None:
    """What is complete reaches the runtime, which says what is wrong; what is missing never does."""
    pair = ERRORS[name]
    made = translate_call("caikit/rest", GRPC, pair["rest"]["request"])
    if name.endswith("_missing"):
        assert made["error"]["status"] == 400
        assert body(made["error"])["details"].startswith("Object missing required field `")
    else:
        assert made == pair["grpc"]["request"]


@pytest.mark.parametrize("name", ERRORS)
def test_a_grpc_error_is_a_rest_error(name: str) -> None:
    """A recorded gRPC error has its text and the status of its code for a client of the same call over REST."""
    pair = ERRORS[name]
    reply = pair["grpc"]["reply"]
    if name.endswith("_missing") or reply["code"] == 0:
        return
    made = translate_reply("caikit/rest", GRPC, {"request": pair["rest"]["request"], "reply": reply})
    assert (made["status"], body(made)["details"], body(made)["code"]) == (400, reply["details"], 400)


@pytest.mark.parametrize("name", ERRORS)
def test_a_rest_error_is_a_grpc_error(name: str) -> None:
    """A recorded REST error has its text and the code of its status for a gRPC client."""
    pair = ERRORS[name]
    reply = pair["rest"]["reply"]
    made = translate_reply("caikit/grpc", REST, {"request": pair["grpc"]["request"], "reply": reply})
    if reply["status"] == 200:  # caikit answers one score to a question about nothing
        assert (made["code"], made["details"].endswith("1 scores, not 0 for each of 0 sources")) == (13, True)
    else:
        assert (made["code"], made["details"]) == ({400: 3, 500: 13}[reply["status"]], body(reply)["details"])


@pytest.mark.parametrize("name", REST_ONLY)
@pytest.mark.parametrize("runtime", [GRPC, VLLM_REST])
def test_what_caikit_refuses_is_refused(name: str, runtime: str) -> None:
    """A body that caikit's REST door refuses gets to no runtime, and one that it takes does."""
    case = REST_ONLY[name]
    made = translate_call("caikit/rest", runtime, case["rest"]["request"])
    if name in TAKEN:
        assert case["rest"]["reply"]["status"] == 200
        assert "error" not in made
    else:
        assert case["rest"]["reply"]["status"] in {400, 422}
        assert made["error"]["status"] == 400


# OpenAI clients of caikit


@pytest.mark.parametrize("name", RERANKS)
@pytest.mark.parametrize("runtime", [REST, GRPC])
def test_vllms_clients_get_caikits_ranking(name: str, runtime: str) -> None:
    """The recorded documents, sent as texts, are ranked by the task for several queries; index, text and score stay."""
    pair = PAIRS[name]
    asked, recorded = body(pair["rest"]["request"]), body(pair["rest"]["reply"])
    call = rest_request("/rerank", {"model": "minilm", **asked["inputs"]})
    sent = body(call)
    sent["documents"] = texts(sent["documents"])
    call["body"] = json.dumps(sent)
    made = translate_call("openai/rest", REST, call)
    assert made["path"] == "/api/v1/task/rerank-tasks"
    assert body(made) == {
        "model_id": "minilm",
        "inputs": {
            "queries": [asked["inputs"]["query"]],
            "documents": [{"text": text} for text in sent["documents"]],
        },
        "parameters": {"return_documents": False, "return_queries": False, "return_text": True},
    }
    answer = translate_reply("openai/rest", runtime, {"request": call, "reply": ranked(pair, recorded, runtime)})
    assert body(answer)["results"] == [
        {
            "index": item["index"],
            "document": {"text": sent["documents"][item["index"]]},
            "relevance_score": item["score"],
        }
        for item in recorded["result"]["scores"]
    ]
    count = recorded["input_token_count"]
    assert body(answer)["usage"] == {"prompt_tokens": count, "total_tokens": count}


def ranked(pair: dict[str, Any], recorded: dict[str, Any], runtime: str) -> dict[str, Any]:
    """A recorded answer of the rerank task as that of the task for several queries, with the texts."""
    documents = body(pair["rest"]["request"])["inputs"]["documents"]
    scores = [dict(item, text=texts(documents)[item["index"]], document=None) for item in recorded["result"]["scores"]]
    if runtime == REST:
        results = [{"query": None, "scores": scores}]
        return rest_reply({"results": results, "input_token_count": recorded["input_token_count"]})
    message = wire.RerankResults(
        results=[
            wire.RerankScores(
                scores=[wire.RerankScore(index=s["index"], score=s["score"], text=s["text"]) for s in scores]
            )
        ],
        input_token_count=recorded["input_token_count"],
    )
    data = b"".join(map(bytes, wire.encode_RerankResults(message)))
    return {"code": 0, "messages_base64": [base64.b64encode(data).decode()]}


@pytest.mark.parametrize(
    "names", [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")]
)
def test_pairs_are_the_diagonal(names: tuple[str, str]) -> None:
    """vLLM's pairs of two lists, under each of their names, are asked for at once; the answer has one score a pair."""
    call = rest_request("/v1/score", {"model": "m", names[0]: ["a", "b"], names[1]: ["c", "d"]})
    made = translate_call("openai/rest", REST, call)
    assert body(made)["inputs"] == {"source_sentences": ["a", "b"], "sentences": ["c", "d"]}
    reply = rest_reply({"results": [{"scores": [1, 2]}, {"scores": [3, 4]}], "input_token_count": 8})
    answer = body(translate_reply("openai/rest", REST, {"request": call, "reply": reply}))
    assert answer["data"] == [
        {"index": 0, "object": "score", "score": 1},
        {"index": 1, "object": "score", "score": 4},
    ]


def test_lists_of_other_lengths_are_refused_as_vllm_does() -> None:
    """The recorded refusal of vLLM, before the call gets to caikit."""
    case = VLLM["score_mismatch"]
    made = translate_call("openai/rest", GRPC, case["request"])["error"]
    assert made["status"] == case["reply"]["status"]
    assert body(case["reply"])["error"]["message"].lower() in body(made)["error"]["message"].lower()


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/rerank", "top_n", -1),
        ("/rerank", "max_tokens_per_doc", 8),
        ("/rerank", "max_tokens_per_query", 8),
        ("/rerank", "instruction", "be brief"),
        ("/rerank", "use_activation", False),
        ("/rerank", "query", {"content": []}),
        ("/rerank", "query", ["a", "b"]),
        ("/rerank", "documents", [{"content": []}]),
        ("/rerank", "documents", None),
        ("/score", "use_activation", False),
        ("/score", "chat_template_kwargs", {"a": 1}),
        ("/score", "truncation_side", "left"),
    ],
)
def test_what_caikit_cannot_say_is_refused_by_name(path: str, field: str, value: Any) -> None:
    """A field without a counterpart, and what is no text, is a 400 in OpenAI's form."""
    asked = {"query": "a", "documents": ["b"]} if path == "/rerank" else {"text_1": "a", "text_2": "b"}
    made = translate_call("openai/rest", GRPC, rest_request(path, {**asked, "model": "m", field: value}))
    assert made["error"]["status"] == 400
    assert field in body(made["error"])["error"]["message"]


def test_what_changes_nothing_crosses() -> None:
    """Fields with the value that they have anyway are no losses."""
    nothing = {"top_n": 0, "max_tokens_per_doc": 0, "use_activation": True, "priority": 0, "instruction": None}
    call = rest_request("/v2/rerank", {"model": "m", "query": "a", "documents": "b", "user": "me", **nothing})
    made = body(translate_call("openai/rest", REST, call))
    assert made["inputs"] == {"queries": ["a"], "documents": [{"text": "b"}]}


# caikit clients of vLLM


@pytest.mark.parametrize("name", SIMILARITIES)
def test_a_similarity_is_a_score(name: str) -> None:
    """A recorded call of either door asks vLLM to compare one sentence with others; truncation counts both ends."""
    pair = PAIRS[name]
    asked = body(pair["rest"]["request"])
    sentences = asked["inputs"]["sentences"]
    expected = {
        "model": asked["model_id"],
        "text_1": asked["inputs"]["source_sentence"],
        "text_2": sentences[0] if len(sentences) == 1 else sentences,
    }
    if asked.get("parameters"):
        expected["truncate_prompt_tokens"] = asked["parameters"]["truncate_input_tokens"] + 2
    for client in ("rest", "grpc"):
        made = translate_call(f"caikit/{client}", VLLM_REST, pair[client]["request"])
        assert (made["path"], body(made)) == ("/score", expected)


@pytest.mark.parametrize("client", ["rest", "grpc"])
def test_several_sources_are_several_calls(client: str) -> None:
    """The recorded sources are compared one a call; the scores come in their order, the tokens are those vLLM read."""
    pair = PAIRS["standalone/sentence_similarity_tasks/ok"]
    asked, recorded = body(pair["rest"]["request"])["inputs"], body(pair["rest"]["reply"])["results"]
    made = translate_call(f"caikit/{client}", VLLM_REST, pair[client]["request"])
    assert [body(call)["text_1"] for call in made["calls"]] == asked["source_sentences"]
    assert all(body(call)["text_2"] == asked["sentences"] for call in made["calls"])
    answers = [scored(result["scores"], 10) for result in recorded]
    answer = translate_reply(f"caikit/{client}", VLLM_REST, {"request": pair[client]["request"], "replies": answers})
    if client == "rest":
        assert (body(answer)["results"], body(answer)["input_token_count"]) == (recorded, 20)
    else:
        (message,) = replies(answer, pair["grpc"]["request"]["rpc"])
        assert [list(each.scores) for each in message.results] == [each["scores"] for each in recorded]  # type: ignore[attr-defined]


def scored(scores: list[float], tokens: int) -> dict[str, Any]:
    """An answer of vLLM's /score; the order of its objects is not to be relied on."""
    data = [{"index": index, "object": "score", "score": score} for index, score in enumerate(scores)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return rest_reply({"id": "x", "object": "list", "created": 1, "model": "m", "data": data[::-1], "usage": usage})


def reranked(scores: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    """An answer of vLLM's /rerank."""
    results = [
        {
            "index": each["index"],
            "document": {"text": each["text"], "multi_modal": None},
            "relevance_score": each["score"],
        }
        for each in scores
    ]
    return rest_reply({"id": "x", "model": "m", "usage": {"prompt_tokens": tokens}, "results": results})


@pytest.mark.parametrize("name", RERANKS)
def test_caikits_clients_get_vllms_ranking(name: str) -> None:
    """With the numbers of the recorded answer, a client that asked vLLM gets that answer, but for the producer."""
    pair = PAIRS[name]
    recorded = body(pair["rest"]["reply"])
    reply = reranked(recorded["result"]["scores"], recorded["input_token_count"])
    made = body(translate_reply("caikit/rest", VLLM_REST, {"request": pair["rest"]["request"], "reply": reply}))
    assert json.dumps(made["result"]) == json.dumps(recorded["result"])
    assert made["input_token_count"] == recorded["input_token_count"]
    answer = translate_reply("caikit/grpc", VLLM_REST, {"request": pair["grpc"]["request"], "reply": reply})
    rpc = pair["grpc"]["request"]["rpc"]
    (message,), (expected,) = replies(answer, rpc), replies(pair["grpc"]["reply"], rpc)
    expected.ClearField("producer_id")
    assert message == expected


@pytest.mark.parametrize("name", [name for name in PAIRS if name.split("/")[1] == "rerank_tasks"])
@pytest.mark.parametrize("client", ["rest", "grpc"])
def test_several_queries_are_several_calls(name: str, client: str) -> None:
    """The recorded queries are asked one a call with all documents; the rankings come in their order."""
    pair = PAIRS[name]
    asked, recorded = body(pair["rest"]["request"]), body(pair["rest"]["reply"])["results"]
    made = translate_call(f"caikit/{client}", VLLM_REST, pair[client]["request"])["calls"]
    assert [call["path"] for call in made] == ["/rerank", "/rerank"]
    top = asked.get("parameters", {}).get("top_n")
    assert [body(call) for call in made] == [
        {"model": "minilm", "query": query, "documents": texts(asked["inputs"]["documents"])}
        | ({"top_n": top} if top else {})
        for query in asked["inputs"]["queries"]
    ]
    exchange = {"request": pair[client]["request"], "replies": [reranked(each["scores"], 10) for each in recorded]}
    answer = translate_reply(f"caikit/{client}", VLLM_REST, exchange)
    if client == "rest":
        assert json.dumps(body(answer)["results"]) == json.dumps(recorded)
        assert body(answer)["input_token_count"] == 20
    else:
        rpc = pair["grpc"]["request"]["rpc"]
        (message,), (expected,) = replies(answer, rpc), replies(pair["grpc"]["reply"], rpc)
        assert list(message.results) == list(expected.results)  # type: ignore[attr-defined]


@pytest.mark.parametrize("task", ["rerank", "sentence_similarity"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_runtime_without_lists_is_asked_one_by_one(task: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a caikit has no task for several queries or sources, an OpenAI call goes to the task for one."""
    known = APIS["caikit"]
    endpoints = {name: each for name, each in known.endpoints.items() if name != f"{task}_tasks"}
    monkeypatch.setattr(translate, "APIS", {**APIS, "caikit": replace(known, endpoints=endpoints)})
    if task == "rerank":
        call = rest_request("/rerank", {"model": "m", "query": "a", "documents": ["b"]})
        made = [translate_call("openai/rest", f"caikit-standalone/{protocol}", call)]
    else:
        call = rest_request("/score", {"model": "m", "text_1": ["a", "b"], "text_2": ["c", "d"]})
        made = translate_call("openai/rest", f"caikit-standalone/{protocol}", call)["calls"]
        if protocol == "rest":
            answers = [rest_reply({"result": {"scores": scores}}) for scores in ([1, 2], [3, 4])]
            exchange = {"request": call, "replies": answers}
            answer = body(translate_reply("openai/rest", "caikit-standalone/rest", exchange))
            assert [item["score"] for item in answer["data"]] == [1, 4]
    paths = {each.get("path") or each["rpc"] for each in made}
    assert paths <= {f"/api/v1/task/{task.replace('_', '-')}", f"/caikit.runtime.Nlp.NlpService/{rpc(task)}"}
    assert len(made) == (1 if task == "rerank" else 2)


def rpc(task: str) -> str:
    """The name of a task's method."""
    return "".join(map(str.capitalize, task.split("_"))) + "TaskPredict"


# answers that make no sense


def test_a_score_for_each_sentence_or_an_error() -> None:
    """Too few scores, or those of another task's model, are the runtime's fault and never shifted or made up."""
    call = PAIRS["light/sentence_similarity/ok"]["rest"]["request"]
    made = translate_reply("caikit/rest", VLLM_REST, {"request": call, "reply": scored([0.5], 3)})
    assert (made["status"], "1 scores, not 2 for each of 1 sources" in body(made)["details"]) == (500, True)
    empty = {"code": 0, "messages_base64": [""]}
    assert translate_reply("caikit/rest", GRPC, {"request": call, "reply": empty})["status"] == 500


def test_a_ranking_for_each_query_or_an_error() -> None:
    """An answer without rankings is the runtime's fault."""
    call = PAIRS["light/rerank_tasks/ok"]["rest"]["request"]
    made = translate_reply("caikit/rest", GRPC, {"request": call, "reply": {"code": 0, "messages_base64": [""]}})
    assert (made["status"], "0 rankings for 2 queries" in body(made)["details"]) == (500, True)


@pytest.mark.parametrize("missing", ["index", "relevance_score"])
def test_a_ranked_document_has_index_and_score(missing: str) -> None:
    """What a runtime does not say is not taken for 0."""
    item = {"index": 1, "relevance_score": 0.5}
    item.pop(missing)
    call = PAIRS["light/rerank/top_n_1"]["rest"]["request"]
    reply = rest_reply({"id": "x", "model": "m", "usage": {}, "results": [item]})
    made = translate_reply("caikit/rest", VLLM_REST, {"request": call, "reply": reply})
    assert (made["status"], missing in body(made)["details"]) == (500, True)


@pytest.mark.parametrize("inputs", [{"query": "q", "documents": []}, {"queries": [], "documents": [{"text": "a"}]}])
def test_vllm_is_not_asked_about_nothing(inputs: dict[str, Any]) -> None:
    """An empty list, which vLLM's API has no form or no answer for, is refused by name."""
    path = "/api/v1/task/rerank" if "query" in inputs else "/api/v1/task/rerank-tasks"
    made = translate_call("caikit/rest", VLLM_REST, rest_request(path, {"model_id": "m", "inputs": inputs}))
    empty = next(name for name, value in inputs.items() if value == [])
    assert body(made["error"])["details"].startswith(f"{empty}: vllm-nvidia needs at least one")
