"""Every recording of text generation on vLLM's two doors (REST and fmaas) that a translator can be held to.

A recorded request must cross to the other door, or be refused by the name of what the other door cannot say. A
recorded answer is given to a client of the other door that asked for the same, and must say the same there.

Documented differences, which no translation can bridge:
* fmaas names the text of the end token as stop sequence ("</s>"); the REST side does not tell it.
* Token texts are pieces of the vocabulary in fmaas and decoded text in REST (named as the loss `tokens[].text`).
* A list of prompts is one REST call with one usage; to fmaas clients each text is a call of its own.
* vLLM's REST side checks unknown models, too many `logprobs` and empty stop strings itself; fmaas ignores the first and
  refuses the others in its own words.
* REST refuses an empty list of prompts, fmaas answers it with nothing, and so does a REST runtime's fmaas client here.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.tgis import wire

GOLDEN = Path(__file__).parent.parent / "golden/generation"
type Cases = dict[str, dict[str, Any]]


def cases(file: str) -> Cases:
    """All of a file by `group/name`."""
    groups = json.loads((GOLDEN / file).read_text())
    return {f"{group}/{name}": case for group, found in groups.items() for name, case in found.items()}


VLLM, FMAAS = cases("vllm.json"), cases("fmaas.json")
REFUSED_BY_FMAAS = {
    "completions/n2_seed": "n:", "completions/n2_two_prompts": "n:", "completions_stream/n2": "n:",
    "completions/n2_greedy_error": "n must be 1 when using greedy sampling",
    "completions/best_of": "best_of:",
    "completions/stop_token_ids": "stop_token_ids:", "completions_stream/stop_token_ids_hit": "stop_token_ids:",
    "completions/ignore_eos": "ignore_eos:", "completions/max_tokens_over_room": "ignore_eos:",
    "completions/max_tokens_exact_room": "ignore_eos:", "engine_death/completions": "ignore_eos:",
    "engine_death/completions_stream": "ignore_eos:",
    "completions/prompt_logprobs": "prompt_logprobs:",
    "completions/echo_max_tokens_0": "max_tokens:", "completions/max_tokens_0": "max_tokens must be",
    "completions/return_token_ids": "return_token_ids:", "completions_stream/return_token_ids": "return_token_ids:",
    "completions/add_special_tokens_false": "return_token_ids:", "completions/stop_token_ids_hit": "return_token_ids:",
    "completions/stop_token_ids_eos": "return_token_ids:", "completions/logprobs_utf8_bytes_token": "return_token_ids:",
    "completions/truncate_prompt_tokens_1": "return_token_ids:",
    "completions/truncate_prompt_tokens_0": "return_token_ids:",
    "completions/return_tokens_as_token_ids": "return_tokens_as_token_ids:",
    "completions/beam_search": "use_beam_search:", "completions_stream/error_beam": "use_beam_search:",
    "completions/skip_special_tokens_false": "skip_special_tokens:",
    "completions/suffix": "suffix:",
    "completions/user_and_unknown_fields": "Object contains unknown field `no_such_field`",
    "completions_stream/stream_interval": "Object contains unknown field `stream_interval`",
    "completions/prompt_max_len_255": "prompt: this runtime takes texts",
    "completions/bad_words": "bad_words:", "completions/priority_nonzero": "priority:",
    "completions/logit_bias": "logit_bias:", "completions_stream/error_in_stream_logit_bias": "logit_bias:",
    "errors/bad_json": "the body is not valid JSON", "errors/empty_body": "prompt:",
    "errors/body_array": "Expected `object`", "errors/body_null": "Expected `object`",
    "errors/wrong_type_max_tokens": "Expected `int | null`", "errors/wrong_type_stream": "Expected `bool | null`",
    "errors/negative_max_tokens": "max_tokens must be", "errors/top_p_zero": "top_p:", "errors/n_zero": "n must be",
    "errors/repetition_penalty_zero": "repetition_penalty:", "errors/two_constraints": "only one kind of constraint",
    "errors/logit_bias_oov": "logit_bias:", "errors/invalid_utf8_body": "the body is not UTF-8",
    "errors/nan_temperature": "the body is not valid JSON", "errors/lone_surrogate": "the body is not valid JSON",
    "errors/method_put": "",
}  # fmt: skip
REFUSED_BY_VLLM = {
    "generate/sample_typical_p": "typical_p:", "errors/typical_p_big": "typical_p:",
    "errors/stream_typical_p": "typical_p:",
    "generate/all_response_options": "return_ranks:", "generate_stream/all_response_options": "return_ranks:",
    "generate/all_response_options_sample": "return_ranks:", "generate/ranks_only": "return_ranks:",
    "generate/guided_bad_schema": "json_schema is not valid JSON",
    "errors/token_detail_without_tokens": "must request input and/or generated tokens",
    "errors/garbage_bytes": "", "errors/seed_over_int64": "seed:",
}  # fmt: skip
CHATS = ("chat/", "engine_death/chat")


def asked(form: dict[str, Any]) -> tuple[Any, list[str]]:
    """An fmaas request and its texts."""
    data = base64.b64decode(form["messages_base64"][0])
    if form["rpc"].endswith("GenerateStream"):
        single = wire.decode_SingleGenerationRequest(data, [])
        return single, [single.request.text if single.request else ""]
    batch = wire.decode_BatchedGenerationRequest(data, [])
    return batch, [item.text for item in batch.requests]


def answered(form: dict[str, Any], *, streamed: bool) -> list[wire.GenerationResponse]:
    """The messages of an fmaas stream, or the items of its batch."""
    messages = [base64.b64decode(text) for text in form["messages_base64"]]
    if streamed:
        return [wire.decode_GenerationResponse(message, []) for message in messages]
    return wire.decode_BatchedGenerationResponse(messages[0], []).responses


def events(form: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON events of an OpenAI stream, which ends with its mark."""
    found = [event for event in form["body"].split("\n\n") if event and not event.startswith(":")]
    assert found.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in found]


