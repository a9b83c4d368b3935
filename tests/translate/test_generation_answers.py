"""The semantics of text generation between OpenAI (vLLM), TGIS (fmaas) and caikit, line by line: answers."""

import json
from typing import Any

import pytest

from inferbridge.bridge.context import Policy
from inferbridge.translate import translate_reply
from inferbridge_generated.tgis import wire as fmaas
from translate.generation import (
    GENERATE,
    LOSSY,
    STREAM,
    caikit_call,
    completion,
    fmaas_answer,
    lost,
    openai,
    openai_answer,
    packed,
    refusal,
    response,
    stopping,
    stream_of,
    tgis,
    to_fmaas,
    to_vllm,
)

# tokens and probabilities

LISTED = {
    "tokens": [" w", "x"], "token_logprobs": [-0.5, -9999.0], "text_offset": [0, 2],
    "top_logprobs": [{" w": -0.5, "y": -1.0}, {"x": -9999.0, "a": -0.25, "b": -0.75}],
}  # fmt: skip


@pytest.mark.parametrize(("top", "expected"), [(0, 0), (3, 3)])
def test_lists_of_tokens_are_asked_for_as_logprobs(top: int, expected: int) -> None:
    """`logprobs: n` lists the tokens and n alternatives; n is 0 where fmaas asks for none."""
    body = to_vllm(tgis(**response(generated_tokens=True, token_logprobs=True, top_n_tokens=top)))
    assert (body["logprobs"], body.get("echo")) == (expected, None)
    assert to_vllm(caikit_call(generated_tokens=True), "caikit/rest")["logprobs"] == 0
    assert "logprobs" not in to_vllm(tgis())


def test_the_prompts_tokens_come_with_its_echo() -> None:
    """vLLM lists them with `echo` alone; the client gets the text it asked for, and the tokens apart."""
    call = tgis(**response(input_tokens=True, generated_tokens=True, token_logprobs=True))
    body = to_vllm(call)
    assert (body["echo"], body["logprobs"]) == (True, 0)
    listed = {
        "tokens": ["<s>", "a", "b"], "token_logprobs": [None, -0.5, -0.25], "text_offset": [0, 3, 4],
        "top_logprobs": [None, {"a": -0.5}, {"b": -0.25}],
    }  # fmt: skip
    got = fmaas_answer(call, completion("ab", logprobs=listed, prompt_logprobs=[None, {}]))
    assert got.text == "b"
    assert [(token.text, token.logprob) for token in got.input_tokens] == [("<s>", 0.0), ("a", -0.5)]
    assert [(token.text, token.logprob) for token in got.tokens] == [("b", -0.25)]


def test_alternatives_are_as_many_as_asked_for() -> None:
    """vLLM adds the token itself to the n likeliest; fmaas lists exactly those, the likeliest first."""
    call = tgis(**response(generated_tokens=True, token_logprobs=True, top_n_tokens=2))
    got = fmaas_answer(call, completion(" wx", logprobs=LISTED))
    assert [[other.text for other in token.top_tokens] for token in got.tokens] == [[" w", "y"], ["a", "b"]]
    assert [token.logprob for token in got.tokens] == [-0.5, -9999.0]


def test_tokens_without_probabilities() -> None:
    """Where only texts were asked for, probabilities are left at 0, as fmaas does it."""
    call = tgis(**response(generated_tokens=True, top_n_tokens=1))
    got = fmaas_answer(call, completion(" wx", logprobs=LISTED))
    assert [(token.text, token.logprob) for token in got.tokens] == [(" w", 0.0), ("x", 0.0)]
    assert [(other.text, other.logprob) for other in got.tokens[0].top_tokens] == [(" w", 0.0)]


