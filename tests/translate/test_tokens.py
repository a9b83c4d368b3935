"""Tokenization and models between vLLM's API, TGIS and caikit, on what the real ones answered."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.bridge.context import Policy
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.tgis import wire
from translate.caikit_forms import rest_reply, rest_request

GOLDENS = json.loads((Path(__file__).parent.parent / "golden/tasks/tokens.json").read_text())
VLLM: dict[str, dict[str, Any]] = {case["name"]: case for case in GOLDENS["vllm"]}
TGIS: dict[str, dict[str, Any]] = {case["name"]: case for case in GOLDENS["tgis"]}
MODELS = {"method": "GET", "path": "/v1/models", "headers": [], "body": ""}


def body(form: dict[str, Any]) -> Any:
    """The JSON of a form."""
    return json.loads(form["body"])


def tokenized(form: dict[str, Any]) -> wire.BatchedTokenizeResponse:
    """The message of a fmaas answer."""
    return wire.decode_BatchedTokenizeResponse(base64.b64decode(form["messages_base64"][0]), [])


def tgis_call(**fields: Any) -> dict[str, Any]:
    """A call of fmaas' Tokenize for one text."""
    message = wire.BatchedTokenizeRequest(requests=[wire.TokenizeRequest(text="hello world")], **fields)
    data = b"".join(wire.encode_BatchedTokenizeRequest(message))
    return {
        "rpc": "/fmaas.GenerationService/Tokenize",
        "metadata": [],
        "messages_base64": [base64.b64encode(data).decode()],
    }


def test_a_recorded_call_of_tgis_is_vllms() -> None:
    """Text, model and the wish for pieces cross; what cannot be had is refused by name."""
    made = translate_call("tgis/grpc", "vllm-nvidia/rest", TGIS["count"]["request"])
    assert body(made) == {"model": "tiny-llama", "prompt": "hello world"}
    made = translate_call("tgis/grpc", "vllm-nvidia/rest", tgis_call(return_tokens=True))
    assert body(made)["return_token_strs"] is True
    made = translate_call("tgis/grpc", "vllm-nvidia/rest", TGIS["tokens_offsets"]["request"])
    assert made["error"]["code"] == 3
    assert "return_spans" in made["error"]["details"]


def test_vllms_pieces_are_those_of_tgis() -> None:
    """The answers of one model at both doors: vLLM's recorded one, for the TGIS client, is the one TGIS recorded."""
    exchange = {"request": tgis_call(return_tokens=True), "reply": VLLM["prompt_token_strs"]["reply"]}
    made = tokenized(translate_reply("tgis/grpc", "vllm-nvidia/rest", exchange))
    recorded = tokenized(TGIS["tokens_offsets"]["reply"])
    assert made.responses[0].tokens == recorded.responses[0].tokens == ["<s>", "hello", "\u0120w", "orld"]
    assert made.responses[0].token_count == recorded.responses[0].token_count == 4


def test_a_text_beyond_the_models_context_is_counted() -> None:
    """Both doors count what no call of generation would take (recorded: 1202 tokens where the model takes 256)."""
    text = body(VLLM["too_long_ok"]["request"])["prompt"]
    message = wire.BatchedTokenizeRequest(model_id="tiny-llama", requests=[wire.TokenizeRequest(text=text)])
    call = tgis_call()
    call["messages_base64"] = [base64.b64encode(b"".join(wire.encode_BatchedTokenizeRequest(message))).decode()]
    assert body(translate_call("tgis/grpc", "vllm-nvidia/rest", call))["prompt"] == text
    exchange = {"request": call, "reply": VLLM["too_long_ok"]["reply"]}
    (made,) = tokenized(translate_reply("tgis/grpc", "vllm-nvidia/rest", exchange)).responses
    assert (made.token_count, made.tokens) == (1202, [])


def test_the_last_tokens_are_kept() -> None:
    """TGIS truncates to the end of the list; of a runtime that cannot, all tokens are asked."""
    call = tgis_call(return_tokens=True, truncate_input_tokens=2)
    assert "truncate" not in translate_call("tgis/grpc", "vllm-nvidia/rest", call)["body"]
    exchange = {"request": call, "reply": VLLM["prompt_token_strs"]["reply"]}
    (made,) = tokenized(translate_reply("tgis/grpc", "vllm-nvidia/rest", exchange)).responses
    assert (made.token_count, made.tokens) == (2, ["\u0120w", "orld"])


def test_ids_are_a_loss() -> None:
    """Only vLLM knows the numbers of tokens: its clients are refused elsewhere, or served without them."""
    call = VLLM["prompt_token_strs"]["request"]
    made = translate_call("openai/rest", "tgis/grpc", call)
    assert made["error"]["status"] == 400
    assert body(made["error"])["error"]["message"].startswith("tokens:")
    exchange = {"request": call, "reply": TGIS["tokens_offsets"]["reply"]}
    answer = translate_reply("openai/rest", "tgis/grpc", exchange, Policy(lossy=True))
    assert body(answer)["count"] == 4
    assert body(answer)["token_strs"] == ["<s>", "hello", "\u0120w", "orld"]
    assert ["x-inferbridge-lost", "tokens"] in answer["headers"]


def test_a_chat_is_not_tokenized_as_text() -> None:
    """Messages go through the model's own template with no beginning added, which no other API does."""
    call = VLLM["messages"]["request"]
    made = translate_call("openai/rest", "tgis/grpc", call, Policy(lossy=False))
    assert made["error"]["status"] == 400