def text_of(found: list[dict[str, Any]], index: int = 0) -> str:
    """The text of one answer of an OpenAI stream."""
    return "".join(c["text"] for event in found for c in event["choices"] if c["index"] == index)


def params_of(body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What an OpenAI request says, in fmaas' words: path and value."""
    greedy = body.get("temperature") in (0, "0")
    yield "method", 0 if greedy else 1
    if "max_tokens" in body or "prompt" in body:
        yield "stopping.max_new_tokens", int(body.get("max_tokens", 16) or 0)
    yield "stopping.min_new_tokens", body.get("min_tokens", 0)
    stop = body.get("stop", [])
    yield "stopping.stop_sequences", [stop] if isinstance(stop, str) else stop
    yield "stopping.include_stop_sequence", body.get("include_stop_str_in_output", False)
    yield "response.input_text", body.get("echo", False)
    yield "response.generated_tokens", body.get("logprobs") is not None
    yield "response.token_logprobs", body.get("logprobs") is not None
    yield "response.top_n_tokens", body.get("logprobs") or 0
    yield "decoding.regex", body.get("structured_outputs", {}).get("regex")
    if not greedy:
        yield "sampling.seed", body.get("seed")
        yield "sampling.temperature", body.get("temperature")


def value_at(message: Any, path: str, default: Any) -> Any:
    """A value in nested messages; the default where a message on the way is missing."""
    for step in path.split("."):
        message = getattr(message, step, None) if message is not None else None
    return default if message is None else message


@pytest.mark.parametrize("name", [name for name in VLLM if not name.startswith(CHATS)])
def test_a_rest_request_crosses_or_is_refused_by_name(name: str) -> None:
    """A recorded REST request becomes the fmaas request that asks for the same, or its client learns what is lost."""
    request = VLLM[name]["request"]
    made = translate_call("openai/rest", "vllm-nvidia/grpc", request)
    if name in REFUSED_BY_FMAAS:
        assert 400 <= made["error"]["status"] < 500
        assert json.loads(made["error"]["body"])["error"]["message"].startswith(REFUSED_BY_FMAAS[name])
        return
    body = json.loads(request["body"])
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    said = [asked(call) for call in made.get("calls", [made])]
    assert [text for _, texts in said for text in texts] == prompts
    for message, _ in said:
        assert message.model_id == body["model"]
        for path, value in params_of(body):
            assert value_at(message.params, path, type(value)() if value is not None else None) == value, path


@pytest.mark.parametrize("name", FMAAS)
def test_an_fmaas_request_crosses_or_is_refused_by_name(name: str) -> None:
    """A recorded fmaas request becomes REST requests, one a text, that ask for the same with fmaas' defaults."""
    request = FMAAS[name]["request"]
    made = translate_call("tgis/grpc", "openai/rest", request)
    if name in REFUSED_BY_VLLM:
        assert made["error"]["code"] == 3
        assert made["error"]["details"].startswith(REFUSED_BY_VLLM[name])
        return
    message, texts = asked(request)
    bodies = [json.loads(call["body"]) for call in made.get("calls", [made])]
    assert [body["prompt"] for body in bodies] == texts
    for body in bodies:
        assert_asks(body, message)


@pytest.mark.parametrize("runtime", ["openai/rest", "caikit/rest", "caikit/grpc", "triton-generate/rest"])
def test_an_empty_batch_has_an_empty_answer(runtime: str) -> None:
    """As fmaas itself answers it (recorded), without a call of the runtime, which would refuse it; so does Tokenize."""
    request = FMAAS["generate/batch_empty"]["request"]
    assert translate_call("tgis/grpc", runtime, request) == {"calls": []}
    made = translate_reply("tgis/grpc", runtime, {"request": request, "replies": []})
    assert (made["code"], made["messages_base64"]) == (0, FMAAS["generate/batch_empty"]["reply"]["messages_base64"])
    if not runtime.startswith("triton"):
        tokens = {"rpc": "/fmaas.GenerationService/Tokenize", "messages_base64": [""]}
        assert translate_reply("tgis/grpc", runtime, {"request": tokens, "replies": []})["messages_base64"] == [""]
    no_text = {**FMAAS["generate_stream/basic"]["request"], "messages_base64": ["CgFt"]}
    assert translate_call("tgis/grpc", runtime, no_text) != {"calls": []}


def assert_asks(body: dict[str, Any], message: Any) -> None:
    """The REST body says what the fmaas message says, zeros and defaults included."""
    params, sampling = message.params, value_at(message.params, "sampling", None)
    assert body.get("model", "") == (message.adapter_id or message.prefix_id or message.model_id)
    sample = value_at(params, "method", 0) == 1
    temperature = value_at(sampling, "temperature", 1.0) if sample else 0.0
    assert body["temperature"] == temperature
    assert body["top_p"] == (sample and value_at(sampling, "top_p", 0.0)) or body["top_p"] == 1.0
    assert body["top_k"] == (value_at(sampling, "top_k", 0) if sample else 0)
    assert body["repetition_penalty"] == (value_at(params, "decoding.repetition_penalty", 0.0) or 1.0)
    assert body["max_tokens"] == (value_at(params, "stopping.max_new_tokens", 0) or None)
    assert body["include_stop_str_in_output"] is value_at(params, "stopping.include_stop_sequence", True)
    assert body.get("seed") == (value_at(sampling, "seed", None) if sample else None)
    assert body.get("truncate_prompt_tokens") == (value_at(params, "truncate_input_tokens", 0) or None)
    prompt_tokens = value_at(params, "response.input_tokens", False)
    listed = prompt_tokens or value_at(params, "response.generated_tokens", False)
    assert body.get("logprobs") == (value_at(params, "response.top_n_tokens", 0) if listed else None)
    assert body.get("echo", False) is (value_at(params, "response.input_text", False) or prompt_tokens)


def fmaas_client(name: str) -> dict[str, Any] | None:
    """The fmaas request that asks for what a recorded REST request does; None where it cannot be said."""
    made = translate_call("openai/rest", "vllm-nvidia/grpc", VLLM[name]["request"])
    return None if "error" in made or "calls" in made else made


ANSWERED = [
    name
    for name, case in VLLM.items()
    if name.startswith("completions/") and case["reply"]["status"] == 200 and name not in REFUSED_BY_FMAAS
    and name != "completions/list_of_strings"
]  # fmt: skip
REASONS = {"stop": {2, 5}, "length": {1, 6}}


@pytest.mark.parametrize("name", ANSWERED)
def test_a_rest_answer_is_an_fmaas_answer(name: str) -> None:
    """A recorded REST answer tells an fmaas client that asked for the same text, counts, reason and tokens."""
    exchange = {"request": fmaas_client(name), "reply": VLLM[name]["reply"]}
    (got,) = answered(translate_reply("tgis/grpc", "openai/rest", exchange), streamed=False)
    recorded = json.loads(VLLM[name]["reply"]["body"])
    choice, body = recorded["choices"][0], json.loads(VLLM[name]["request"]["body"])
    assert got.text == choice["text"]
    assert got.input_token_count == recorded["usage"]["prompt_tokens"]
    assert got.generated_token_count == recorded["usage"]["completion_tokens"]
    assert got.stop_reason in REASONS[choice["finish_reason"]]
    assert got.stop_sequence == (choice["stop_reason"] or "")
    if body.get("logprobs") is not None:
        tokens = [*got.input_tokens, *got.tokens]
        listed = choice["logprobs"]
        assert [token.text for token in tokens] == listed["tokens"]
        assert [token.logprob for token in tokens] == pytest.approx([p or 0.0 for p in listed["token_logprobs"]])
        assert all(len(token.top_tokens) <= body["logprobs"] for token in tokens)
        assert len(got.input_tokens) == (recorded["usage"]["prompt_tokens"] if body.get("echo") else 0)


SAID = [
    name for name, case in FMAAS.items()
    if name.startswith("generate/") and case["reply"]["code"] == 0 and name != "generate/batch_empty"
]  # fmt: skip
FINISHED = {1: "length", 2: "stop", 4: "length", 5: "stop", 6: "length"}


@pytest.mark.parametrize("name", SAID)
def test_an_fmaas_answer_is_a_rest_answer(name: str) -> None:
    """A recorded fmaas answer tells a REST client that asked for the same texts, reasons, tokens and usage."""
    _, texts = asked(FMAAS[name]["request"])
    message = asked(FMAAS[name]["request"])[0]
    listed = value_at(message.params, "response.token_logprobs", False)
    top, echo = (
        value_at(message.params, "response.top_n_tokens", 0),
        value_at(message.params, "response.input_text", False),
    )
    body = {"model": "tiny-llama", "prompt": [text or "-" for text in texts], "echo": echo}
    body |= {"logprobs": top} if listed else {}
    request = {"method": "POST", "path": "/v1/completions", "headers": [], "body": json.dumps(body)}
    reply = dict(FMAAS[name]["reply"])
    if not listed:
        reply["messages_base64"] = [_without_tokens(reply["messages_base64"][0])]
    made = translate_reply("openai/rest", "vllm-nvidia/grpc", {"request": request, "reply": reply})
    got, recorded = json.loads(made["body"]), answered(FMAAS[name]["reply"], streamed=False)
    assert [choice["text"] for choice in got["choices"]] == [each.text for each in recorded]
    assert [choice["index"] for choice in got["choices"]] == list(range(len(recorded)))
    assert [choice["finish_reason"] for choice in got["choices"]] == [FINISHED[each.stop_reason] for each in recorded]
    counts = sum(each.input_token_count for each in recorded), sum(each.generated_token_count for each in recorded)
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == counts
    assert got["usage"]["total_tokens"] == sum(counts)
    for choice, each in zip(got["choices"], recorded, strict=True):
        assert choice["logprobs"] == (_columns(each, echo, top) if listed else None)


def _without_tokens(text: str) -> str:
    """A batch without the tokens that no REST request asks for in this way."""
    batch = wire.decode_BatchedGenerationResponse(base64.b64decode(text), [])
    for each in batch.responses:
        each.tokens, each.input_tokens = [], []
    return base64.b64encode(b"".join(map(bytes, wire.encode_BatchedGenerationResponse(batch)))).decode()


def _columns(each: wire.GenerationResponse, echo: bool, top: int) -> dict[str, Any]:
    """The REST columns of recorded fmaas tokens."""
    tokens = [*(each.input_tokens if echo else []), *each.tokens]
    firsts = 1 if echo else 0
    offsets = [sum(len(token.text) for token in tokens[:number]) for number in range(len(tokens))]
    return {
        "text_offset": offsets,
        "token_logprobs": [None] * firsts + [token.logprob for token in tokens[firsts:]],
        "tokens": [token.text for token in tokens],
        "top_logprobs": [None] * firsts
        + [
            {token.text: token.logprob, **{other.text: other.logprob for other in token.top_tokens[:top]}}
            for token in tokens[firsts:]
        ],
    }


STREAMED = [
    name
    for name, case in VLLM.items()
    if name.startswith("completions_stream/") and case["reply"]["status"] == 200 and name not in REFUSED_BY_FMAAS
    and name not in ("completions_stream/two_prompts", "completions_stream/error_in_stream_bad_regex")
]  # fmt: skip


@pytest.mark.parametrize("name", STREAMED)
def test_a_rest_stream_is_an_fmaas_stream(name: str) -> None:
    """A recorded REST stream gives an fmaas client the input first, the same text, and one reason at the end."""
    made = translate_reply("tgis/grpc", "openai/rest", {"request": fmaas_client(name), "reply": VLLM[name]["reply"]})
    first, *rest = answered(made, streamed=True)
    recorded, body = events(VLLM[name]["reply"]), json.loads(VLLM[name]["request"]["body"])
    assert (first.generated_token_count, first.stop_reason) == (0, 0)
    assert first.text in ("", body["prompt"])
    assert first.text + "".join(message.text for message in rest) == text_of(recorded)
    reasons = [message.stop_reason for message in rest if message.stop_reason]
    assert len(reasons) == 1
    assert reasons[0] in REASONS[recorded[-1 if recorded[-1]["choices"] else -2]["choices"][0]["finish_reason"]]
    assert rest[-1].stop_reason == reasons[0]
    if body.get("logprobs") is not None:
        listed = [column for event in recorded for column in event["choices"][0]["logprobs"]["tokens"]]
        assert [token.text for message in rest for token in message.tokens] == listed


SPOKEN = [
    name
    for name, case in FMAAS.items()
    if name.startswith("generate_stream/") and case["reply"]["code"] == 0
]  # fmt: skip


@pytest.mark.parametrize(
    "usage", [None, {"include_usage": True}, {"include_usage": True, "continuous_usage_stats": True}]
)
@pytest.mark.parametrize("name", SPOKEN)
def test_an_fmaas_stream_is_a_rest_stream(name: str, usage: dict[str, Any] | None) -> None:
    """A recorded fmaas stream gives a REST client the same text, one reason at the end, and usage as asked for."""
    message, texts = asked(FMAAS[name]["request"])
    listed = value_at(message.params, "response.generated_tokens", False)
    body: dict[str, Any] = {"model": "m", "prompt": texts, "stream": True}
    body |= {"stream_options": usage} if usage else {}
    body |= {"echo": True} if value_at(message.params, "response.input_text", False) else {}
    body |= {"logprobs": value_at(message.params, "response.top_n_tokens", 0)} if listed else {}
    request = {"method": "POST", "path": "/v1/completions", "headers": [], "body": json.dumps(body)}
    found = events(
        translate_reply("openai/rest", "vllm-nvidia/grpc", {"request": request, "reply": FMAAS[name]["reply"]})
    )
    recorded = answered(FMAAS[name]["reply"], streamed=True)
    chunks = [event for event in found if event["choices"]]
    assert text_of(chunks) == "".join(message.text for message in recorded)
    reasons = [event["choices"][0]["finish_reason"] for event in chunks]
    assert reasons == [None] * (len(chunks) - 1) + [FINISHED[recorded[-1].stop_reason]]
    total = {"prompt_tokens": recorded[0].input_token_count, "completion_tokens": recorded[-1].generated_token_count}
    total["total_tokens"] = sum(total.values())
    assert [event["usage"] for event in found if not event["choices"]] == ([total] if usage else [])
    assert all(("usage" in event) is bool(usage and len(usage) > 1) for event in chunks)
    if usage and len(usage) > 1:
        assert chunks[-1]["usage"] == total
    if listed:
        tokens = [token for event in chunks for token in event["choices"][0]["logprobs"]["tokens"]]
        inputs = [token.text for token in recorded[0].input_tokens] if body.get("echo") else []
        assert tokens == inputs + [token.text for message in recorded for token in message.tokens]


HIDDEN = [name for name, case in FMAAS.items() if case["reply"]["details"].startswith("Unexpected <class")]
NOT_THE_CLIENTS = {"errors/garbage_bytes", "errors/engine_death_mid_stream"}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_the_adapter_hides_is_the_clients_error_again(name: str) -> None:
    """The adapter calls a bad pattern or parameter UNKNOWN; a REST client gets the 400 that vLLM's REST door gives."""
    body = json.dumps({"model": "m", "prompt": "a"})
    request = {"method": "POST", "path": "/v1/completions", "headers": [], "body": body}
    reply = {**FMAAS[name]["reply"], "messages_base64": []}
    made = translate_reply("openai/rest", "vllm-nvidia/grpc", {"request": request, "reply": reply})
    assert made["status"] == (500 if name in NOT_THE_CLIENTS else 400)
    assert json.loads(made["body"])["error"]["message"] == reply["details"]


STATUS = {400: {3}, 404: {5}, 500: {13, 2}, 405: {12}}
RELAYED = [name for name, case in VLLM.items() if case["reply"]["status"] != 200]
ASKING = {"request": FMAAS["generate/eos"]["request"], "stream": FMAAS["generate_stream/basic"]["request"]}


@pytest.mark.parametrize("client", ASKING)
@pytest.mark.parametrize("name", RELAYED)
def test_a_rest_error_is_an_fmaas_status(name: str, client: str) -> None:
    """What vLLM refuses or fails at before it answers reaches an fmaas client as status and vLLM's words."""
    reply = VLLM[name]["reply"]
    made = translate_reply("tgis/grpc", "openai/rest", {"request": ASKING[client], "reply": reply})
    body = json.loads(reply["body"])
    assert made["code"] in STATUS[reply["status"]]
    assert made["details"] == (body["error"]["message"] if "error" in body else body["detail"])
    assert made["messages_base64"] == []


@pytest.mark.parametrize("name", ["completions_stream/error_in_stream_bad_regex", "engine_death/completions_stream"])
def test_an_error_within_a_rest_stream_ends_the_fmaas_stream(name: str) -> None:
    """vLLM's error event is the status of the fmaas stream, its [DONE] is no success."""
    reply = VLLM[name]["reply"]
    error = json.loads(reply["body"].split("data: ")[-2])["error"]
    made = translate_reply("tgis/grpc", "openai/rest", {"request": ASKING["stream"], "reply": reply})
    assert made["code"] in STATUS[error["code"]]
    assert made["details"] == error["message"]
    assert bool(made["messages_base64"]) is (name == "engine_death/completions_stream")


HTTP = {2: 500, 3: 400, 4: 504, 12: 501, 14: 503}
FAILED = [name for name, case in FMAAS.items() if case["reply"]["code"] not in (0, 1)]


@pytest.mark.parametrize("name", FAILED)
def test_an_fmaas_status_is_a_rest_error(name: str) -> None:
    """What fmaas refuses or fails at reaches a REST client as vLLM's error object with fmaas' words."""
    reply = FMAAS[name]["reply"]
    stream = FMAAS[name]["request"]["rpc"].endswith("Stream")
    body = json.dumps({"model": "m", "prompt": "a", "stream": stream})
    request = {"method": "POST", "path": "/v1/completions", "headers": [], "body": body}
    made = translate_reply("openai/rest", "tgis/grpc", {"request": request, "reply": reply})
    if reply["messages_base64"]:
        assert made["status"] == 200
        assert "[DONE]" not in made["body"]
        error = json.loads(made["body"].strip().rpartition("data: ")[2])["error"]
    else:
        assert made["status"] == HTTP[reply["code"]]
        error = json.loads(made["body"])["error"]
    assert (error["message"], error["code"]) == (reply["details"], HTTP[reply["code"]])
