"""Hidden fields: on both sides, under every name, and never by half."""

import json
from typing import Any

import msgspec
import pytest

from capture.calls import Captured
from capture.test_capturing import JSON, PATH, streaming
from gateway.test_recording import failing_with
from gateway.test_service import GRPC, INFER, Runtime, infer_reply
from gateway.test_translating import OK
from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.places import place, rule_of
from inferbridge.capture.redaction import Part, Redaction, scrubber
from inferbridge.capture.settings import CaptureSettings, Fields
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.tgis import wire

SECRET = "my secret prompt"
TEXTS = "choices[].text | responses[].text | text"


def generated(request: UpstreamRequest, receiver: Receiver) -> None:
    """A TGIS that answers at once, with what it was asked."""
    response = wire.GenerationResponse(
        input_token_count=2, text=f"re: {SECRET}", generated_token_count=3, stop_reason=2
    )
    receiver.on_head(200, GRPC)
    receiver.on_data(
        b"".join(frame([wire.encode_BatchedGenerationResponse(wire.BatchedGenerationResponse([response]))]))
    )
    receiver.on_end(OK)


async def captured(
    fields: Fields, path: str, body: dict[str, Any], runtime: Any = generated, headers: Headers = JSON, **more: Any
) -> CapturedLine:
    """The line of a call to TGIS."""
    gateway = Captured(CaptureSettings(sample=1.0, fields=fields, **more), Runtime(runtime), "tgis")
    gateway.call(path, json.dumps(body).encode(), headers)
    return await gateway.line()


COMPLETION = {"model": "m", "prompt": SECRET, "max_tokens": 5, "temperature": 0}
CHAT = {"model": "m", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 5, "temperature": 0}


@pytest.mark.parametrize("rule", ["prompt", "prompts", "requests[].text", "text_input"])
async def test_one_name_hides_a_field_on_both_sides(rule: str) -> None:
    """A field's name in the client's API, in the runtime's, in the operation or in any other API: it is hidden on
    either side, and the rest stays."""
    line = await captured(Fields(hide=(rule, TEXTS)), "/v1/completions", COMPLETION)
    assert line.client.request.value == {**COMPLETION, "prompt": "***"}
    asked = line.calls[0].request.value
    assert asked["requests"] == [{"text": "***"}]
    assert asked["params"]["stopping"]["max_new_tokens"] == 5
    assert line.client.reply.value["choices"][0]["text"] == "***"
    assert line.calls[0].reply.value["responses"][0]["text"] == "***"
    assert SECRET.encode() not in msgspec.json.encode(line)


async def test_what_was_made_of_a_hidden_field_is_withheld() -> None:
    """A chat that becomes a prompt: where no rule finds the prompt, that whole request is not written."""
    line = await captured(Fields(hide=("messages[].content",)), "/v1/chat/completions", CHAT)
    assert line.client.request.value["messages"] == [{"role": "user", "content": "***"}]
    asked = line.calls[0].request
    assert (asked.form, asked.value) == ("withheld", None)
    assert asked.size > 0
    assert "messages[].content" in (asked.note or "")


async def test_a_rule_may_have_several_names() -> None:
    """Names of one thing, joined, hide it on each side, and nothing is withheld."""
    rule = "messages[].content | requests[].text"
    line = await captured(Fields(hide=(rule,)), "/v1/chat/completions", CHAT)
    assert line.client.request.value["messages"][0]["content"] == "***"
    assert line.calls[0].request.value["requests"] == [{"text": "***"}]


async def test_what_was_hidden_is_hidden_where_it_is_quoted() -> None:
    """A runtime's answer and an error that repeat a hidden prompt show `***` in its place."""
    line = await captured(Fields(hide=("prompt",)), "/v1/completions", COMPLETION)
    assert line.calls[0].reply.value["responses"][0]["text"] == "re: ***"
    failing = failing_with(Code.UNAVAILABLE, f"no place for {SECRET}")
    line = await captured(Fields(hide=("prompt",)), "/v1/completions", COMPLETION, failing)
    assert SECRET.encode() not in msgspec.json.encode(line)
    assert line.error == "no place for ***" == line.calls[0].error


async def test_only_what_is_listed_is_kept() -> None:
    """An allow list holds on both sides, under the field's other names too; nothing else is written."""
    fields = Fields(only=("max_tokens", "model", "usage", "choices[].finish_reason", "responses[].stop_reason"))
    line = await captured(fields, "/v1/completions", COMPLETION)
    assert line.client.request.value == {"model": "m", "max_tokens": 5}
    assert line.calls[0].request.value == {"model_id": "m", "params": {"stopping": {"max_new_tokens": 5}}}
    assert line.client.reply.value["choices"] == [{"finish_reason": "stop"}]
    assert line.calls[0].reply.value == {"responses": [{"stop_reason": "EOS_TOKEN"}]}
    assert SECRET.encode() not in msgspec.json.encode(line)


