"""Changes of recorded requests: by path, by name, and never a field that nobody knows."""

import json

import pytest

from inferbridge.bridge.errors import BridgeError
from inferbridge.recorded.bodies import request_body
from inferbridge.recorded.editing import edited, parse_edit
from inferbridge.recorded.exchanges import Side
from recorded_flows import GRPC, exchange, flow_of, grpc_flow

TGIS = "/fmaas.GenerationService/Generate"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CHAT = flow_of("POST", "/v1/chat/completions", b'{"model":"m","messages":[{"role":"user","content":"a"}],"seed":1}')
GENERATE = grpc_flow(TGIS, "tgis", '{"model_id":"m","requests":[{"text":"a"},{"text":"b"}]}')


def rest(*edits: str) -> object:
    """The body of a chat after some changes."""
    return json.loads(edited(exchange(CHAT).client, [parse_edit(edit) for edit in edits]))


def test_fields_of_json_change_by_path() -> None:
    """Replaced, added where the spec knows them, removed; the rest stays as it was."""
    assert rest('messages[0].content="it\'s"', "max_tokens=5", "seed=") == {
        "model": "m",
        "messages": [{"role": "user", "content": "it's"}],
        "max_tokens": 5,
    }


def test_fields_of_messages_change_by_the_names_of_the_proto() -> None:
    """Nested ones are made, and the message is framed anew."""
    edits = [parse_edit('requests[1].text="c"'), parse_edit("params.stopping.max_new_tokens=7")]
    flow = grpc_flow(TGIS, "tgis", '{"model_id":"m","requests":[{"text":"a"},{"text":"b"}]}')
    flow.request.content = edited(exchange(flow).client, edits)
    (text,) = request_body(exchange(flow).client).value
    assert json.loads(text) == {
        "model_id": "m",
        "requests": [{"text": "a"}, {"text": "c"}],
        "params": {"stopping": {"max_new_tokens": 7}},
    }


def test_maps_take_any_key() -> None:
    """The keys of a map are the client's own; the fields of its values are not."""
    side = exchange(grpc_flow(INFER, "open-inference", '{"model_name":"m"}')).client
    assert b"mine" in edited(side, [parse_edit("parameters.mine.int64_param=1")])
    with pytest.raises(ValueError, match="did you mean 'int64_param'"):
        edited(side, [parse_edit("parameters.mine.int46_param=1")])


@pytest.mark.parametrize(
    ("side", "edit", "said"),
    [
        (exchange(CHAT).client, "max_tokns=5", "the request has no field 'max_tokns'; did you mean 'max_tokens'?"),
        (exchange(CHAT).client, "messages[3].role=1", "messages has 1 items, the first is [0]"),
        (exchange(CHAT).client, "model[0]=1", "model is no list"),
        (exchange(CHAT).client, "model.x=1", "model has no fields"),
        (exchange(GENERATE).client, "requests[0].txt=1", "requests[0] has no field 'txt'; did you mean 'text'?"),
        (exchange(GENERATE).client, "[1].model_id=1", "the call has 1 messages, the first is [0]"),
        (exchange(GENERATE).client, "model_id=1", "model_id"),  # by the proto, when the message is made
        (exchange(flow_of("POST", TGIS, b"{}")).client, "modelid=1", "no field 'modelid'; did you mean 'model_id'?"),
        (exchange(flow_of(body=b"x")).client, "a=1", "its body is no JSON that could be changed, but text"),
        (exchange(flow_of("POST", "/a.B/C", b"", GRPC)).client, "a=1", "no proto has its method"),
    ],
)
def test_what_cannot_be_changed_says_why(side: Side, edit: str, said: str) -> None:
    """The place, and the nearest right name where there is one."""
    with pytest.raises((ValueError, BridgeError)) as caught:
        edited(side, [parse_edit(edit)])
    assert said in str(caught.value)


def test_calls_that_no_spec_knows_take_any_name() -> None:
    """Nobody can say what is wrong there."""
    side = exchange(flow_of("POST", "/mine", b'{"a":12345678901234567890}')).client
    assert edited(side, [parse_edit('b={"c":[1]}')]) == b'{"a":12345678901234567890,"b":{"c":[1]}}'


@pytest.mark.parametrize("text", ["a", "=1", "a..b=1", "a[x]=1", "a=x", "a=NaN", 'a={"b":1,"b":2}'])
def test_an_edit_is_a_path_and_json(text: str) -> None:
    """Anything else is refused before a call is made."""
    with pytest.raises(ValueError, match="JSON"):
        parse_edit(text)
