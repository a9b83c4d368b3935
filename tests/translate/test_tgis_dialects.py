"""Clients and runtimes of all three dialects of TGIS' proto: numbers agree, so what differs is what one cannot say.

* `temperature` has presence in the newest alone: a client of the others cannot say 0 beside SAMPLE (it is unset: 1.0).
* IBM's has no adapter and no guided decoding. Its server skips both and answers without them, so they are refused
  for the runtime `tgis` by name; the vLLM adapter runs with the `vllm-*` runtimes, which take them.
* IBM's stream tells the input's tokens in a second message, and the seed in the first and in the last.
"""

import base64
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

from inferbridge.translate import translate_call, translate_reply
from translate.generation import LOSSY, openai
from translate.tgis_dialects import DIALECTS, make, read

RUNTIMES = ("openai/rest", "caikit/rest", "caikit/grpc", "triton-generate/rest", "tgis/grpc")
TGIS = "tgis/grpc"
GENERATE, STREAM = "/fmaas.GenerationService/Generate", "/fmaas.GenerationService/GenerateStream"
STOPPING = {"maxNewTokens": 7, "minNewTokens": 2, "stopSequences": ["x"], "includeStopSequence": False}
PARAMETERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "greedy": {"stopping": STOPPING, "decoding": {"repetitionPenalty": 1.5}, "truncateInputTokens": 5},
    "sampling": {"method": "SAMPLE", "sampling": {"temperature": 0.5, "topK": 3, "topP": 0.75, "seed": "5"}},
    "sampling_only": {"method": "SAMPLE", "sampling": {}},
    "tokens": {"response": {"generatedTokens": True, "tokenLogprobs": True, "inputText": True}},
}
REFUSED = {"greedy": "truncate_tokens", "tokens": "return_tokens"}
"""What Triton's generate endpoint has no place for."""
GUIDED: dict[str, dict[str, Any]] = {
    "guided_json_object": {"format": "JSON"},
    "guided_json": {"jsonSchema": '{"type": "object"}'},
    "guided_regex": {"regex": "a+"},
    "guided_choice": {"choice": {"choices": ["a", "b"]}},
    "guided_grammar": {"grammar": "root ::= a"},
}
STRUCTURED: dict[str, Any] = {
    "guided_json_object": {"json_object": True},
    "guided_json": {"json": {"type": "object"}},
    "guided_regex": {"regex": "a+"},
    "guided_choice": {"choice": ["a", "b"]},
    "guided_grammar": {"grammar": "root ::= a"},
}
dialects = pytest.mark.parametrize("dialect", DIALECTS)
runtimes = pytest.mark.parametrize("runtime", RUNTIMES)


def call(dialect: str, rpc: str = GENERATE, **fields: Any) -> dict[str, Any]:
    """A call of a client with a dialect's stubs."""
    text = {"requests": [{"text": "a"}]} if rpc == GENERATE else {"request": {"text": "a"}}
    name = "BatchedGenerationRequest" if rpc == GENERATE else "SingleGenerationRequest"
    return form(rpc, make(dialect, name, modelId="m", **text, **fields).SerializeToString())


def form(rpc: str, *messages: bytes) -> dict[str, Any]:
    """A gRPC call or answer of these messages."""
    return {"rpc": rpc, "metadata": [], "messages_base64": [base64.b64encode(each).decode() for each in messages]}


def ok(*messages: bytes) -> dict[str, Any]:
    """A gRPC answer that ended well."""
    return {"code": 0, "details": "", "messages_base64": form("", *messages)["messages_base64"]}


@dialects
@runtimes
@pytest.mark.parametrize("rpc", [GENERATE, STREAM])
@pytest.mark.parametrize("name", PARAMETERS)
def test_every_dialect_asks_every_runtime_for_the_same(dialect: str, runtime: str, rpc: str, name: str) -> None:
    """What all three dialects can say is the same call, or the same refusal, at each kind of runtime."""
    made = translate_call("tgis/grpc", runtime, call(dialect, rpc, params=PARAMETERS[name]))
    assert made == translate_call("tgis/grpc", runtime, call("adapter", rpc, params=PARAMETERS[name]))
    refused = REFUSED.get(name, "") if runtime == "triton-generate/rest" else ""
    assert made.get("error", {}).get("details", "").partition(":")[0] == refused


