"""Streams and `generate` as a real Triton 2.51.0 and MLServer 1.7.1 answered them: `golden/streams/v2.json`.

The model `stream` answers `text_input` n times (3 unless told), numbered; `fail_at` says where it fails. `generate`
answers once, with the parameters that it got. MLServer was asked the same over both protocols, so each of its streams
is held against the other. Documented differences: MLServer's REST side makes ids of its own, adds CloudEvents headers
to the parameters of each message, and answers 500 where its gRPC side has a reason.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.open_inference import wire as triton
from inferbridge_generated.open_inference.mlserver import wire as mlserver

CASES = {
    (case["runtime"], case["name"]): case
    for case in json.loads((Path(__file__).parent.parent / "golden/streams/v2.json").read_text("utf-8"))
}
ASKED = {
    "method": "POST",
    "path": "/v2/models/stream/infer_stream",
    "headers": [],
    "body": '{"inputs":[{"name":"text_input","shape":[1],"datatype":"BYTES","data":["a"]}],"id":"s1"}',
}
SUCCESSFUL = [
    name for name, case in CASES.items()
    if "rpc" in case and case["code"] == 0 and case["requests_base64"] and "error" not in name[1]
]  # fmt: skip
GENERATED = [
    name for name, case in CASES.items()
    if "request" in case and name[1].startswith("generate_") and name[0] == "triton"
]  # fmt: skip


def grpc_reply(case: dict[str, Any]) -> dict[str, Any]:
    """The recorded answer as `translate` takes it."""
    return {"messages_base64": case["replies_base64"], "code": case["code"], "details": case["details"]}


def events(reply: dict[str, Any]) -> list[Any]:
    """The JSON of a stream's events."""
    return [json.loads(event.removeprefix("data: ")) for event in reply["body"].split("\n\n") if event]


def unwrapped(case: dict[str, Any]) -> list[triton.ModelInferResponse]:
    """The recorded messages, without Triton's envelope."""
    replies = [base64.b64decode(text) for text in case["replies_base64"]]
    if case["runtime"] == "mlserver":
        return [triton.decode_ModelInferResponse(reply, []) for reply in replies]
    envelopes = [triton.decode_ModelStreamInferResponse(reply, []) for reply in replies]
    return [envelope.infer_response or triton.ModelInferResponse() for envelope in envelopes]


def number(data: bytes) -> int:
    """One little-endian INT32."""
    return int.from_bytes(data[:4], "little", signed=True)


@pytest.mark.parametrize("name", SUCCESSFUL, ids="/".join)
def test_a_grpc_stream_is_a_stream_of_events(name: tuple[str, str]) -> None:
    """Each recorded message is an event with the same names, shapes, elements and id, and nothing else is sent."""
    case = CASES[name]
    made = translate_reply("open-inference/rest", f"{name[0]}/grpc", {"request": ASKED, "reply": grpc_reply(case)})
    assert (made["status"], dict(made["headers"])["content-type"]) == (200, "text/event-stream; charset=utf-8")
    for event, message in zip(events(made), unwrapped(case), strict=True):
        assert (event.get("id", ""), event.get("model_name")) == (message.id, message.model_name)
        flag = message.parameters.get("triton_final_response")
        assert event.get("parameters", {}).get("triton_final_response") == (flag and flag.bool_param)
        assert [(output["name"], output["shape"], output["datatype"]) for output in event["outputs"]] == [
            (output.name, list(output.shape), output.datatype) for output in message.outputs
        ]
        for position, output in enumerate(event["outputs"]):
            if output["name"] in {"text_output", "index"}:
                assert output["data"] == element(message, position)


def element(message: triton.ModelInferResponse, position: int) -> list[Any]:
    """The only element of a recorded output, raw or in contents."""
    output = message.outputs[position]
    if message.raw_output_contents:
        raw = bytes(message.raw_output_contents[position])
        return [raw[4:].decode() if output.datatype == "BYTES" else number(raw)]
    assert output.contents is not None
    texts = [bytes(text).decode() for text in output.contents.bytes_contents]
    return texts or [int(value) for value in output.contents.int_contents]


def test_mlservers_streams_are_the_same_over_both_protocols() -> None:
    """Its gRPC messages, for a REST client, are its own events; its events, for a gRPC client, its messages."""
    rest, grpc = CASES["mlserver", "rest_infer_stream"], CASES["mlserver", "stream_3"]
    made = translate_reply("mlserver/rest", "mlserver/grpc", {"request": ASKED, "reply": grpc_reply(grpc)})
    recorded = events(rest["reply"])
    assert [event["outputs"] for event in events(made)] == [event["outputs"] for event in recorded]
    asked = {"rpc": grpc["rpc"], "metadata": [], "messages_base64": grpc["requests_base64"]}
    back = translate_reply("mlserver/grpc", "mlserver/rest", {"request": asked, "reply": rest["reply"]})
    assert back["code"] == 0
    messages = [mlserver.decode_ModelInferResponse(base64.b64decode(text), []) for text in back["messages_base64"]]
    assert [bytes(message.raw_output_contents[0])[4:] for message in messages] == [b"a#0", b"a#1", b"a#2"]
    assert [number(bytes(message.raw_output_contents[1])) for message in messages] == [0, 1, 2]
    assert [dict(message.parameters) for message in messages] == [{}, {}, {}]


