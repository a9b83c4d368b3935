"""Embeddings recorded on caikit (0.27.7, caikit-nlp 0.5.13) and on vLLM 0.32, for the clients of the other API.

What caikit's two doors answer to the same call is in `test_goldens_caikit_tasks`, but for errors and refusals, which
are here. Documented differences from caikit's own REST door:

* A malformed body is 400, where caikit answers 422; an explicit null means that nothing is said; of a key that comes
  twice the last counts; `true` is no number.
* An empty text reaches a gRPC runtime, where caikit's REST door takes it for none.
* A number of tokens beyond 64 bits has no place in protobuf.
* Several gRPC codes have one status (LOST_CODES), so a REST runtime's error has the most common of them.
"""

import base64
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from inferbridge import translate
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.caikit import wire
from inferbridge_generated.registry import APIS

GOLDEN = Path(__file__).parent.parent / "golden" / "tasks"
CAIKIT, TASKS, POOLING = (
    json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("embeddings", "caikit", "vllm")
)
VLLM = {case["name"]: case for case in POOLING["cases"] if case["request"]["path"] == "/v1/embeddings"}
PAIRS: dict[str, dict[str, Any]] = {
    pair["name"]: pair
    for pair in [*TASKS["pairs"], *CAIKIT["pairs"]]
    if pair["name"].split("/")[1] in {"embedding", "embedding_tasks"}
}
ERRORS = {pair["name"]: pair for pair in CAIKIT["errors"]}
REST_ONLY = {case["name"]: case for case in CAIKIT["rest_only"]}
all_pairs = pytest.mark.parametrize("name", PAIRS)
all_errors = pytest.mark.parametrize("name", ERRORS)

REST, GRPC, VLLM_REST = "caikit-standalone/rest", "caikit-standalone/grpc", "vllm-nvidia/rest"
EMPTY = {"light/embedding/empty_text", "standalone/embedding/inputs_missing"}
"""The doors disagree on an empty text: REST takes it for none, gRPC embeds it."""
LOST_CODES = {2: 13, 9: 3, 14: 12, 15: 13}
"""gRPC codes whose status on caikit's REST door means another one as well, and the one that is read from it."""
ACCEPTED = {"embedding/parameters_null", "embedding/json_duplicate_keys"}
"""What caikit refuses or answers otherwise, see above."""
REFUSED = {"embedding/truncate_as_bool", "embedding/truncate_as_int64_overflow"}
"""What caikit takes, see above."""


def vector(message: wire.Vector1D | None) -> tuple[str, bytes]:
    """The width of a vector's numbers, and their bytes."""
    assert message is not None
    if message.data_npfloat32sequence is not None:
        return "f", bytes(message.data_npfloat32sequence.values)
    double = message.data_npfloat64sequence or message.data_pyfloatsequence
    assert double is not None
    return "d", bytes(double.values)


def answer(form: dict[str, Any], rpc: str) -> tuple[list[tuple[str, bytes]], int, Any]:
    """Vectors, number of tokens and producer of a gRPC answer."""
    data = base64.b64decode(form["messages_base64"][0])
    if rpc.endswith("EmbeddingTaskPredict"):
        single = wire.decode_EmbeddingResult(data, [])
        return [vector(single.result)], single.input_token_count, single.producer_id
    several = wire.decode_EmbeddingResults(data, [])
    assert several.results is not None
    return [vector(each) for each in several.results.vectors], several.input_token_count, several.producer_id


def texts(form: dict[str, Any]) -> list[str]:
    """The texts of a caikit REST request."""
    inputs = json.loads(form["body"])["inputs"]
    return [inputs] if isinstance(inputs, str) else inputs


def vectors(form: dict[str, Any]) -> list[list[float]]:
    """The vectors of a caikit REST answer."""
    body = json.loads(form["body"])
    found = [body["result"]] if "result" in body else body["results"]["vectors"]
    return [each["data"]["values"] for each in found]