async def test_streams_are_hidden_message_by_message() -> None:
    """A text that comes in pieces is hidden once, its tokens and its end are there."""
    line = await captured(Fields(hide=(TEXTS,)), "/v1/completions", {**COMPLETION, "stream": True}, streaming)
    assert line.client.reply.value["choices"] == [{"index": 0, "text": "***", "finish_reason": "stop"}]
    assert line.calls[0].reply.value["choices"][0]["text"] == "***"
    assert b"Hel" not in msgspec.json.encode(line)


@pytest.mark.parametrize("fields", [Fields(hide=("nothing",)), Fields(only=("model",))])
async def test_what_cannot_be_decoded_is_withheld_where_there_are_rules(fields: Fields) -> None:
    """A cut or broken body has no fields to hide: its size and the reason are all that is written."""
    line = await captured(fields, "/v1/completions", COMPLETION, max_bytes=40)
    asked = line.client.request
    assert (asked.form, asked.value, asked.truncated) == ("withheld", None, True)
    assert "40 of" in (asked.note or "")
    broken = Captured(CaptureSettings(sample=1.0, fields=fields), Runtime(generated), "tgis")
    broken.call("/v1/completions", f'{{"prompt": "{SECRET}'.encode(), JSON)
    assert SECRET.encode() not in msgspec.json.encode(await broken.line())


def test_a_side_is_withheld_when_the_other_cannot_be_read() -> None:
    """What was to be hidden on a side that cannot be read may stand on the other, so that is not shown either."""
    unread, read = Part("openai", [], "it is no JSON"), Part("tgis", [{"requests": [{"text": SECRET}]}])
    Redaction(Fields(hide=("messages[].content",))).redact(unread, [read], [])
    assert "cannot be read" in read.kept_out


async def test_tensors_are_hidden_in_all_their_forms() -> None:
    """V2's data, as JSON, as raw contents and behind the JSON, for inputs and outputs."""
    fields = Fields(hide=("inputs[].data", "outputs[].data"))
    gateway = Captured(CaptureSettings(sample=1.0, fields=fields), Runtime(infer_reply))
    gateway.call(PATH, INFER, JSON)
    skeleton = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}'
    headers = (*JSON, ("inference-header-content-length", str(len(skeleton))))
    gateway.call(PATH, skeleton + b"\0\0\x80?\0\0\0@", headers)
    plain, binary = await gateway.lines()
    assert plain.client.request.value["inputs"][0]["data"] == "***"
    assert plain.client.request.value["inputs"][0]["shape"] == [2]
    assert binary.client.request.value["$raw_inputs"] == "***"
    for line in (plain, binary):
        assert line.calls[0].request.value["raw_input_contents"] == "***"
        assert line.calls[0].request.value["inputs"][0]["shape"] == [2]
        assert line.calls[0].reply.value["raw_output_contents"] == "***"
        assert "1.0" not in json.dumps(line.client.reply.value)


async def test_what_a_path_says_is_nothing_that_was_not_found() -> None:
    """V2 names the model in the path, which is not written: hiding it for the runtime withholds nothing."""
    gateway = Captured(CaptureSettings(sample=1.0, fields=Fields(hide=("model",))), Runtime(infer_reply))
    gateway.call("/v2/models/secret-model/infer", INFER, JSON)
    line = await gateway.line()
    assert line.client.request.form == "json"
    assert line.calls[0].request.value["model_name"] == "***"
    assert b"secret-model" not in msgspec.json.encode(line)


def test_names_match_in_every_spelling() -> None:
    """Protobuf's JSON may be written either way, lists need no brackets, `*` is any member, a delta is a message."""
    assert place("generatedText") == place("generated_text")
    for rule, value in (
        ("a.b", {"a": [{"b": 1}, {"b": 2}]}),
        ("a[].b", {"A": {"b": 1}}),
        ("*.b", {"x": {"b": 1}, "y": {"b": [1]}}),
        ("choices[].message.content", {"choices": [{"delta": {"content": "x"}}]}),
    ):
        part = Part("", [value])
        Redaction(Fields(hide=(rule,))).redact(part, [], [])
        assert "1" not in json.dumps(part.values)
        assert "***" in json.dumps(part.values)


@pytest.mark.parametrize("text", ["", "a..b", "a b", "a[0]", "a|", "|", "a.[]", "x" + "|" * 3])
def test_what_is_no_place_is_refused(text: str) -> None:
    """A rule that could never match is an error when the configuration is read."""
    with pytest.raises(ValueError, match="places"):
        rule_of(text)


def test_short_texts_are_not_looked_for_elsewhere() -> None:
    """A hidden `a` does not make holes in every word, and the longest text goes first."""
    redaction, hidden = Redaction(Fields(hide=("p",))), list[str]()
    redaction.redact(Part("", [{"p": ["a", "long text", "long text and more"]}]), [], hidden)
    assert scrubber(hidden)(["a banana", "a long text and more", {"k": "long text"}]) == [
        "a banana", "a ***", {"k": "***"},
    ]  # fmt: skip
