"""Structured sides: what the linker refuses, and that what is written can be read again."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.broken_specs import BASE
from codegen.test_link import lines_of
from inferbridge.bridge.context import Context, RuntimeProfile, Setting
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import GrpcReply, GrpcRequest, HttpRequest
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.render.package import render_package
from inferbridge_generated import operations
from inferbridge_generated.openai import bridges as openai
from inferbridge_generated.tgis import bridges as tgis

TGIS = "apis/tgis.yaml"
OPENAI = "apis/openai.yaml"
CASES = {
    "settled field that is none": (
        TGIS, "response_format, n]", "response_format, m]",
        "GenerateRequest has no field 'm' to settle",
    ),
    "nested place that is none": (
        TGIS, "params.sampling.seed: seed", "params.sampling.sed: seed",
        "message fmaas.SamplingParameters has no field 'sed'; did you mean 'seed'?",
    ),
    "value where a message should be": (
        TGIS, "params.sampling.seed: seed", "model_id.seed: seed",
        "model_id is string, not a message",
    ),
    "message where a list should be": (
        TGIS, "request.text: \"prompts[0]\"", "request[].text: \"prompts[]\"",
        "request is message, not a list of messages",
    ),
    "list that maps to no list": (
        TGIS, "requests[].text: prompts[]", "requests[].text: model",
        "requests[].text is in a list but its field is not in the same one",
    ),
    "enum without a table": (
        TGIS, "params.method: {field: method, enum: method}", "params.method: method",
        "method is an enum, so the line needs `enum`, the table of its values",
    ),
    "unknown table": (
        TGIS, "{field: method, enum: method}", "{field: method, enum: methods}",
        "no enum table 'methods'; did you mean 'method'?",
    ),
    "table of another enum": (
        TGIS, "{field: method, enum: method}", "{field: method, enum: stop_reason}",
        "table stop_reason is of finish_reason, method is optional<method>",
    ),
    "unknown neutral value": (
        TGIS, "GREEDY: greedy", "GREEDY: gredy",
        "enum method has no value 'gredy'; did you mean 'greedy'?",
    ),
    "unknown wire value": (
        TGIS, "GREEDY: greedy", "GREDY: greedy",
        "params.method has no value 'GREDY'; did you mean 'GREEDY'?",
    ),
    "unit of a text": (
        TGIS, "model_id: model", "model_id: {field: model, unit: ms}",
        "model_id is string but model is string",
    ),
    "constant of another type": (
        OPENAI, "object: {constant: text_completion}", "object: {constant: 5}",
        "object is string, the constant 5 is not",
    ),
    "constant for an enum": (
        TGIS, "params.method: {field: method, enum: method}", "params.method: {constant: 1}",
        "params.method is enum, the constant 1 is not",
    ),
    "stream of an operation without messages": (
        OPENAI, "name: openapi\n    operation: documentation\n",
        "name: openapi\n    operation: documentation\n    mode: stream\n",
        "operation documentation does not stream: it has no message",
    ),
    "reply of a stream": (
        TGIS, "      message:\n", "      reply: {}\n      message:\n",
        "reply does not go with mode stream",
    ),
    "unknown mode": (TGIS, "mode: stream", "mode: streaming", "mode 'streaming' is none of unary, stream, either"),
    "unknown unit": (TGIS, "unit: ms", "unit: min", "unit 'min' is none of s, ms"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    """One edit of the shipped specs gives a line that says what is wrong, with file, line and column."""
    file, old, new, expected = CASES[case]
    root = Path(shutil.copytree(default_specs(), tmp_path / "specs"))
    text = (root / file).read_text().replace("request.text: prompts[0]", 'request.text: "prompts[0]"')
    assert old in text
    (root / file).write_text(text.replace(old, new))
    found = [line for line in lines_of(root) if expected in line]
    assert found, lines_of(root)
    place = found[0].partition(": ")[0]
    assert place.startswith(f"{file}:")
    assert all(part.isdigit() for part in place.split(":")[1:])


def context() -> Context:
    """Surroundings of one call."""
    return Context(RuntimeProfile(name="r", api="tgis"), setting=Setting(operations=operations))


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
REQUESTS = st.builds(
    operations.GenerateRequest,
    model=TEXT,
    prompts=st.lists(TEXT, min_size=1, max_size=3),
    method=st.sampled_from(["greedy", "sample"]),
    temperature=st.none() | st.sampled_from([0.0, 0.5, 1.25]),
    top_k=st.none() | st.integers(1, 1000),
    top_p=st.none() | st.sampled_from([0.25, 1.0]),
    seed=st.none() | st.integers(0, 2**64 - 1),
    max_tokens=st.none() | st.integers(1, 2**32 - 1),
    time_limit=st.none() | st.integers(1, 10_000).map(lambda ms: ms / 1000),
    stop_sequences=st.lists(TEXT, max_size=3),
    include_stop_sequence=st.none() | st.booleans(),
    echo=st.none() | st.just(True),
    length_penalty=st.none()
    | st.builds(operations.LengthPenalty, start_index=st.integers(0, 9), decay_factor=st.sampled_from([1.0, 1.5])),
    guided_regex=st.none() | TEXT,
    guided_json=st.none() | st.dictionaries(TEXT, st.integers(0, 9), max_size=2),
)


@given(request=REQUESTS)
def test_a_request_survives_protobuf(request: operations.GenerateRequest) -> None:
    """What is written to nested messages is read again as it was, and what was not said stays unsaid."""
    if request.guided_regex is not None:
        request.guided_json = None  # members of one union
    call = tgis.generate_grpc_encode_request(request, context())
    read = tgis.generate_grpc_decode_request(GrpcRequest(call.rpc, (), call.messages), context())
    assert read == request


CHOICES = st.builds(
    operations.Choice,
    index=st.just(0),
    text=TEXT,
    finish_reason=st.none() | st.sampled_from(["max_tokens", "eos_token", "stop_sequence", "token_limit"]),
    stop_sequence=TEXT,
    completion_tokens=st.none() | st.integers(1, 9),
    tokens=st.lists(
        st.builds(
            operations.GeneratedToken,
            text=TEXT,
            logprob=st.just(-0.5),
            rank=st.none() | st.integers(1, 9),
            top_tokens=st.lists(st.builds(operations.TokenAlternative, text=TEXT, logprob=st.just(-2.0)), max_size=2),
        ),
        max_size=2,
    ),
)


@given(choices=st.lists(CHOICES, max_size=3))
def test_a_reply_survives_protobuf(choices: list[operations.Choice]) -> None:
    """Lists within lists come back item by item."""
    request = operations.GenerateRequest()
    answer = tgis.generate_grpc_encode_reply(operations.GenerateReply(choices=choices), request, context())
    read = tgis.generate_grpc_decode_reply(GrpcReply(messages=answer.messages), request, context())
    assert read.choices == choices


@pytest.mark.parametrize(
    ("value", "name"),
    [({"top_p": 0.0}, "top_p"), ({"max_tokens": 0}, "max_tokens"), ({"truncate_tokens": 0}, "truncate_tokens")],
)
def test_a_zero_that_would_mean_nothing_is_refused(value: dict[str, Any], name: str) -> None:
    """Where protobuf's zero means "not said", an explicit zero cannot be carried."""
    with pytest.raises(BridgeError, match=name):
        tgis.generate_grpc_encode_request(operations.GenerateRequest(prompts=["a"], **value), context())