def openai_request(pair: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """What an OpenAI client would have sent for a recorded caikit call."""
    asked = json.loads(pair["rest"]["request"]["body"])
    body = {"model": asked["model_id"], "input": asked["inputs"], **fields}
    return {"method": "POST", "path": "/v1/embeddings", "headers": [], "body": json.dumps(body)}


def as_list(form: dict[str, Any]) -> dict[str, Any]:
    """A recorded REST answer for one text as the answer for a list of one, which an OpenAI client's call becomes."""
    body = json.loads(form["body"])
    if "result" in body:
        body["results"] = {"vectors": [body.pop("result")]}
    return {**form, "body": json.dumps(body)}


def unpacked(text: str) -> list[float]:
    """The numbers of OpenAI's base64."""
    data = base64.b64decode(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def test_there_are_recordings() -> None:
    """Both tasks of both caikit servers and vLLM are held to their recordings."""
    tasks = {f"{server}/{task}" for server in ("light", "standalone") for task in ("embedding", "embedding_tasks")}
    assert {name.rpartition("/")[0] for name in PAIRS} == tasks
    assert (len(PAIRS), len(ERRORS), len(REST_ONLY), len(VLLM)) == (15, 28, 46, 19)
    assert {code for pair in ERRORS.values() if (code := pair["grpc"]["reply"]["code"])} >= set(LOST_CODES)


# caikit's two doors


@pytest.mark.parametrize("name", sorted({*ERRORS} - {"standalone/embedding/inputs_missing"}))
def test_a_rest_call_that_fails_is_the_grpc_call(name: str) -> None:
    """What the model or the runtime refuses reaches the runtime: it is the recorded gRPC message, byte by byte."""
    pair = ERRORS[name]
    made = translate_call("caikit/rest", GRPC, pair["rest"]["request"])
    assert made == pair["grpc"]["request"]


@all_errors
def test_a_grpc_call_that_fails_is_the_rest_call(name: str) -> None:
    """The recorded gRPC request becomes a body that says what the recorded one says."""
    pair = ERRORS[name]
    made = translate_call("caikit/grpc", REST, pair["grpc"]["request"])
    recorded = json.loads(pair["rest"]["request"]["body"])
    recorded.setdefault("inputs", "")
    if not recorded.get("parameters"):
        recorded.pop("parameters", None)
    assert made["path"] == pair["rest"]["request"]["path"]
    assert json.loads(made["body"]) == recorded


@all_errors
def test_a_grpc_error_is_the_rest_error(name: str) -> None:
    """The recorded gRPC error, given to the REST client, has the recorded status and text."""
    pair = ERRORS[name]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    made = translate_reply("caikit/rest", GRPC, exchange)
    recorded = pair["rest"]["reply"]
    if name == "light/embedding/empty_text":
        assert (made["status"], recorded["status"]) == (200, 400)
    else:
        assert made["status"] == recorded["status"]
    if name not in EMPTY:
        assert json.loads(made["body"])["details"] == json.loads(recorded["body"])["details"]


@all_errors
def test_a_rest_error_is_the_grpc_error(name: str) -> None:
    """The recorded REST error, given to the gRPC client, has the recorded text, and the code as far as it is told."""
    pair = ERRORS[name]
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    made = translate_reply("caikit/grpc", REST, exchange)
    code = pair["grpc"]["reply"]["code"]
    if name in EMPTY:
        assert (made["code"], code) == (3, 0)
    else:
        assert made["code"] == LOST_CODES.get(code, code)
        assert made["details"] == pair["grpc"]["reply"]["details"]


@pytest.mark.parametrize("name", REST_ONLY)
def test_what_caikit_refuses_is_refused(name: str) -> None:
    """A body that caikit's REST door refuses never gets to a gRPC runtime, and one that it takes does."""
    case = REST_ONLY[name]
    made = translate_call("caikit/rest", GRPC, case["rest"]["request"])
    status, kind = case["rest"]["reply"]["status"], name.partition("/")[2]
    if (status in {200, 404} or kind in ACCEPTED) and kind not in REFUSED:
        assert made["rpc"].startswith("/caikit.runtime.Nlp.NlpService/Embedding")
    else:
        assert made["error"]["status"] == 400
        assert json.loads(made["error"]["body"])["details"]


def test_the_last_model_of_the_metadata_counts() -> None:
    """As in caikit, which looks at nothing but `mm-model-id`; without it the model is left to the runtime's error."""
    twice, none = CAIKIT["grpc_only"]
    assert json.loads(translate_call("caikit/grpc", REST, twice["grpc"]["request"])["body"])["model_id"] == "nope"
    assert json.loads(translate_call("caikit/grpc", REST, none["grpc"]["request"])["body"])["model_id"] == ""


def test_the_answer_of_another_task_is_no_vector() -> None:
    """Caikit lets a model of another task answer in its own form; that is an error, and never an empty vector."""
    (pair,) = CAIKIT["other_task"]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    assert translate_reply("caikit/rest", GRPC, exchange)["status"] == 500
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    assert translate_reply("caikit/grpc", REST, exchange)["code"] == 13
    assert translate_reply("caikit/grpc", GRPC, {**exchange, "reply": pair["grpc"]["reply"]})["code"] == 13
    empty = {"code": 0, "messages_base64": [""]}
    made = translate_reply("caikit/rest", GRPC, {"request": pair["rest"]["request"], "reply": empty})
    assert "0 vectors for 1 texts" in json.loads(made["body"])["details"]


# OpenAI clients of caikit


@all_pairs
@pytest.mark.parametrize("runtime", [REST, GRPC])
def test_an_openai_call_is_a_list_of_texts(name: str, runtime: str) -> None:
    """One text or several, an OpenAI call goes to the task that takes a list, in one call."""
    pair = PAIRS[name]
    made = translate_call("openai/rest", runtime, openai_request(pair))
    asked = json.loads(pair["rest"]["request"]["body"])
    if runtime == REST:
        assert made["path"] == "/api/v1/task/embedding-tasks"
        assert json.loads(made["body"]) == {"inputs": texts(pair["rest"]["request"]), "model_id": asked["model_id"]}
    else:
        assert made["rpc"] == "/caikit.runtime.Nlp.NlpService/EmbeddingTasksPredict"
        assert made["metadata"] == [["mm-model-id", asked["model_id"]]]
        message = wire.decode_EmbeddingTasksRequest(base64.b64decode(made["messages_base64"][0]), [])
        assert message.texts == texts(pair["rest"]["request"])


@all_pairs
@pytest.mark.parametrize("runtime", [REST, GRPC])
def test_an_openai_client_gets_caikits_numbers(name: str, runtime: str) -> None:
    """As numbers they are those of caikit's REST door, as base64 the bytes of its float32; tokens are counted."""
    pair = PAIRS[name]
    found, _, _ = answer(pair["grpc"]["reply"], pair["grpc"]["request"]["rpc"])
    numbers, body = vectors(pair["rest"]["reply"]), json.loads(pair["rest"]["reply"]["body"])
    reply = as_list(pair["rest"]["reply"]) if runtime == REST else grpc_list(pair["grpc"])
    exchange = {"request": openai_request(pair), "reply": reply}
    made = json.loads(translate_reply("openai/rest", runtime, exchange)["body"])
    assert [repr(each["embedding"]) for each in made["data"]] == [repr(each) for each in numbers]
    assert [(each["index"], each["object"]) for each in made["data"]] == [(i, "embedding") for i in range(len(numbers))]
    count = body["input_token_count"]
    assert made["usage"] == {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
    assert (made["object"], made["model"]) == ("list", json.loads(pair["rest"]["request"]["body"])["model_id"])
    exchange = {"request": openai_request(pair, encoding_format="base64"), "reply": reply}
    made = json.loads(translate_reply("openai/rest", runtime, exchange)["body"])
    packed = [base64.b64decode(each["embedding"]) for each in made["data"]]
    assert packed == [struct.pack(f"<{len(each)}f", *each) for each in numbers]
    if found[0][0] == "f":
        assert packed == [data for _, data in found]


def grpc_list(form: dict[str, Any]) -> dict[str, Any]:
    """A recorded gRPC answer for one text as the answer for a list of one."""
    if not form["request"]["rpc"].endswith("EmbeddingTaskPredict"):
        reply: dict[str, Any] = form["reply"]
        return reply
    single = wire.decode_EmbeddingResult(base64.b64decode(form["reply"]["messages_base64"][0]), [])
    assert single.result is not None
    several = wire.EmbeddingResults(
        results=wire.ListOfVector1D(vectors=[single.result]),
        producer_id=single.producer_id,
        input_token_count=single.input_token_count,
    )
    data = b"".join(map(bytes, wire.encode_EmbeddingResults(several)))
    return {"code": 0, "messages_base64": [base64.b64encode(data).decode()]}


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_a_runtime_without_lists_is_asked_for_each_text(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a runtime embeds one text a call, a list becomes several, with one answer in order and tokens added up."""
    known = APIS["caikit"]
    endpoints = {name: each for name, each in known.endpoints.items() if name != "embedding_tasks"}
    monkeypatch.setattr(translate, "APIS", {**APIS, "caikit": replace(known, endpoints=endpoints)})
    one, other = PAIRS["light/embedding/ok"], PAIRS["light/embedding/vector_float64"]
    asked = openai_request(one)
    asked["body"] = json.dumps({"model": "minilm", "input": [*texts(one["rest"]["request"]), "[[f64]] hello"]})
    made = translate_call("openai/rest", f"caikit-standalone/{protocol}", asked)
    if protocol == "grpc":
        assert made["calls"] == [one["grpc"]["request"], other["grpc"]["request"]]
    else:
        sent = [json.loads(call["body"]) for call in made["calls"]]
        assert sent == [json.loads(each["rest"]["request"]["body"]) for each in (one, other)]
    exchange = {"request": asked, "replies": [each[protocol]["reply"] for each in (one, other)]}
    got = json.loads(translate_reply("openai/rest", f"caikit-standalone/{protocol}", exchange)["body"])
    assert [each["embedding"] for each in got["data"]] == [vectors(each["rest"]["reply"])[0] for each in (one, other)]
    assert [each["index"] for each in got["data"]] == [0, 1]
    assert got["usage"]["prompt_tokens"] == 3 + 4


VLLM_REFUSALS = {
    "base64": "dimensions",
    "base64_big_endian": "endianness",
    "bytes_only": "encoding_format",
    "dimensions_not_allowed": "dimensions",
    "empty_list": "dimensions",
    "empty_string": "dimensions",
    "encoding_format_bad": "encoding_format",
    "missing_input": "input",
    "model_absent": "dimensions",
    "normalize_false": "dimensions",
    "string": "dimensions",
    "token_ids": "token ids",
    "truncate_prompt_tokens": "dimensions",
    "truncate_prompt_tokens_m1": "dimensions",
    "use_activation_false": "dimensions",
    "user_field": "dimensions",
    "wrong_type": "only texts",
}
"""Recorded calls that caikit cannot serve, and what the error names."""


@pytest.mark.parametrize("name", VLLM)
@pytest.mark.parametrize("runtime", [REST, GRPC])
def test_what_caikit_cannot_do_is_refused_by_name(name: str, runtime: str) -> None:
    """A recorded vLLM call crosses whole, or is refused by an error that names what caikit has no place for."""
    made = translate_call("openai/rest", runtime, VLLM[name]["request"])
    if name not in VLLM_REFUSALS:
        assert "error" not in made
        return
    assert made["error"]["status"] == 400
    assert VLLM_REFUSALS[name] in json.loads(made["error"]["body"])["error"]["message"]


SECOND = {"normalize_false": "use_activation", "use_activation_false": "use_activation"}
"""What the error names where `dimensions` is not the reason."""


@pytest.mark.parametrize("name", [name for name, case in VLLM.items() if "dimensions" in case["request"]["body"]])
def test_without_dimensions_a_call_crosses_or_has_another_reason(name: str) -> None:
    """Shortened vectors are what most recordings ask for; without that they cross, with their truncation."""
    body = json.loads(VLLM[name]["request"]["body"])
    body.pop("dimensions")
    made = translate_call("openai/rest", REST, {**VLLM[name]["request"], "body": json.dumps(body)})
    reason = VLLM_REFUSALS[name] if VLLM_REFUSALS[name] != "dimensions" else SECOND.get(name)
    if reason is not None:
        assert reason in json.loads(made["error"]["body"])["error"]["message"]
        return
    sent = json.loads(made["body"])
    assert sent["inputs"] == ([body["input"]] if isinstance(body["input"], str) else body["input"])
    truncated = {"truncate_prompt_tokens": {"truncate_input_tokens": 14}}
    truncated["truncate_prompt_tokens_m1"] = {"truncate_input_tokens": -1}
    assert sent.get("parameters") == truncated.get(name)


# caikit clients of vLLM

WHOLE = [name for name, case in VLLM.items() if case["reply"]["status"] == 200 and "body" in case["reply"]]
LITTLE = [name for name in WHOLE if name != "base64_big_endian"]


@all_pairs
@pytest.mark.parametrize("client", ["rest", "grpc"])
def test_a_caikit_call_is_an_openai_call(name: str, client: str) -> None:
    """Text, model and truncation of a recorded caikit call, and base64 for the way back."""
    pair = PAIRS[name]
    made = translate_call(f"caikit/{client}", VLLM_REST, pair[client]["request"])
    asked = json.loads(pair["rest"]["request"]["body"])
    inputs = texts(pair["rest"]["request"])
    expected = {"model": asked["model_id"], "input": inputs[0] if len(inputs) == 1 else inputs}
    expected["encoding_format"] = "base64"
    keep = asked.get("parameters", {}).get("truncate_input_tokens")
    if keep:
        expected["truncate_prompt_tokens"] = keep + 2 if keep > 0 else keep
    assert (made["method"], made["path"]) == ("POST", "/v1/embeddings")
    assert json.loads(made["body"]) == expected


@pytest.mark.parametrize("name", LITTLE)
def test_a_caikit_client_gets_vllms_numbers(name: str) -> None:
    """A recorded vLLM answer, as numbers or base64, has the same float32 for a caikit client of either door."""
    recorded = json.loads(VLLM[name]["reply"]["body"])
    embedding = recorded["data"][0]["embedding"]
    numbers = embedding if isinstance(embedding, list) else unpacked(embedding)
    pair = PAIRS["light/embedding/ok"]
    exchange = {"request": pair["rest"]["request"], "reply": VLLM[name]["reply"]}
    made = json.loads(translate_reply("caikit/rest", VLLM_REST, exchange)["body"])
    assert repr(made["result"]["data"]["values"]) == repr(numbers)
    assert made["input_token_count"] == recorded["usage"]["prompt_tokens"]
    exchange = {"request": pair["grpc"]["request"], "reply": VLLM[name]["reply"]}
    made = translate_reply("caikit/grpc", VLLM_REST, exchange)
    found, count, _ = answer(made, pair["grpc"]["request"]["rpc"])
    assert found == [("f", struct.pack(f"<{len(numbers)}f", *numbers))]
    assert count == recorded["usage"]["prompt_tokens"]


@pytest.mark.parametrize("name", ["string_full", "base64_full"])
def test_a_vllm_answer_survives_caikit(name: str) -> None:
    """An answer of vLLM that became caikit's gRPC answer becomes vLLM's again, to the last digit."""
    case = VLLM[name]
    text = json.loads(case["request"]["body"])["input"]
    message = b"".join(map(bytes, wire.encode_EmbeddingTasksRequest(wire.EmbeddingTasksRequest(texts=[text]))))
    call = {"rpc": "/caikit.runtime.Nlp.NlpService/EmbeddingTasksPredict", "metadata": [["mm-model-id", "minilm"]]}
    call["messages_base64"] = [base64.b64encode(message).decode()]
    crossed = translate_reply("caikit/grpc", VLLM_REST, {"request": call, "reply": case["reply"]})
    back = translate_reply("openai/rest", GRPC, {"request": case["request"], "reply": crossed})
    made, recorded = json.loads(back["body"]), json.loads(case["reply"]["body"])
    assert made["data"] == recorded["data"]
    recorded["usage"] = {name: count for name, count in recorded["usage"].items() if count is not None}
    assert made["usage"] == recorded["usage"]


def test_vllms_errors_are_caikits() -> None:
    """What vLLM refuses has its text and its meaning for a caikit client of either door."""
    pair, refusal = PAIRS["light/embedding/ok"], VLLM["dimensions_not_allowed"]["reply"]
    text = json.loads(refusal["body"])["error"]["message"]
    made = translate_reply("caikit/rest", VLLM_REST, {"request": pair["rest"]["request"], "reply": refusal})
    assert (made["status"], json.loads(made["body"])["details"]) == (400, text)
    made = translate_reply("caikit/grpc", VLLM_REST, {"request": pair["grpc"]["request"], "reply": refusal})
    assert (made["code"], made["details"]) == (3, text)