@dialects
@pytest.mark.parametrize(("said", "expected"), [(None, 1.0), (0.0, 0.0), (0.25, 0.25)], ids=["unset", "zero", "some"])
def test_only_the_newest_can_say_a_temperature_of_zero(dialect: str, said: float | None, expected: float) -> None:
    """Beside SAMPLE an older client's 0 is not on the wire: that is fmaas' default of 1.0, as at fmaas' own servers."""
    sampling = {} if said is None else {"temperature": said}
    asked = call(dialect, params={"method": "SAMPLE", "sampling": sampling})
    body = json.loads(translate_call("tgis/grpc", "openai/rest", asked)["body"])
    assert body["temperature"] == (1.0 if said == 0 and dialect != "adapter" else expected)
    caikit = json.loads(translate_call("tgis/grpc", "caikit/rest", asked)["body"])["parameters"]
    greedy = dialect == "adapter" and said == 0
    assert caikit["decoding_method"] == ("GREEDY" if greedy else "SAMPLING")


@pytest.mark.parametrize("field", GUIDED)
@pytest.mark.parametrize("dialect", ["caikit", "adapter"])
def test_guided_decoding_of_either_newer_dialect_reaches_vllm(dialect: str, field: str) -> None:
    """All five forms; each is refused by name where a runtime has none of it."""
    asked = call(dialect, params={"decoding": GUIDED[field]})
    body = json.loads(translate_call("tgis/grpc", "openai/rest", asked)["body"])
    assert body["structured_outputs"] == STRUCTURED[field]
    for runtime in ("caikit/rest", "caikit/grpc", "triton-generate/rest"):
        assert translate_call("tgis/grpc", runtime, asked)["error"]["details"].startswith(f"{field}:")


@dialects
@pytest.mark.parametrize("field", ["prefixId", "adapterId"])
def test_an_adapter_is_a_model_at_vllm_and_refused_elsewhere(dialect: str, field: str) -> None:
    """Also by its older name, which is the only one in IBM's dialect; never does the base model answer for it."""
    if dialect == "ibm" and field == "adapterId":
        assert "adapter_id" not in make(dialect, "BatchedGenerationRequest").DESCRIPTOR.fields_by_name
        return
    for rpc in (GENERATE, STREAM):
        asked = call(dialect, rpc, **{field: "tuned"})
        assert json.loads(translate_call("tgis/grpc", "openai/rest", asked)["body"])["model"] == "tuned"
        for runtime in ("caikit/rest", "caikit/grpc", "triton-generate/rest"):
            assert translate_call("tgis/grpc", runtime, asked)["error"]["details"].startswith("adapter:")


@pytest.mark.parametrize("field", STRUCTURED)
@pytest.mark.parametrize("stream", [False, True])
def test_ibms_server_is_never_asked_for_what_it_would_skip(field: str, stream: bool) -> None:
    """Guided decoding is refused by name for `tgis`, or dropped and named where losses are allowed; the vLLM adapter
    takes it."""
    asked = openai(structured_outputs=STRUCTURED[field], stream=stream)
    made = translate_call("openai/rest", "vllm-nvidia/grpc", asked)
    assert read("adapter", _request(stream), _message(made)).params.decoding.WhichOneof("guided")
    refused = translate_call("openai/rest", TGIS, asked)["error"]
    assert refused["status"] == 400
    assert json.loads(refused["body"])["error"]["message"] == f"{field}: tgis has no place for it"
    dropped = _message(translate_call("openai/rest", TGIS, asked, LOSSY))
    assert not UnknownFieldSet(read("ibm", _request(stream), dropped).params.decoding)
    reply = ok(make("ibm", "BatchedGenerationResponse", responses=[{"text": "b"}]).SerializeToString())
    if not stream:
        told = translate_reply("openai/rest", TGIS, {"request": asked, "reply": reply}, LOSSY)
        assert ["x-inferbridge-lost", field] in [list(pair) for pair in told["headers"]]