@pytest.mark.parametrize("value", [{"top_k": 0}, {"min_tokens": 0}, {"echo": False}, {"top_n_tokens": 0}], ids=str)
def test_a_zero_that_has_no_effect_may_be_left_out(value: dict[str, Any]) -> None:
    """Where zero and nothing mean the same, saying it is no loss."""
    call = tgis.generate_grpc_encode_request(operations.GenerateRequest(prompts=["a"], **value), context())
    plain = tgis.generate_grpc_encode_request(operations.GenerateRequest(prompts=["a"]), context())
    assert b"".join(map(bytes, call.messages[0])) == b"".join(map(bytes, plain.messages[0]))


def test_a_time_limit_never_becomes_none() -> None:
    """A limit of less than a millisecond is rounded up, for zero would be no limit."""
    call = tgis.generate_grpc_encode_request(operations.GenerateRequest(prompts=["a"], time_limit=1e-6), context())
    read = tgis.generate_grpc_decode_request(GrpcRequest(call.rpc, (), call.messages), context())
    assert read.time_limit == 0.001


def test_json_of_a_lenient_api_is_taken_as_pydantic_takes_it() -> None:
    """Numbers as text are numbers, unknown fields are refused all the same."""
    body = json.dumps({"prompt": "a", "max_tokens": "5"}).encode()
    assert openai.completions_rest_decode_request(HttpRequest("POST", "/", (), (body,)), context()).max_tokens == 5
    with pytest.raises(BridgeError, match="unknown field `prompts`"):
        openai.completions_rest_decode_request(HttpRequest("POST", "/", (), (b'{"prompts":"a"}',)), context())


def test_values_outside_of_the_body_are_carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field may stand in the query or a header of a REST call and in the metadata of a gRPC call."""
    root = Path(shutil.copytree(BASE, tmp_path / "specs"))
    api = root / "apis/base.yaml"
    text = api.read_text().replace(
        "request: {schema: Question, map: {name: name}}", "request: {map: {query.name: name}}"
    )
    api.write_text(text.replace("request: {name: name}\n", "request: {metadata.x-name: name}\n"))
    package = tmp_path / "outside_of_the_body"
    for path, content in render_package(load_model(root)).items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    bridges = importlib.import_module("outside_of_the_body.base.bridges")
    request = bridges.operations.AskRequest(name="a&b ü")
    called = bridges.ask_rest_encode_request(request, context())
    assert called.path == "/ask?name=a%26b+%C3%BC"
    assert bridges.ask_rest_decode_request(called, context()) == request
    sent = bridges.ask_grpc_encode_request(request, context())
    assert sent.metadata == (("x-name", "a&b ü"),)
    assert bridges.ask_grpc_decode_request(sent, context()) == request