@pytest.mark.parametrize("runtime", ["triton", "mlserver"])
def test_a_recorded_request_is_the_rest_call(runtime: str) -> None:
    """The gRPC requests of both runtimes become bodies with the same tensors, on the path of the stream."""
    name = "decoupled_3" if runtime == "triton" else "stream_3"
    asked = {"rpc": CASES[runtime, name]["rpc"], "messages_base64": CASES[runtime, name]["requests_base64"]}
    made = translate_call(f"{runtime}/grpc", "mlserver/rest", asked)
    assert made["path"] == "/v2/models/stream/infer_stream"
    assert json.loads(made["body"]) == json.loads(ASKED["body"])


def test_an_error_within_tritons_stream_is_an_error_event() -> None:
    """What came before it stays; its text is what the model said."""
    case = CASES["triton", "model_error_mid_stream"]
    made = translate_reply("open-inference/rest", "triton/grpc", {"request": ASKED, "reply": grpc_reply(case)})
    first, last = events(made)
    assert first["outputs"][0]["data"] == ["a#0"]
    assert last == {"error": "failed at 1"}


def test_an_error_before_the_first_message_has_a_status() -> None:
    """Triton tells of an unknown model in a message without a code, which is a 400 in REST; MLServer by code."""
    for runtime, name, status in (
        ("triton", "unknown_model_triton_grpc_error", 400),
        ("mlserver", "unknown_model", 404),
    ):
        exchange = {"request": ASKED, "reply": grpc_reply(CASES[runtime, name])}
        made = translate_reply(f"{runtime}/rest", f"{runtime}/grpc", exchange)
        assert made["status"] == status
        assert "nope" in json.loads(made["body"])["error"]


def test_an_error_of_mlserver_is_a_message_for_a_client_in_tritons_form() -> None:
    """A refused stream ends well for such a client: its only message is the error, with the id of the request."""
    asked = CASES["triton", "decoupled_3"]
    request = {"rpc": asked["rpc"], "metadata": [], "messages_base64": asked["requests_base64"]}
    reply = CASES["mlserver", "rest_infer_stream_error_first"]["reply"]
    made = translate_reply("triton/grpc", "mlserver/rest", {"request": request, "reply": reply})
    (message,) = [
        triton.decode_ModelStreamInferResponse(base64.b64decode(text), []) for text in made["messages_base64"]
    ]
    assert (made["code"], message.error_message) == (0, "Internal Server Error")
    assert message.infer_response is not None
    assert message.infer_response.id == "s1"


def openai_call(stream: bool) -> dict[str, Any]:
    """A completion."""
    body = json.dumps({"model": "generate", "prompt": "hello", "stream": stream})
    return {"method": "POST", "path": "/v1/completions", "headers": [], "body": body}


@pytest.mark.parametrize("name", GENERATED, ids="/".join)
def test_tritons_generate_answers_an_openai_client(name: tuple[str, str]) -> None:
    """Texts arrive as they are; each failure, whatever status Triton gave it, is an error with Triton's text."""
    reply = CASES[name]["reply"]
    stream = name[1].startswith("generate_stream")
    made = translate_reply("openai/rest", "triton-generate/rest", {"request": openai_call(stream), "reply": reply})
    said = [json.loads(line.removeprefix("data: ")) for line in reply["body"].split("\n\n") if line.strip("{")]
    if "error" in reply["body"]:
        assert made["status"] == (502 if reply["status"] == 200 else reply["status"])
        assert json.loads(made["body"])["error"]["message"] == said[0]["error"]
        return
    texts = [message["text_output"] for message in said]
    if not stream:
        assert json.loads(made["body"])["choices"][0]["text"] == texts[0]
        return
    *chunks, done = [line.removeprefix("data: ") for line in made["body"].split("\n\n") if line]
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert [choice["text"] for choice in choices] == [*texts, ""]
    assert [choice["finish_reason"] for choice in choices] == [None] * len(texts) + ["stop"]
    assert done == "[DONE]"


@pytest.mark.parametrize("name", GENERATED, ids="/".join)
def test_a_generate_client_reaches_openai_or_is_refused_by_name(name: tuple[str, str]) -> None:
    """The recorded bodies ask vLLM for the same text; what only the recorded model knows is named."""
    request = CASES[name]["request"]
    made = translate_call("triton-generate/rest", "openai/rest", request)
    unknown = {"d", "k", "flag", "n", "fail_at", "foo", "index"}
    try:
        asked = json.loads(request["body"])
    except ValueError:
        assert made["error"]["status"] == 400
        return
    parameters = {key: value for key, value in asked.items() if key != "parameters"} | asked.get("parameters", {})
    if unknown & parameters.keys() or not isinstance(asked.get("text_input"), str | list):
        assert made["error"]["status"] == 400
        error = json.loads(made["error"]["body"])["error"]
        assert any(f"`{key}`" in error for key in unknown) or "text" in error or "prompt" in error
        return
    if "versions" in request["path"]:
        assert "version" in json.loads(made["error"]["body"])["error"]
        return
    body = json.loads(made["body"])
    assert [body["prompt"]] == (asked["text_input"] if isinstance(asked["text_input"], list) else [asked["text_input"]])
    assert (body["max_tokens"], body["temperature"]) == (16, 1.0)
    assert body.get("stream", False) is request["path"].endswith("_stream")
    assert body.get("echo", False) is request["path"].endswith("/generate")
