"""Chats of OpenAI clients to runtimes of prompts: recorded requests of vLLM's clients, and answers in chat form."""

import base64
import json
from typing import Any

import pytest

from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Policy
from inferbridge.translate import Translator
from inferbridge_generated.tgis import wire as fmaas
from translate.generation import openai, packed
from translate.test_goldens_doors import VLLM

TEMPLATE = ChatTemplate(
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<|bot|>{% endif %}"
)
TO_FMAAS = Translator("openai/rest", "vllm-nvidia/grpc", chat_template=TEMPLATE)
CHATS = [name for name in VLLM if name.startswith(("chat/", "engine_death/chat"))]
REFUSED = {
    "chat/n2": "n:", "chat/stream_n2": "n:", "chat/tool_named": "tools:", "chat/stream_tool_named": "tools:",
    "chat/echo_last": "echo:", "chat/logprobs_utf8_split": "continue_final_message:",
    "chat/stream_utf8_split": "continue_final_message:",
    "chat/empty_messages": "messages", "chat/missing_messages": "messages", "chat/error_image_part": "messages",
    "engine_death/chat_stream": "ignore_eos:",
}  # fmt: skip


def asked(made: dict[str, Any]) -> tuple[str, Any]:
    """Prompt and parameters of the fmaas request that a chat became."""
    data = base64.b64decode(made["messages_base64"][0])
    if made["rpc"].endswith("GenerateStream"):
        single = fmaas.decode_SingleGenerationRequest(data, [])
        assert single.request is not None
        return single.request.text, single.params
    batch = fmaas.decode_BatchedGenerationRequest(data, [])
    (item,) = batch.requests
    return item.text, batch.params


@pytest.mark.parametrize("name", CHATS)
def test_a_recorded_chat_becomes_a_prompt_or_is_refused_by_name(name: str) -> None:
    """The prompt is what the model's template makes of the messages, limits and stop strings are the chat's."""
    request = VLLM[name]["request"]
    made = TO_FMAAS.call(request)
    if name in REFUSED:
        assert made["error"]["status"] == 400
        assert json.loads(made["error"]["body"])["error"]["message"].startswith(REFUSED[name])
        return
    body = json.loads(request["body"])
    text, params = asked(made)
    texts = [
        content if isinstance(content := message["content"], str) else "\n".join(part["text"] for part in content)
        for message in body["messages"]
    ]
    roles = [message["role"] for message in body["messages"]]
    assert text == "".join(f"<|{role}|>{said}" for role, said in zip(roles, texts, strict=True)) + "<|bot|>"
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    assert params.stopping.max_new_tokens == limit
    assert params.stopping.stop_sequences == (
        [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop", [])
    )
    assert params.stopping.include_stop_sequence is False
    assert params.method == (0 if body.get("temperature") == 0 else 1)


TOKEN = fmaas.TokenInfo(
    text="x", logprob=-0.5, rank=2,
    top_tokens=[fmaas.TokenInfo_TopToken(text="y", logprob=-0.25), fmaas.TokenInfo_TopToken(text="x", logprob=-0.5)],
)  # fmt: skip


def test_a_chat_gets_a_message() -> None:
    """Role, text, reason and usage stand where chat clients look for them."""
    call = openai("chat/completions", n=2)
    each = fmaas.GenerationResponse(text="hi", input_token_count=4, generated_token_count=2, stop_reason=2)
    data = fmaas.encode_BatchedGenerationResponse(fmaas.BatchedGenerationResponse(responses=[each, each]))
    made = TO_FMAAS.reply({"request": call, "reply": {"code": 0, "messages_base64": packed(data)}})
    got = json.loads(made["body"])
    assert (got["object"], got["id"][:9]) == ("chat.completion", "chatcmpl-")
    assert [choice["message"]["content"] for choice in got["choices"]] == ["hi", "hi"]
    assert {choice["message"]["role"] for choice in got["choices"]} == {"assistant"}
    assert got["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


@pytest.mark.parametrize(("top", "expected"), [(None, []), (1, ["y"]), (2, ["y", "x"])])
def test_tokens_of_a_chat(top: int | None, expected: list[str]) -> None:
    """Each generated token with as many of the likeliest as asked for; bytes of a piece are not known."""
    call = openai("chat/completions", logprobs=True, **({} if top is None else {"top_logprobs": top}))
    _, params = asked(TO_FMAAS.call(call))
    assert (params.response.generated_tokens, params.response.top_n_tokens) == (True, top or 0)
    each = fmaas.GenerationResponse(text="x", stop_reason=1, tokens=[TOKEN])
    data = fmaas.encode_BatchedGenerationResponse(fmaas.BatchedGenerationResponse(responses=[each]))
    made = TO_FMAAS.reply({"request": call, "reply": {"code": 0, "messages_base64": packed(data)}})
    (token,) = json.loads(made["body"])["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("x", -0.5, None)
    assert [other["token"] for other in token["top_logprobs"]] == expected


def test_alternatives_without_logprobs_are_refused() -> None:
    """As vLLM refuses them."""
    made = TO_FMAAS.call(openai("chat/completions", top_logprobs=2))
    assert json.loads(made["error"]["body"])["error"]["message"].startswith("top_logprobs:")


def test_a_chat_stream_begins_with_the_role() -> None:
    """First whose turn it is, then the pieces with their tokens, the reason in the last, usage when asked for."""
    call = openai("chat/completions", stream=True, logprobs=True, stream_options={"include_usage": True})
    messages = (
        fmaas.GenerationResponse(input_token_count=4),
        fmaas.GenerationResponse(text="x", generated_token_count=1, tokens=[TOKEN]),
        fmaas.GenerationResponse(generated_token_count=2, stop_reason=2, stop_sequence="</s>"),
    )
    data = [packed(fmaas.encode_GenerationResponse(message))[0] for message in messages]
    made = TO_FMAAS.reply({"request": call, "reply": {"code": 0, "messages_base64": data}})
    *events, done = made["body"].strip().split("\n\n")
    role, text, end, usage = [json.loads(event.removeprefix("data: ")) for event in events]
    assert done == "data: [DONE]"
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert (text["choices"][0]["delta"], text["choices"][0]["finish_reason"]) == ({"content": "x"}, None)
    assert text["choices"][0]["logprobs"]["content"][0]["token"] == "x"
    assert (end["choices"][0]["finish_reason"], end["choices"][0]["stop_reason"]) == ("stop", None)
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 6)
    assert {event["object"] for event in (role, text, end, usage)} == {"chat.completion.chunk"}


def test_losses_of_a_chat_may_be_allowed() -> None:
    """With `lossy: allow` what cannot be carried is left out, and named in the answer."""
    lossy = Translator("openai/rest", "vllm-nvidia/grpc", Policy(lossy=True), TEMPLATE)
    call = openai("chat/completions", presence_penalty=0.5, reasoning_effort="low")
    each = fmaas.GenerationResponse(text="x", stop_reason=1)
    data = fmaas.encode_BatchedGenerationResponse(fmaas.BatchedGenerationResponse(responses=[each]))
    made = lossy.reply({"request": call, "reply": {"code": 0, "messages_base64": packed(data)}})
    assert dict(made["headers"])["x-inferbridge-lost"] == "reasoning_effort, presence_penalty"
