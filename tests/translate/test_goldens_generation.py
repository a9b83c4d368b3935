"""Text generation recorded on the two doors of one engine (vLLM 0.32, REST and fmaas), each held against the other.

Documented differences, which no translation can bridge:
* fmaas names the text of the end token as stop sequence ("</s>"); the REST side does not tell it.
* ids, times and fingerprints are every server's own, and the model's name in fmaas answers is the one asked for.
* vLLM's REST side writes further keys that are null (`logprobs`, `token_ids`, …).
* `max_new_tokens` of a recorded pair may differ (the text ends before either limit).
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.bridge.context import Context, RuntimeProfile, Setting
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated import operations
from inferbridge_generated.openai.bridges import chat_rest_encode_message
from inferbridge_generated.tgis import wire

PAIRS = {
    pair["name"]: pair
    for pair in json.loads((Path(__file__).parent.parent / "golden/generation/pairs.json").read_text())["pairs"]
}
WHOLE = ("end_of_text", "stop_sequence", "regex")
STREAMS = ("stream", "stream_regex")


def asked_of_fmaas(form: dict[str, Any]) -> tuple[Any, ...]:
    """What a request says, in both of its forms."""
    data = base64.b64decode(form["messages_base64"][0])
    if form["rpc"].endswith("GenerateStream"):
        single = wire.decode_SingleGenerationRequest(data, [])
        return _asked(single, [single.request.text if single.request else ""])
    batch = wire.decode_BatchedGenerationRequest(data, [])
    return _asked(batch, [item.text for item in batch.requests])


def _asked(message: Any, prompts: list[str]) -> tuple[Any, ...]:
    params = message.params
    regex = params.decoding.regex if params.decoding else None
    return message.model_id, prompts, params.method, params.stopping.stop_sequences, regex


def answered(form: dict[str, Any]) -> list[wire.GenerationResponse]:
    """All messages of an fmaas answer, those of a batch one by one."""
    messages = [base64.b64decode(text) for text in form["messages_base64"]]
    if len(messages) == 1:
        return wire.decode_BatchedGenerationResponse(messages[0], []).responses
    return [wire.decode_GenerationResponse(message, []) for message in messages]


def chunks(form: dict[str, Any]) -> list[dict[str, Any]]:
    """The JSON events of an OpenAI stream, which must end with its mark."""
    events = form["body"].strip().split("\n\n")
    assert events.pop() == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


def text_of(events: list[dict[str, Any]]) -> str:
    """The text of an OpenAI stream."""
    return "".join(choice["text"] for event in events for choice in event["choices"])


@pytest.mark.parametrize("name", [*WHOLE, *STREAMS])
def test_an_openai_call_asks_fmaas_for_the_same(name: str) -> None:
    """A recorded REST request becomes a request that says what the recorded fmaas request of its pair says."""
    pair = PAIRS[name]
    made = translate_call("openai/rest", "vllm-nvidia/grpc", pair["openai"]["request"])
    assert made["rpc"] == pair["fmaas"]["request"]["rpc"]
    assert asked_of_fmaas(made) == asked_of_fmaas(pair["fmaas"]["request"])


@pytest.mark.parametrize("name", [*WHOLE, *STREAMS])
def test_an_fmaas_call_asks_vllm_for_the_same(name: str) -> None:
    """A recorded fmaas request becomes a REST request that says what its pair says, fmaas' defaults written out."""
    pair = PAIRS[name]
    made = json.loads(translate_call("tgis/grpc", "openai/rest", pair["fmaas"]["request"])["body"])
    recorded = json.loads(pair["openai"]["request"]["body"])
    for key in ("model", "prompt", "temperature", "stop", "structured_outputs"):
        assert made.get(key) == recorded.get(key)
    assert bool(made.get("stream")) is bool(recorded.get("stream"))
    assert (made["top_p"], made["repetition_penalty"]) == (1.0, 1.0)
    assert made["include_stop_str_in_output"] is (name != "stop_sequence")


