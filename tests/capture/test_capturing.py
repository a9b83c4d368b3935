"""Which calls are captured, and what a line says of both sides."""

import json
from pathlib import Path

import msgspec
import pytest

from capture.calls import Captured
from gateway.test_recording import failing_with
from gateway.test_service import GRPC, INFER, INFER_RPC, Runtime, infer_reply, silent
from gateway.test_translating import OK, message
from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import frame
from inferbridge.capture import lines
from inferbridge.capture.lines import CapturedLine, schema
from inferbridge.capture.settings import CaptureSettings
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.open_inference import wire

PATH = "/v2/models/m/infer"
JSON = (("content-type", "application/json"),)
ALL = CaptureSettings(enabled=True, sample=1.0)


def streaming(request: UpstreamRequest, receiver: Receiver) -> None:
    """A TGIS that streams."""
    receiver.on_head(200, GRPC)
    for values in ({"input_token_count": 2}, {"text": "Hel", "generated_token_count": 1},
                   {"text": "lo", "generated_token_count": 2, "stop_reason": 2}):  # fmt: skip
        receiver.on_data(message(**values))
    receiver.on_end(OK)


def read(line: CapturedLine) -> CapturedLine:
    """The same after it was written and read by its schema."""
    text = msgspec.json.encode(line)
    assert b"\n" not in text
    return msgspec.json.decode(text, type=CapturedLine)


def test_the_published_schema_is_that_of_the_lines() -> None:
    """The file in the package says what the code writes; when they differ, this prints what it must say."""
    published = json.loads(Path(lines.__file__).with_name("capture.schema.json").read_text("utf-8"))
    assert published == schema(), json.dumps(schema(), indent=2)
    for part in published["$defs"].values():
        assert part["additionalProperties"] is False
        assert set(part["required"]) == set(part["properties"])


async def test_both_sides_of_a_translated_call_are_decoded() -> None:
    """The client's JSON and the runtime's protobuf stand there as JSON, each with its own names."""
    captured = Captured(ALL, Runtime(infer_reply))
    client = captured.call(PATH, INFER, JSON)
    line = read(await captured.line())
    (call,) = line.calls
    assert (line.reason, line.direction, line.model, line.status) == ("sample", "rest-grpc", "m", 200)
    assert (line.api, line.operation, line.runtime, line.error) == ("open-inference", "infer", "triton", None)
    assert (line.client.request.form, line.client.request.value) == ("json", json.loads(INFER))
    assert (line.client.reply.status, line.client.reply.value) == (200, json.loads(client.body))
    assert line.client.reply.size == len(client.body)
    assert (call.upstream, call.runtime, call.protocol) == ("triton", "triton", "grpc")
    assert call.request.form == "json"
    assert call.request.value["model_name"] == "m"
    assert call.request.value["raw_input_contents"] == ["AACAPwAAAEA="]
    assert call.reply.value["raw_output_contents"] == ["AACAPwAAAEA="]


async def test_streams_are_put_together_on_both_sides() -> None:
    """Text, why it ended, tokens and the number of messages, for events and for gRPC; all messages where wanted."""
    body = json.dumps({"model": "m", "prompt": "a", "temperature": 0, "stream": True}).encode()
    captured = Captured(CaptureSettings(sample=1.0, messages=True), Runtime(streaming), "tgis")
    captured.call("/v1/completions", body, JSON)
    line = read(await captured.line())
    told, said = line.calls[0].reply, line.client.reply
    assert (told.form, said.form) == ("stream", "stream")
    assert told.value["choices"] == [{"index": 0, "text": "Hello", "finish_reason": "EOS_TOKEN"}]
    assert (told.value["messages"], len(told.value["each"])) == (3, 3)
    assert told.value["usage"] == {"input_token_count": 2, "generated_token_count": 2}
    assert said.value["choices"] == [{"index": 0, "text": "Hello", "finish_reason": "stop"}]
    bare = Captured(ALL, Runtime(streaming), "tgis")
    bare.call("/v1/completions", body, JSON)
    assert "each" not in (await bare.line()).calls[0].reply.value


async def test_grpc_calls_that_pass_through_are_decoded() -> None:
    """A gRPC client of the same API: both sides say the same, in the names of the proto."""
    captured = Captured(ALL, Runtime(infer_reply))
    asked = wire.ModelInferRequest(model_name="m", id="7")
    captured.call(INFER_RPC, b"".join(frame([wire.encode_ModelInferRequest(asked)])), GRPC)
    line = read(await captured.line())
    assert line.client.request.value == {"model_name": "m", "id": "7"} == line.calls[0].request.value
    assert line.client.reply.value == line.calls[0].reply.value
    assert line.direction == "grpc-grpc"