def test_the_form_of_token_texts_is_a_named_loss() -> None:
    """Pieces of the vocabulary are no decoded text: the answer says so, even where losses are errors."""
    call = tgis(**response(generated_tokens=True, token_logprobs=True))
    made = translate_reply("tgis/grpc", "openai/rest", {"request": call, "reply": completion(" wx", logprobs=LISTED)})
    assert (made["code"], lost(made)) == (0, "tokens[].text")
    call = openai(logprobs=0)
    token = fmaas.TokenInfo(text="Ġw", logprob=-0.5)
    data = fmaas.encode_BatchedGenerationResponse(
        fmaas.BatchedGenerationResponse(responses=[fmaas.GenerationResponse(text=" w", stop_reason=2, tokens=[token])])
    )
    reply = {"code": 0, "messages_base64": packed(data)}
    made = translate_reply("openai/rest", "tgis/grpc", {"request": call, "reply": reply})
    assert (made["status"], lost(made)) == (200, "tokens[].text")


@pytest.mark.parametrize("stream", [False, True])
def test_ranks_of_generated_tokens_are_refused(stream: bool) -> None:
    """vLLM does not tell them; those of the prompt it does, in a whole answer."""
    rpc = STREAM if stream else GENERATE
    call = tgis(rpc, **response(generated_tokens=True, token_ranks=True))
    assert refusal("tgis/grpc", "openai/rest", call).startswith("return_ranks:")
    call = tgis(rpc, **response(input_tokens=True, token_ranks=True, token_logprobs=True))
    if stream:
        assert refusal("tgis/grpc", "openai/rest", call).startswith("return_ranks:")
        return
    listed = {
        "tokens": ["<s>", "a", "b"], "token_logprobs": [None, -0.5, -0.25], "text_offset": [0, 3, 4],
        "top_logprobs": [None, {"a": -0.5}, {"b": -0.25}],
    }  # fmt: skip
    ranks = [None, {"7": {"logprob": -0.5, "rank": 11}, "3": {"logprob": -0.1, "rank": 1}}]
    got = fmaas_answer(call, completion("ab", logprobs=listed, prompt_logprobs=ranks), Policy())
    assert [token.rank for token in got.input_tokens] == [0, 11]


@pytest.mark.parametrize("detail", [{"token_logprobs": True}, {"token_ranks": True}])
def test_details_need_a_list_of_tokens(detail: dict[str, Any]) -> None:
    """In fmaas' own words, for its clients and caikit's."""
    told = "must request input and/or generated tokens to request extra token detail"
    assert refusal("tgis/grpc", "openai/rest", tgis(**response(**detail))) == told
    assert refusal("caikit/rest", "openai/rest", caikit_call(**detail)) == told


def test_columns_of_completions() -> None:
    """The token itself stands among its alternatives, minus infinity is -9999.0, offsets count characters."""
    call = openai(logprobs=1)
    asked = to_fmaas(call).response
    assert (asked.generated_tokens, asked.token_logprobs, asked.top_n_tokens) == (True, True, 1)
    assert not asked.input_tokens
    got = openai_answer(call, fmaas.GenerationResponse(text="xz", stop_reason=2, tokens=tokens()))
    assert got["choices"][0]["logprobs"] == {
        "text_offset": [0, 1],
        "token_logprobs": [-0.5, -9999.0],
        "tokens": ["x", "z"],
        "top_logprobs": [{"x": -0.5, "y": -0.25}, {"z": -9999.0}],
    }


def tokens() -> list[fmaas.TokenInfo]:
    """Two tokens, the first with an alternative."""
    likely = fmaas.TokenInfo_TopToken(text="y", logprob=-0.25)
    return [
        fmaas.TokenInfo(text="x", logprob=-0.5, rank=1, top_tokens=[likely]),
        fmaas.TokenInfo(text="z", logprob=float("-inf")),
    ]


def test_echo_with_logprobs_lists_the_prompt() -> None:
    """The prompt's tokens come first, the first of all without a probability."""
    call = openai(logprobs=0, echo=True)
    assert to_fmaas(call).response.input_tokens is True
    inputs = [fmaas.TokenInfo(text="<s>"), fmaas.TokenInfo(text="a", logprob=-1.0)]
    response_ = fmaas.GenerationResponse(text="ax", stop_reason=2, input_tokens=inputs, tokens=tokens()[:1])
    listed = openai_answer(call, response_)["choices"][0]["logprobs"]
    assert (listed["tokens"], listed["token_logprobs"]) == (["<s>", "a", "x"], [None, -1.0, -0.5])
    assert (listed["top_logprobs"], listed["text_offset"]) == ([None, {"a": -1.0}, {"x": -0.5}], [0, 3, 4])