@pytest.mark.parametrize("name", WHOLE)
def test_an_fmaas_answer_is_the_openai_answer(name: str) -> None:
    """The recorded fmaas answer, given to the recorded REST client, is the recorded REST answer."""
    pair = PAIRS[name]
    exchange = {"request": pair["openai"]["request"], "reply": pair["fmaas"]["reply"]}
    made = translate_reply("openai/rest", "vllm-nvidia/grpc", exchange)
    got, recorded = json.loads(made["body"]), json.loads(pair["openai"]["reply"]["body"])
    assert made["status"] == 200
    for key in ("index", "text", "finish_reason"):
        assert got["choices"][0][key] == recorded["choices"][0][key]
    assert got["choices"][0]["stop_reason"] == recorded["choices"][0]["stop_reason"]
    for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert got["usage"][key] == recorded["usage"][key]
    assert (got["object"], got["model"]) == (recorded["object"], recorded["model"])


@pytest.mark.parametrize("name", WHOLE)
def test_an_openai_answer_is_the_fmaas_answer(name: str) -> None:
    """The recorded REST answer, given to the recorded fmaas client, is the recorded fmaas answer."""
    pair = PAIRS[name]
    exchange = {"request": pair["fmaas"]["request"], "reply": pair["openai"]["reply"]}
    (got,) = answered(translate_reply("tgis/grpc", "openai/rest", exchange))
    (recorded,) = answered(pair["fmaas"]["reply"])
    assert (got.text, got.stop_reason) == (recorded.text, recorded.stop_reason)
    assert got.generated_token_count == recorded.generated_token_count
    assert got.input_token_count == recorded.input_token_count
    assert got.seed == recorded.seed
    if name == "stop_sequence":
        assert got.stop_sequence == recorded.stop_sequence


@pytest.mark.parametrize("name", STREAMS)
def test_an_fmaas_stream_is_the_openai_stream(name: str) -> None:
    """The recorded fmaas stream becomes REST events with the same text, one reason at the end and no usage unasked."""
    pair = PAIRS[name]
    exchange = {"request": pair["openai"]["request"], "reply": pair["fmaas"]["reply"]}
    made = chunks(translate_reply("openai/rest", "vllm-nvidia/grpc", exchange))
    recorded = chunks(pair["openai"]["reply"])
    assert text_of(made) == text_of(recorded)
    assert [choice["finish_reason"] for event in made for choice in event["choices"] if choice["finish_reason"]] == [
        "stop"
    ]
    assert made[-1]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in event for event in made)
    assert len({event["id"] for event in made}) == 1


def test_usage_is_told_when_asked_for() -> None:
    """A client that asks for usage gets one more event, without choices, with the counts of the whole call."""
    pair = PAIRS["stream_with_usage"]
    exchange = {"request": pair["openai"]["request"], "reply": pair["fmaas"]["reply"]}
    last = chunks(translate_reply("openai/rest", "vllm-nvidia/grpc", exchange))[-1]
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}


def test_an_openai_stream_with_counts_is_the_fmaas_stream() -> None:
    """vLLM's stream with usage in each event becomes fmaas messages: the input's count, rising counts, a reason."""
    pair = PAIRS["stream_with_counts"]
    exchange = {"request": pair["fmaas"]["request"], "reply": pair["openai"]["reply"]}
    first, *rest = answered(translate_reply("tgis/grpc", "openai/rest", exchange))
    assert (first.input_token_count, first.generated_token_count, first.text) == (4, 0, "")
    counts = [message.generated_token_count for message in rest]
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert [message.stop_reason for message in rest if message.stop_reason] == [6]
    assert "".join(message.text for message in rest) == text_of(chunks(pair["openai"]["reply"]))


def test_a_refusal_keeps_its_kind_both_ways() -> None:
    """What one door refuses is refused at the other with the same meaning, and never looks like an answer."""
    pair = PAIRS["stream_refused"]
    exchange = {"request": pair["openai"]["request"], "reply": pair["fmaas"]["reply"]}
    made = translate_reply("openai/rest", "vllm-nvidia/grpc", exchange)
    assert made["status"] == 400
    assert json.loads(made["body"])["error"]["type"] == "BadRequestError"
    request = PAIRS["stream"]["fmaas"]["request"]
    refused = translate_reply("tgis/grpc", "openai/rest", {"request": request, "reply": pair["openai"]["reply"]})
    assert refused["code"] == 3
    assert refused["details"] == json.loads(pair["openai"]["reply"]["body"])["error"]["message"]


