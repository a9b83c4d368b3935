"""Text generation recorded on the two doors of caikit (0.27.7 and caikit-nlp 0.5.13), each held against the other.

Documented differences: an optional value that protobuf cannot leave out is null in REST (`seed`), key order and
separators of JSON are ours, `producer_id` is left out where it would be null, and an error before the first message of
a stream has its own status, where caikit sends an event in a 200.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from inferbridge.translate import translate_call, translate_reply
from inferbridge_generated.caikit import wire

PAIRS = {
    pair["name"]: pair
    for pair in json.loads((Path(__file__).parent.parent / "golden/generation/caikit.json").read_text())["pairs"]
}
all_pairs = pytest.mark.parametrize("name", PAIRS)


def said(value: Any) -> Any:
    """JSON without what is null or an empty list."""
    if isinstance(value, dict):
        return {key: said(item) for key, item in value.items() if item is not None and item != []}
    return [said(item) for item in value] if isinstance(value, list) else value


def content(form: dict[str, Any]) -> Any:
    """The JSON of a REST answer: its body, or the events of its stream."""
    body = form["body"]
    if not body.startswith("event:"):
        return said(json.loads(body))
    events = [event for event in body.split("\r\n\r\n") if event and not event.startswith(":")]
    assert all(event.startswith("event: message\r\ndata: ") for event in events)
    return [said(json.loads(event.partition("data: ")[2])) for event in events]


def messages(form: dict[str, Any], streamed: bool) -> list[Any]:
    """The messages of a gRPC answer."""
    decode = wire.decode_GeneratedTextStreamResult if streamed else wire.decode_GeneratedTextResult
    found: list[Any] = [decode(base64.b64decode(text), []) for text in form["messages_base64"]]
    return found


def test_there_are_pairs() -> None:
    """Both tasks of both servers are held to their recordings."""
    assert len(PAIRS) > 30
    tasks = ("text_generation", "server_streaming_text_generation")
    expected = {f"{server}/{task}" for server in ("light", "tgis") for task in tasks}
    assert {name.rpartition("/")[0] for name in PAIRS} == {*expected, "standalone/text_generation_local"}


@all_pairs
def test_a_rest_call_is_the_grpc_call(name: str) -> None:
    """The recorded REST request becomes the recorded gRPC message, byte by byte, with the model in its metadata."""
    pair = PAIRS[name]
    made = translate_call("caikit/rest", "caikit/grpc", pair["rest"]["request"])
    assert made["rpc"] == pair["grpc"]["request"]["rpc"]
    assert made["messages_base64"] == pair["grpc"]["request"]["messages_base64"]
    assert made["metadata"] == pair["grpc"]["request"]["metadata"]


@all_pairs
def test_a_grpc_call_is_the_rest_call(name: str) -> None:
    """The recorded gRPC request becomes a body that says what the recorded one says."""
    pair = PAIRS[name]
    made = translate_call("caikit/grpc", "caikit/rest", pair["grpc"]["request"])
    recorded = said(json.loads(pair["rest"]["request"]["body"]))
    assert made["path"] == pair["rest"]["request"]["path"]
    assert said(json.loads(made["body"])).get("parameters", {}) == recorded.get("parameters", {})
    assert {key: json.loads(made["body"])[key] for key in ("inputs", "model_id")} == {
        key: recorded[key] for key in ("inputs", "model_id")
    }


@all_pairs
def test_a_grpc_answer_is_the_rest_answer(name: str) -> None:
    """The recorded gRPC answer or stream, given to the REST client, is the recorded REST answer or stream."""
    pair = PAIRS[name]
    exchange = {"request": pair["rest"]["request"], "reply": pair["grpc"]["reply"]}
    made = translate_reply("caikit/rest", "caikit/grpc", exchange)
    assert made["status"] == 200
    assert content(made) == content(pair["rest"]["reply"])


@all_pairs
def test_a_rest_answer_is_the_grpc_answer(name: str) -> None:
    """The recorded REST answer or stream, given to the gRPC client, is the recorded gRPC answer or stream."""
    pair = PAIRS[name]
    exchange = {"request": pair["grpc"]["request"], "reply": pair["rest"]["reply"]}
    made = translate_reply("caikit/grpc", "caikit/rest", exchange)
    streamed = "server_streaming" in name
    assert made["code"] == 0
    assert messages(made, streamed) == messages(pair["grpc"]["reply"], streamed)


def test_caikit_to_openai_and_back() -> None:
    """A caikit client of a vLLM runtime: its defaults are written out, and the answer is caikit's."""
    body = '{"model_id": "flan", "inputs": "a"}'
    request = {"method": "POST", "path": "/api/v1/task/text-generation", "headers": [], "body": body}
    made = json.loads(translate_call("caikit/rest", "openai/rest", request)["body"])
    assert (made["temperature"], made["max_tokens"], made["model"]) == (0.0, 20, "flan")
    choice = {"index": 0, "text": "b", "finish_reason": "length", "stop_reason": None}
    usage = {"prompt_tokens": 2, "completion_tokens": 20, "total_tokens": 22}
    answer = {
        "id": "x",
        "object": "text_completion",
        "created": 1,
        "model": "flan",
        "choices": [choice],
        "usage": usage,
    }
    reply = {"status": 200, "headers": [["content-type", "application/json"]], "body": json.dumps(answer)}
    got = json.loads(translate_reply("caikit/rest", "openai/rest", {"request": request, "reply": reply})["body"])
    assert (got["generated_text"], got["finish_reason"]) == ("b", "MAX_TOKENS")
    assert (got["input_token_count"], got["generated_tokens"]) == (2, 20)


def test_sampling_beside_greedy_is_refused_as_caikit_does() -> None:
    """Another runtime would ignore what caikit refuses, so it is refused before it gets there, in caikit's words."""
    body = '{"model_id": "flan", "inputs": "a", "parameters": {"temperature": 0.7}}'
    request = {"method": "POST", "path": "/api/v1/task/text-generation", "headers": [], "body": body}
    made = translate_call("caikit/rest", "tgis/grpc", request)
    assert made["error"]["status"] == 400
    assert json.loads(made["error"]["body"])["details"].startswith("temperature:")