# finish reasons and counts


@pytest.mark.parametrize(
    ("reason", "stop", "tokens", "limit", "expected"),
    [
        ("stop", None, 3, 5, 2), ("stop", "x", 3, 5, 5), ("stop", 375, 3, 5, 2), ("length", None, 5, 5, 1),
        ("length", None, 3, 5, 6), ("length", None, 3, 0, 6), ("abort", None, 3, 5, 3), ("repetition", None, 3, 5, 3),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_reasons_of_vllm(streamed: bool, reason: str, stop: Any, tokens: int, limit: int, expected: int) -> None:
    """A stop string tells a stop sequence from the end token, the count tells the client's limit from the server's."""
    call = tgis(STREAM if streamed else GENERATE, **stopping(max_new_tokens=limit))
    end = {"text": "b", "finish_reason": reason, "stop_reason": stop}
    if streamed:
        got = fmaas_answer(call, stream_of(*[{"text": "a"}] * (tokens - 1), end))[-1]
    else:
        got = fmaas_answer(call, completion("b", reason, stop_reason=stop, tokens=tokens))
    assert (got.stop_reason, got.stop_sequence) == (expected, stop if isinstance(stop, str) else "")
    assert got.generated_token_count == tokens


@pytest.mark.parametrize(
    ("reason", "sequence", "expected"),
    [
        (1, "", ("length", None)), (2, "</s>", ("stop", None)), (3, "", ("abort", None)), (4, "", ("length", None)),
        (5, "x", ("stop", "x")), (6, "", ("length", None)),
    ],
)  # fmt: skip
def test_reasons_of_fmaas(reason: int, sequence: str, expected: tuple[str, str | None]) -> None:
    """Limits of any kind are "length"; vLLM's stop_reason is a stop string alone, never the text of the end token."""
    got = openai_answer(openai(), fmaas.GenerationResponse(text="b", stop_reason=reason, stop_sequence=sequence))
    choice = got["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == expected


@pytest.mark.parametrize("text", ["logprobs", "token_ids", "prompt_token_ids"])
def test_what_vllm_tells_unasked_is_named(text: str) -> None:
    """A field of an answer that has no place is no reason to fail, and is not dropped in silence either."""
    call = tgis()
    known = {"tokens": [], "token_logprobs": [], "top_logprobs": []} if text == "logprobs" else [1]
    reply = completion("b", **{text: known})
    made = translate_reply("tgis/grpc", "openai/rest", {"request": call, "reply": reply})
    assert made["code"] == 0
    assert lost(made) == ("" if text == "logprobs" else text)


# errors

ENVELOPES = {
    "0.10.1 and later": {"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}},
    "0.10.0 and before": {"object": "error", "message": "no", "type": "BadRequestError", "param": None, "code": 400},
    "authentication": {"error": "no"},
    "FastAPI": {"detail": "no"},
}


@pytest.mark.parametrize("version", ENVELOPES)
@pytest.mark.parametrize(
    ("status", "code"), [(400, 3), (401, 16), (404, 5), (405, 12), (422, 3), (429, 8), (500, 13), (503, 14)]
)
def test_errors_of_any_vllm_are_read(status: int, code: int, version: str) -> None:
    """Whatever the envelope of a version, an fmaas client gets the status that it means and the message in it."""
    headers = [["content-type", "application/json"]]
    reply = {"status": status, "headers": headers, "body": json.dumps(ENVELOPES[version])}
    for call in (tgis(), tgis(STREAM)):
        made = translate_reply("tgis/grpc", "openai/rest", {"request": call, "reply": reply})
        assert (made["code"], made["details"], made["messages_base64"]) == (code, "no", [])


@pytest.mark.parametrize(
    ("code", "status"),
    [(1, 499), (2, 500), (3, 400), (4, 504), (5, 404), (7, 403), (8, 429), (12, 501), (13, 500), (14, 503), (16, 401)],
)
@pytest.mark.parametrize("stream", [False, True])
def test_statuses_of_fmaas_are_rest_errors(stream: bool, code: int, status: int) -> None:
    """Before the first message an error has its status, streamed or not, in the client's own form of errors."""
    reply = {"code": code, "details": "no", "messages_base64": []}
    made = translate_reply("openai/rest", "tgis/grpc", {"request": openai(stream=stream), "reply": reply})
    assert (made["status"], json.loads(made["body"])["error"]["code"]) == (status, status)
    assert json.loads(made["body"])["error"]["message"] == "no"
    made = translate_reply("caikit/rest", "tgis/grpc", {"request": caikit_call(stream=stream), "reply": reply})
    assert (made["status"], json.loads(made["body"])["details"]) == (status, "no")


# streams


def test_an_fmaas_stream_begins_with_the_input() -> None:
    """The input's count comes first and alone, counts rise, empty chunks say nothing, the reason comes last."""
    body = to_vllm(tgis(STREAM))
    assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
    first, *rest = fmaas_answer(tgis(STREAM), stream_of({"text": "a"}, {"text": ""}, {"finish_reason": "stop"}))
    assert (first.input_token_count, first.generated_token_count, first.text) == (2, 0, "")
    assert [(each.text, each.generated_token_count, each.stop_reason) for each in rest] == [("a", 1, 0), ("", 3, 2)]
    assert all(each.input_token_count == 0 for each in rest)


def test_an_fmaas_stream_of_a_vllm_without_counts() -> None:
    """An older vLLM without usage in each chunk still gives the texts, in the same order of messages."""
    first, *rest = fmaas_answer(tgis(STREAM), stream_of({"text": "a"}, {"finish_reason": "stop"}, usage=False))
    assert (first.text, first.input_token_count) == ("", 0)
    assert [(each.text, each.stop_reason) for each in rest] == [("a", 0), ("", 2)]


def test_an_echo_stands_in_the_first_message() -> None:
    """fmaas gives the input's text with its count; vLLM puts it before the first token."""
    call = tgis(STREAM, **response(input_text=True, input_tokens=True, generated_tokens=True, token_logprobs=True))
    listed = {
        "tokens": ["<s>", "a", "b"], "token_logprobs": [None, -0.5, -0.25], "text_offset": [0, 3, 4],
        "top_logprobs": [None, {"a": -0.5}, {"b": -0.25}],
    }  # fmt: skip
    more = {"tokens": ["c"], "token_logprobs": [-1.0], "text_offset": [2], "top_logprobs": [{"c": -1.0}]}
    chunks = ({"text": "ab", "logprobs": listed}, {"text": "c", "logprobs": more, "finish_reason": "stop"})
    first, *rest = fmaas_answer(call, stream_of(*chunks))
    assert (first.text, first.input_token_count, first.generated_token_count) == ("a", 2, 0)
    assert [token.text for token in first.input_tokens] == ["<s>", "a"]
    assert [(each.text, [token.text for token in each.tokens]) for each in rest] == [("b", ["b"]), ("c", ["c"])]


def test_prompt_tokens_without_the_echo() -> None:
    """Who asks for the prompt's tokens but not for its text does not get the text."""
    call = tgis(STREAM, **response(input_tokens=True))
    listed = {"tokens": ["<s>", "a", "b"], "token_logprobs": [None, -0.5, -0.25], "text_offset": [0, 3, 4],
              "top_logprobs": [None, {"a": -0.5}, {"b": -0.25}]}  # fmt: skip
    first, *rest = fmaas_answer(call, stream_of({"text": "ab", "logprobs": listed, "finish_reason": "stop"}))
    assert (first.text, [token.text for token in first.input_tokens]) == ("", ["<s>", "a"])
    assert [token.logprob for token in first.input_tokens] == [0.0, 0.0]
    assert [(each.text, each.tokens) for each in rest] == [("b", [])]


def events(call: dict[str, Any], runtime: str, *messages: fmaas.GenerationResponse) -> list[Any]:
    """The events that an OpenAI client gets of an fmaas stream; all but the mark of its end."""
    data = [packed(fmaas.encode_GenerationResponse(message))[0] for message in messages]
    made = translate_reply("openai/rest", runtime, {"request": call, "reply": {"code": 0, "messages_base64": data}})
    assert made["status"] == 200, made
    *found, done = made["body"].strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in found]


MESSAGES = (
    fmaas.GenerationResponse(input_token_count=2),
    fmaas.GenerationResponse(text="a", generated_token_count=1),
    fmaas.GenerationResponse(text="", generated_token_count=2),
    fmaas.GenerationResponse(text="b", generated_token_count=3, stop_reason=1),
)


@pytest.mark.parametrize(
    ("options", "in_chunks", "at_the_end"),
    [(None, False, False), ({"include_usage": True}, False, True),
     ({"include_usage": True, "continuous_usage_stats": True}, True, True)],
    ids=["unasked", "at the end", "in every chunk"],
)  # fmt: skip
def test_usage_of_a_stream_is_told_when_asked_for(options: Any, in_chunks: bool, at_the_end: bool) -> None:
    """Absent unasked; else in a chunk of its own without choices, or in every chunk so far as it got."""
    found = events(openai(stream=True, **({"stream_options": options} if options else {})), "tgis/grpc", *MESSAGES)
    chunks = [event for event in found if event["choices"]]
    assert [event["choices"][0]["text"] for event in chunks] == ["a", "b"]
    counts = [(event["usage"]["prompt_tokens"], event["usage"]["completion_tokens"]) for event in chunks if in_chunks]
    assert counts == ([(2, 1), (2, 3)] if in_chunks else [])
    assert in_chunks or not any("usage" in event for event in chunks)
    last = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert [event["usage"] for event in found if not event["choices"]] == ([last] if at_the_end else [])


def test_offsets_go_on_in_a_stream() -> None:
    """Each chunk's tokens stand where its text does."""
    messages = (
        fmaas.GenerationResponse(input_token_count=2),
        fmaas.GenerationResponse(text="ab", generated_token_count=1, tokens=[fmaas.TokenInfo(text="ab", logprob=-1.0)]),
        fmaas.GenerationResponse(text="c", generated_token_count=2, tokens=[fmaas.TokenInfo(text="c", logprob=-2.0)],
                                 stop_reason=1),
    )  # fmt: skip
    found = events(openai(stream=True, logprobs=0), "tgis/grpc", *messages)
    assert [event["choices"][0]["logprobs"]["text_offset"] for event in found] == [[0], [2]]
    assert [event["choices"][0]["logprobs"]["token_logprobs"] for event in found] == [[-1.0], [-2.0]]


def test_caikit_lists_tokens_with_numbers() -> None:
    """Where a probability is not known caikit says 0, never null."""
    call = caikit_call(generated_tokens=True)
    exchange = {"request": call, "reply": completion(" wx", logprobs=LISTED)}
    got = json.loads(translate_reply("caikit/rest", "openai/rest", exchange, LOSSY)["body"])
    assert got["tokens"] == [{"text": " w", "logprob": 0.0, "rank": 0}, {"text": "x", "logprob": 0.0, "rank": 0}]
    call = caikit_call(stream=True, generated_tokens=True, token_logprobs=True)
    reply = stream_of({"text": " wx", "logprobs": LISTED, "finish_reason": "stop"})
    made = translate_reply("caikit/rest", "openai/rest", {"request": call, "reply": reply})["body"]
    first, last = [json.loads(event.partition("data: ")[2]) for event in made.strip().split("\r\n\r\n")]
    assert (first["details"]["input_token_count"], first["tokens"]) == (2, [])
    assert [token["logprob"] for token in last["tokens"]] == [-0.5, -9999.0]