def test_a_batch_becomes_calls_and_one_answer() -> None:
    """Texts of an fmaas batch go to vLLM one by one, so that each has its counts; answers come back in order."""
    message = wire.BatchedGenerationRequest(
        model_id="m", requests=[wire.GenerationRequest(text=text) for text in ("a", "b")]
    )
    data = b"".join(map(bytes, wire.encode_BatchedGenerationRequest(message)))
    request = {"rpc": "/fmaas.GenerationService/Generate", "messages_base64": [base64.b64encode(data).decode()]}
    calls = translate_call("tgis/grpc", "openai/rest", request)["calls"]
    assert [json.loads(call["body"])["prompt"] for call in calls] == ["a", "b"]
    replies = [_completion(text, number) for number, text in enumerate(("one", "two"), 1)]
    made = translate_reply("tgis/grpc", "openai/rest", {"request": request, "replies": replies})
    got = answered(made)
    assert [(each.text, each.generated_token_count, each.input_token_count) for each in got] == [
        ("one", 1, 2),
        ("two", 2, 2),
    ]


def _completion(text: str, count: int) -> dict[str, Any]:
    choice = {"index": 0, "text": text, "finish_reason": "stop", "stop_reason": None}
    usage = {"prompt_tokens": 2, "completion_tokens": count, "total_tokens": count + 2}
    body = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return {"status": 200, "headers": [["content-type", "application/json"]], "body": json.dumps(body)}


LOST = {
    "logit_bias": ("completions", {"logit_bias": {"5": 1}}),
    "n": ("completions", {"n": 2, "seed": 1}),
    "suffix": ("completions", {"suffix": "x"}),
    "tools": ("chat/completions", {"tools": [{"type": "function"}]}),
    "min_p": ("completions", {"min_p": 0.5}),
}


@pytest.mark.parametrize("field", [name for name in LOST if name != "tools"])
def test_what_fmaas_cannot_say_is_refused_by_name(field: str) -> None:
    """A field without a counterpart is an error that names it, in OpenAI's words."""
    path, extra = LOST[field]
    body = {"model": "m", "prompt": "a", **extra}
    made = translate_call("openai/rest", "vllm-nvidia/grpc", _post(f"/v1/{path}", body))
    error = json.loads(made["error"]["body"])["error"]
    assert made["error"]["status"] == 400
    assert error["message"].startswith(f"{field}:")


@pytest.mark.parametrize("extra", [{"min_p": 0}, {"n": 1}, {"presence_penalty": 0.0}, {"user": "me"}])
def test_what_means_nothing_is_no_loss(extra: dict[str, Any]) -> None:
    """A field that is set to "no effect", or shapes no answer, needs no counterpart."""
    made = translate_call(
        "openai/rest", "vllm-nvidia/grpc", _post("/v1/completions", {"model": "m", "prompt": "a", **extra})
    )
    assert "error" not in made


def test_a_chat_without_a_template_says_what_to_configure() -> None:
    """A chat to a runtime of prompts needs the model's template."""
    made = translate_call(
        "openai/rest",
        "vllm-nvidia/grpc",
        _post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
    )
    assert made["error"]["status"] == 400
    assert "chat_template" in made["error"]["body"]


def _post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"method": "POST", "path": path, "headers": [], "body": json.dumps(body)}


@pytest.mark.parametrize("said", [{"role": "assistant"}, {"finish_reason": "eos_token"}])
def test_every_chat_event_has_a_delta_with_text(said: dict[str, Any]) -> None:
    """The first and last event of a chat have an empty text, as vLLM's: clients read `delta` without asking for it."""
    context = Context(RuntimeProfile(name="vllm", api="openai"), setting=Setting(operations=operations))
    event = json.loads(bytes(chat_rest_encode_message(operations.GenerateMessage(**said), context)))
    assert event["choices"][0]["delta"]["content"] == ""