@dialects
def test_every_client_reads_every_answer(dialect: str) -> None:
    """What any runtime answers holds no field that a client's dialect lacks."""
    answer = {"index": 0, "text": "b", "finish_reason": "stop", "stop_reason": None}
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    body = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [answer], "usage": usage}
    reply = {"status": 200, "headers": [["content-type", "application/json"]], "body": json.dumps(body)}
    made = translate_reply("tgis/grpc", "openai/rest", {"request": call(dialect), "reply": reply})
    message = read(dialect, "BatchedGenerationResponse", _message(made))
    assert MessageToDict(message)["responses"] == [
        {"inputTokenCount": 2, "generatedTokenCount": 1, "text": "b", "stopReason": "EOS_TOKEN"}
    ]
    assert not UnknownFieldSet(message.responses[0])


@pytest.mark.parametrize("rpc", [GENERATE, STREAM])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("where", ["request", "params"])
def test_a_field_of_a_newer_dialect_is_refused(rpc: str, runtime: str, where: str) -> None:
    """Field 99, which no dialect has: refused by its number, or dropped and named, at any kind of runtime."""
    extra = b"\x9a\x06\x01z"
    tail = extra if where == "request" else b"\x52\x04" + extra  # params is field 10, and comes for the second time
    asked = call("adapter", rpc)
    asked = form(rpc, base64.b64decode(asked["messages_base64"][0]) + tail)
    error = translate_call("tgis/grpc", runtime, asked)["error"]
    assert (error["code"], "field 99" in error["details"]) == (3, True)
    assert "error" not in translate_call("tgis/grpc", runtime, asked, LOSSY)


def test_ibms_stream_is_a_stream_to_every_client() -> None:
    """Its input's tokens come in a second message, and the seed twice: counts, tokens and reasons are told once."""
    token, prompt = {"text": "b", "logprob": -0.5}, {"text": "a"}
    reply = ok(
        *(
            make("ibm", "GenerationResponse", **fields).SerializeToString()
            for fields in (
                {"inputTokenCount": 1, "seed": "9"},
                {"inputTokens": [prompt]},
                {"text": "b", "generatedTokenCount": 1, "tokens": [token]},
                {"text": "", "generatedTokenCount": 2, "stopReason": "EOS_TOKEN", "seed": "9"},
            )
        )
    )
    asked = openai(stream=True, echo=True, logprobs=0, stream_options={"include_usage": True})
    made = translate_reply("openai/rest", TGIS, {"request": asked, "reply": reply})
    events = [json.loads(each.removeprefix("data: ")) for each in made["body"].split("\n\n") if each[:7] == "data: {"]
    choices = [event["choices"][0] for event in events if event["choices"]]
    listed = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    assert [text for columns in listed for text in columns["tokens"]] == ["a", "b"]
    assert [choice["finish_reason"] for choice in choices][-1] == "stop"
    assert events[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    details = {"parameters": {"input_tokens": True, "generated_tokens": True, "token_logprobs": True}}
    body = json.dumps({"model_id": "m", "inputs": "a", **details})
    path = "/api/v1/task/server-streaming-text-generation"
    request = {"method": "POST", "path": path, "headers": [], "body": body}
    text = translate_reply("caikit/rest", TGIS, {"request": request, "reply": reply})["body"]
    pieces = [json.loads(each.partition("data: ")[2]) for each in text.split("\r\n\r\n") if each]
    assert [token["text"] for piece in pieces for token in piece["input_tokens"]] == ["a"]
    assert [token["text"] for piece in pieces for token in piece["tokens"]] == ["b"]
    assert [piece["details"]["input_token_count"] for piece in pieces if piece["details"]["input_token_count"]] == [1]
    assert pieces[-1]["details"] == {
        "finish_reason": "EOS_TOKEN", "generated_tokens": 2, "seed": 9, "input_token_count": 0,
    }  # fmt: skip


def _request(stream: bool) -> str:
    return "SingleGenerationRequest" if stream else "BatchedGenerationRequest"


def _message(made: dict[str, Any]) -> bytes:
    return base64.b64decode(made["messages_base64"][0])