def test_caikit_counts_tokens_of_tgis() -> None:
    """A caikit client in front of TGIS gets the count, as from caikit's own TGIS module."""
    call = rest_request("/api/v1/task/tokenization", {"inputs": "hello world", "model_id": "flan"})
    made = translate_reply("caikit/rest", "tgis/grpc", {"request": call, "reply": TGIS["count"]["reply"]})
    assert body(made) == {"results": [], "token_count": 4}


def test_offsets_of_caikit_are_offsets_of_tgis() -> None:
    """Spans cross where the client wants them."""
    reply = rest_reply({"results": [{"start": 0, "end": 5, "text": "hello"}], "token_count": 3})
    exchange = {"request": tgis_call(return_offsets=True), "reply": reply}
    made = tokenized(translate_reply("tgis/grpc", "caikit-tgis/rest", exchange))
    assert made.responses[0].token_count == 3
    assert [(each.start, each.end) for each in made.responses[0].offsets] == [(0, 5)]


def test_offsets_that_caikit_does_not_tell_are_an_error() -> None:
    """A module that only counts its tokens cannot serve a client that wants to know where they stand."""
    reply = rest_reply({"results": None, "token_count": 3})
    exchange = {"request": tgis_call(return_offsets=True), "reply": reply}
    made = translate_reply("tgis/grpc", "caikit-tgis/rest", exchange)
    assert (made["code"], made["details"].partition(":")[0]) == (13, "return_offsets")
    made = translate_reply("tgis/grpc", "caikit-tgis/rest", exchange, Policy(lossy=True))
    assert tokenized(made).responses[0].token_count == 3
    assert ["x-inferbridge-lost", "return_offsets"] in made["metadata"]


def test_models_of_caikit_for_an_openai_client() -> None:
    """`/v1/models` in front of caikit lists what `/info/models` does."""
    made = translate_call("openai/rest", "caikit-standalone/rest", MODELS)
    assert (made["method"], made["path"]) == ("GET", "/info/models")
    reply = rest_reply({"models": [{"model_path": "m/flan", "name": "flan", "size": 3, "loaded": True}]})
    listed = body(translate_reply("openai/rest", "caikit-standalone/rest", {"request": MODELS, "reply": reply}))
    (model,) = listed["data"]
    assert (model["id"], model["object"], model["owned_by"], model["root"]) == (
        "flan",
        "model",
        "caikit-standalone",
        "m/flan",
    )
    assert listed["object"] == "list"


def test_models_of_vllm_for_a_caikit_client() -> None:
    """`/info/models` in front of vLLM lists the recorded models, and of those asked for all, as caikit does."""
    call = {"method": "GET", "path": "/info/models?model_ids=tiny-llama", "headers": [], "body": ""}
    made = body(translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": VLLM["models"]["reply"]}))
    (model,) = made["models"]
    assert (model["name"], model["loaded"], model["metadata"]) == ("tiny-llama", True, {"max_seq_length": 256})
    call["path"] = "/info/models?model_ids=other"
    made = translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": VLLM["models"]["reply"]})
    assert (made["status"], body(made)["details"]) == (404, "Model other is not loaded")


def test_model_info_of_vllm() -> None:
    """TGIS' ModelInfo says the recorded limit of vLLM's model."""
    call = TGIS["model_info"]["request"]
    made = translate_reply("tgis/grpc", "vllm-nvidia/rest", {"request": call, "reply": VLLM["models"]["reply"]})
    info = wire.decode_ModelInfoResponse(base64.b64decode(made["messages_base64"][0]), [])
    assert (info.model_kind, info.max_sequence_length) == (0, 256)


def test_tgis_does_not_tell_its_models_name() -> None:
    """Without a configured name an OpenAI client is told what to configure."""
    made = translate_reply("openai/rest", "tgis/grpc", {"request": MODELS, "reply": TGIS["model_info"]["reply"]})
    assert made["status"] == 501
    assert "default_model" in body(made)["error"]["message"]


@pytest.mark.parametrize("path", ["/info/version", "/info/runtime"])
def test_the_version_of_vllm_for_a_caikit_client(path: str) -> None:
    """Both documented paths answer with the runtime's version."""
    call = {"method": "GET", "path": path, "headers": [], "body": ""}
    made = translate_reply("caikit/rest", "vllm-nvidia/rest", {"request": call, "reply": VLLM["version"]["reply"]})
    assert body(made)["runtime_version"] == "0.32.0"


@pytest.mark.parametrize(
    ("client", "path", "runtime", "probe", "text"),
    [
        ("caikit/rest", "/health", "vllm-nvidia/rest", "/health", "OK"),
        ("openai/rest", "/health", "triton/rest", "/v2/health/ready", ""),
        ("openai/rest", "/ping", "triton/rest", "/v2/health/ready", ""),
        ("open-inference/rest", "/v2/health/ready", "vllm-nvidia/rest", "/health", '{"ready":true}'),
    ],
)
def test_readiness_is_asked_of_every_api(client: str, path: str, runtime: str, probe: str, text: str) -> None:
    """A health check is the runtime's own, the answer has the client's form; 503 while it is not ready."""
    call = {"method": "GET", "path": path, "headers": [], "body": ""}
    assert translate_call(client, runtime, call)["path"] == probe
    good = translate_reply(client, runtime, {"request": call, "reply": {"status": 200, "headers": [], "body": ""}})
    assert (good["status"], good["body"]) == (200, text)
    status = 400 if runtime.startswith("triton") else 503
    bad = translate_reply(client, runtime, {"request": call, "reply": {"status": status, "headers": [], "body": ""}})
    assert bad["status"] == 503