async def test_calls_that_fail_are_always_captured() -> None:
    """A call outside of the sample is written when it fails, and the line says why; one that succeeds is not."""
    settings = CaptureSettings(sample=0.0)
    captured = Captured(settings, Runtime(failing_with(Code.UNAVAILABLE, "cannot connect")), chance=0.5)
    captured.call(PATH, INFER, JSON)
    line = read(await captured.line())
    assert (line.reason, line.status, line.flags) == ("error", 503, ("UC",))
    assert line.calls[0].error == "cannot connect"
    assert line.calls[0].reply.form == "none"
    captured = Captured(settings, Runtime(infer_reply), chance=0.5)
    captured.call(PATH, INFER, JSON)
    captured.call("/nothing", b"{}", JSON)
    assert [line.status for line in await captured.lines()] == [404]


async def test_the_sample_is_a_share_of_the_calls() -> None:
    """The chance of a call is compared with the share; without `errors` no other call has a transcript."""
    for chance, expected in ((0.24, 1), (0.25, 0)):
        captured = Captured(CaptureSettings(sample=0.25, errors=False), Runtime(infer_reply), chance=chance)
        client = captured.call(PATH, INFER, JSON)
        assert client.record is not None
        assert (client.record.transcript is not None) == bool(expected)
        assert len(await captured.lines()) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CaptureSettings(sample=1.0, models=("m", "n*")), 1),
        (CaptureSettings(sample=1.0, models=("n*",)), 0),
        (CaptureSettings(sample=1.0, operations=("infer",)), 1),
        (CaptureSettings(sample=1.0, operations=("gen*", "chat")), 0),
    ],
)
async def test_models_and_operations_narrow_it(settings: CaptureSettings, expected: int) -> None:
    """Only calls of matching models and operations are written."""
    captured = Captured(settings, Runtime(infer_reply))
    captured.call(PATH, INFER, JSON)
    assert len(await captured.lines()) == expected


async def test_long_messages_are_cut_and_say_so() -> None:
    """Of a message that is larger than it may be, the size is right and its beginning is there as text."""
    captured = Captured(CaptureSettings(sample=1.0, max_bytes=20), Runtime(infer_reply))
    captured.call(PATH, INFER, JSON)
    asked = read(await captured.line()).client.request
    assert (asked.truncated, asked.size, asked.form, asked.value) == (True, len(INFER), "text", INFER[:20].decode())
    assert asked.note == f"cut: 20 of {len(INFER)} bytes were kept"


async def test_what_cannot_be_decoded_is_text_or_bytes() -> None:
    """Broken JSON stands there as it was sent, other bytes in base64, with the reason."""
    captured = Captured(ALL, Runtime(infer_reply))
    captured.call(PATH, b'{"inputs', JSON)
    captured.call(PATH, b"\xff\xfe", JSON)
    text, octets = [read(line).client.request for line in await captured.lines()]
    assert (text.form, text.value, text.note) == ("text", '{"inputs', "it is no JSON")
    assert (octets.form, octets.value) == ("base64", "//4=")


async def test_memory_is_bounded_under_way_and_waiting() -> None:
    """Calls beyond the memory go on without a transcript; what was in the sample is counted, and room comes back."""
    settings = CaptureSettings(sample=1.0, max_bytes=100, memory=1000)
    captured = Captured(settings, Runtime(silent))
    clients = [captured.call(PATH, INFER, JSON) for _ in range(3)]
    assert [client.record.transcript is not None for client in clients if client.record] == [True, True, False]
    assert captured.counts.dropped == [("all", "memory")]
    captured = Captured(CaptureSettings(sample=1.0, max_bytes=100, memory=800), Runtime(infer_reply))
    for _ in range(3):
        captured.call(PATH, INFER, JSON)
    assert captured.counts.dropped
    kept = len(await captured.lines())
    captured.call(PATH, INFER, JSON)
    assert len(await captured.lines()) == kept + 1


async def test_a_line_that_cannot_be_made_is_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours costs the line, is logged and counted, and later calls are captured."""
    captured = Captured(ALL, Runtime(infer_reply))
    with monkeypatch.context() as broken:
        broken.setattr("inferbridge.capture.rendering.content_of", None)
        captured.call(PATH, INFER, JSON)
        await captured.capturer.drain()
    assert captured.counts.dropped == [("all", "internal")]
    assert caplog.messages == ["a call could not be captured"]
    captured.call(PATH, INFER, JSON)
    assert (await captured.line()).status == 200
