"""Triton's generate and the other APIs of text generation: what is said, what is left out, what is refused."""

import base64
import json
from typing import Any

import pytest

from inferbridge.bridge.values import join
from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.tgis import wire

TRITON = "triton-generate/rest"


def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """A call with a JSON body."""
    return {"method": "POST", "path": path, "headers": [], "body": json.dumps(body)}


def tgis(**parameters: Any) -> dict[str, Any]:
    """A TGIS stream of one prompt."""
    request = wire.SingleGenerationRequest(
        model_id="m", request=wire.GenerationRequest(text="a"), params=wire.Parameters(**parameters)
    )
    message = bytes(join(wire.encode_SingleGenerationRequest(request)))
    return {
        "rpc": "/fmaas.GenerationService/GenerateStream",
        "metadata": [],
        "messages_base64": [base64.b64encode(message).decode()],
    }


def test_caikit_asks_for_its_own_defaults() -> None:
    """Greedy, 20 tokens and the stop sequence are said: Triton's models decide otherwise. The prompt is not wanted."""
    made = translate_call("caikit/rest", TRITON, post("/api/v1/task/text-generation", {"model_id": "m", "inputs": "a"}))
    assert made["path"] == "/v2/models/m/generate"
    assert json.loads(made["body"]) == {
        "text_input": "a",
        "exclude_input_in_output": True,
        "max_tokens": 20,
        "temperature": 0.0,
        "include_stop_str_in_output": True,
    }


def test_a_tgis_stream_is_a_stream_of_triton() -> None:
    """The path and `stream` say so; each event is a message, the last one has the reason."""
    call = tgis(stopping=wire.StoppingCriteria(max_new_tokens=5))
    made = translate_call("tgis/grpc", TRITON, call)
    assert made["path"] == "/v2/models/m/generate_stream"
    assert (json.loads(made["body"])["stream"], json.loads(made["body"])["max_tokens"]) == (True, 5)
    events = 'data: {"model_name":"m","text_output":"b"}\n\ndata: {"model_name":"m","text_output":"c"}\n\n'
    reply = {"status": 200, "headers": [["content-type", "text/event-stream"]], "body": events}
    got = translate_reply("tgis/grpc", TRITON, {"request": call, "reply": reply})
    messages = [wire.decode_GenerationResponse(base64.b64decode(text), []) for text in got["messages_base64"]]
    assert "".join(message.text for message in messages) == "bc"
    assert [message.stop_reason for message in messages] == [0] * (len(messages) - 1) + [2]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"decoding": wire.DecodingParameters(regex="a+")}, "guided_regex"),
        ({"stopping": wire.StoppingCriteria(stop_sequences=["a", "b"])}, "stop_sequences"),
        ({"truncate_input_tokens": 3}, "truncate_tokens"),
    ],
)
def test_what_triton_cannot_be_told_is_refused_by_name(parameters: dict[str, Any], name: str) -> None:
    """A parameter without a place, and lists, which Triton's parameters cannot be."""
    made = translate_call("tgis/grpc", TRITON, tgis(**parameters))
    assert made["error"]["code"] == 3
    assert made["error"]["details"].startswith(f"{name}:")


def test_a_time_limit_is_the_gateways_where_triton_streams() -> None:
    """Triton is not told of it: a stream is stopped in time. A whole answer cannot be, so there it is refused."""
    limited = wire.StoppingCriteria(time_limit_millis=5)
    made = translate_call("tgis/grpc", TRITON, tgis(stopping=limited))
    assert made["path"] == "/v2/models/m/generate_stream"
    assert "time" not in made["body"]
    call = post("/api/v1/task/text-generation", {"model_id": "m", "inputs": "a", "parameters": {"max_time": 1.5}})
    refused = translate_call("caikit/rest", TRITON, call)["error"]
    assert refused["status"] == 400
    assert json.loads(refused["body"])["details"].startswith("time_limit:")


def test_the_prompt_comes_back_from_generate_unless_it_is_not_wanted() -> None:
    """As Triton's models do it: `generate` gives it back by default, `generate_stream` never."""
    said = {}
    for path, more in (("generate", {}), ("generate", {"exclude_input_in_output": True}), ("generate_stream", {})):
        call = post(f"/v2/models/m/{path}", {"text_input": "a", **more})
        said[path, bool(more)] = json.loads(translate_call(TRITON, "openai/rest", call)["body"]).get("echo", False)
    assert said == {("generate", False): True, ("generate", True): False, ("generate_stream", False): False}


def test_parameters_may_stand_in_either_place() -> None:
    """A member of the body and one of `parameters` mean the same."""
    for body in ({"temperature": 0.5}, {"parameters": {"temperature": 0.5}}):
        made = translate_call(TRITON, "openai/rest", post("/v2/models/m/generate", {"text_input": "a", **body}))
        assert json.loads(made["body"])["temperature"] == 0.5


def test_an_answer_of_vllm_is_an_answer_of_triton() -> None:
    """Text, model, reason and counts; a stream has no mark of success."""
    call = post("/v2/models/m/generate_stream", {"text_input": "a", "id": "7"})
    chunk = {"id": "x", "object": "text_completion", "created": 1, "model": "m"}
    said = [
        {**chunk, "choices": [{"index": 0, "text": "b", "finish_reason": None}]},
        {**chunk, "choices": [{"index": 0, "text": "c", "finish_reason": "length"}]},
    ]
    body = "".join(f"data: {json.dumps(each)}\n\n" for each in said) + "data: [DONE]\n\n"
    reply = {"status": 200, "headers": [["content-type", "text/event-stream"]], "body": body}
    got = translate_reply(TRITON, "openai/rest", {"request": call, "reply": reply})
    events = [json.loads(event.removeprefix("data: ")) for event in got["body"].split("\n\n") if event]
    assert [(event["id"], event["model_name"], event["text_output"]) for event in events] == [
        ("7", "m", "b"),
        ("7", "m", "c"),
    ]
    assert events[-1]["finish_reason"] == "length"


def test_a_call_that_names_no_model_is_the_clients_error() -> None:
    """The model stands in the path of Triton's generate, so a call without one is refused by that name."""
    call = {"method": "POST", "path": "/v1/completions", "headers": [], "body": '{"prompt": "a"}'}
    error = translate_call("openai/rest", "triton-generate/rest", call)["error"]
    assert (error["status"], json.loads(error["body"])["error"]["message"]) == (400, "model '' cannot stand in a path")
