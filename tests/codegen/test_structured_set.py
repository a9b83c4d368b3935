"""Half-bridges generated from a small structured set: what crosses from REST to gRPC and back, and what is refused."""

import ast
import importlib
import math
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.test_checks import STRUCTURED
from inferbridge.bridge.context import Context, Policy, RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import GrpcReply, GrpcRequest, HttpReply, join
from inferbridge_codegen import explain
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.model.types import Model
from inferbridge_codegen.render.lines import literal
from inferbridge_codegen.render.package import render_package


@pytest.fixture(scope="module")
def model() -> Model:
    """The set, linked."""
    return load_model(STRUCTURED)


@pytest.fixture(scope="module")
def package(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its generated package."""
    root = tmp_path_factory.mktemp("structured") / "trips_generated"
    for path, content in render_package(model).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def trips(package: Path) -> Any:
    """Its operations, half-bridges, protobuf codec and registry."""
    sys.path.insert(0, str(package.parent))
    try:
        parts: dict[str, ModuleType] = {
            name: importlib.import_module(f"trips_generated.{path}")
            for name, path in (("operations", "operations"), ("bridges", "trips.bridges"), ("wire", "trips.wire"),
                               ("schemas", "trips.rest"), ("registry", "registry"))
        }  # fmt: skip
    finally:
        sys.path.remove(str(package.parent))
    return SimpleNamespace(**parts)


def context(*, lossy: bool = False, replying: bool = False) -> Context:
    """Surroundings of one call."""
    return Context(RuntimeProfile(name="planner", api="trips"), Policy(lossy), replying=replying)


TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
FLOAT32 = st.floats(allow_nan=False, allow_infinity=False, width=32)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
REQUESTS = st.fixed_dictionaries(
    {
        "traveller": TEXT,
        "key": st.sampled_from(["", "a", "a-b"]),
        "wishes": st.lists(TEXT, max_size=3),
        "tags": st.lists(TEXT, max_size=2),
        "pace": st.sampled_from(["slow", "fast"]),
        "days": st.none() | st.integers(1, 2**31 - 1),
        "patience": st.none() | st.integers(1, 10_000).map(lambda ms: ms / 1000),
    },
    optional={"must": TEXT},
)
BUDGETS = st.none() | st.fixed_dictionaries({"limit": st.integers(-(2**63), 2**63 - 1), "currency": TEXT})


@given(fields=REQUESTS, budget=BUDGETS)
def test_a_request_crosses_to_the_other_protocol_and_back(trips: Any, fields: dict[str, Any], budget: Any) -> None:
    """What a REST client says reaches a gRPC runtime, and a gRPC client's words a REST runtime, unchanged."""
    operations, bridges = trips.operations, trips.bridges
    request = operations.PlanRequest(**fields, budget=operations.Budget(**budget) if budget else None)
    called = bridges.plan_rest_encode_request(request, context())
    from_rest = bridges.plan_rest_decode_request(called, context())
    assert from_rest == request
    sent = bridges.plan_grpc_encode_request(from_rest, context())
    assert bridges.plan_grpc_decode_request(GrpcRequest(sent.rpc, sent.metadata, sent.messages), context()) == request


@given(data=st.data())
def test_a_reply_crosses_to_the_other_protocol_and_back(trips: Any, data: st.DataObject) -> None:
    """Lists within lists within lists come back item by item, float32 and double exactly."""
    operations, bridges = trips.operations, trips.bridges
    notes = st.builds(operations.Note, text=TEXT, weights=st.lists(DOUBLE, max_size=3))
    stops = st.builds(operations.Stop, name=TEXT, height=st.none() | FLOAT32, notes=st.lists(notes, max_size=2))
    legs = st.builds(operations.Leg, text=TEXT, stops=st.lists(stops, max_size=2), hours=st.none() | DOUBLE)
    reply = data.draw(st.builds(operations.PlanReply, legs=st.lists(legs, max_size=2), title=TEXT))
    asked = operations.PlanRequest()
    answer = bridges.plan_grpc_encode_reply(reply, asked, context())
    from_grpc = bridges.plan_grpc_decode_reply(GrpcReply(messages=answer.messages), asked, context())
    given_back = bridges.plan_rest_encode_reply(from_grpc, asked, context())
    assert bridges.plan_rest_decode_reply(HttpReply(200, (), given_back.chunks), asked, context()) == reply


def test_nothing_is_created_for_what_is_not_set(trips: Any) -> None:
    """Messages and objects in which nothing is set are left out."""
    request = trips.operations.PlanRequest(traveller="Ann")
    called = trips.bridges.plan_rest_encode_request(request, context())
    assert b"".join(map(bytes, called.chunks)) == b'{"traveller":"Ann"}'
    sent = trips.bridges.plan_grpc_encode_request(request, context())
    assert bytes(join(sent.messages[0])) == b"\x0a\x03Ann"


def test_several_members_of_a_oneof_are_refused(trips: Any) -> None:
    """A runtime would see the last of them only; where losses are allowed the others are named."""
    request = trips.operations.PlanRequest(must="sea", may=["hill", "lake"])
    with pytest.raises(BridgeError, match="may: it cannot be said together with must"):
        trips.bridges.plan_grpc_encode_request(request, context())
    lossy = context(lossy=True)
    sent = trips.bridges.plan_grpc_encode_request(request, lossy)
    read = trips.bridges.plan_grpc_decode_request(GrpcRequest(sent.rpc, (), sent.messages), context())
    assert (read.must, read.may, lossy.losses) == ("sea", [], ["may"])


def test_an_unmapped_field_is_refused_only_when_set(trips: Any) -> None:
    """Empty bytes are not set; others name the field."""
    wire = trips.wire
    for ticket, error in ((b"", None), (b"x", "ticket")):
        message = wire.PlanRequest(options=wire.Options(speed=1, ticket=ticket))
        call = GrpcRequest("/trips.Planner/Plan", (), (wire.encode_PlanRequest(message),))
        if error is None:
            assert trips.bridges.plan_grpc_decode_request(call, context()).pace == "fast"
        else:
            with pytest.raises(BridgeError, match=error):
                trips.bridges.plan_grpc_decode_request(call, context())


def test_what_an_only_item_cannot_say_is_refused(trips: Any) -> None:
    """A field of the one item of a list that has no place is a loss like any other."""
    operations = trips.operations
    reply = operations.PlanReply(legs=[operations.Leg(text="north", hours=2.5)])
    with pytest.raises(BridgeError, match=r"legs\[\]\.hours"):
        trips.bridges.quick_rest_encode_reply(reply, operations.PlanRequest(), context(replying=True))
    with pytest.raises(BridgeError, match="exactly one can be carried, there are 2"):
        trips.bridges.quick_rest_encode_reply(
            operations.PlanReply(legs=[operations.Leg(), operations.Leg()]), operations.PlanRequest(), context()
        )


def test_messages_of_a_stream_cross(trips: Any) -> None:
    """A gRPC message is one event, the empty list says that there is no text, and two items do not fit."""
    operations, bridges = trips.operations, trips.bridges
    step = operations.PlanMessage(text="go", stops=[operations.Stop(name="lake")])
    event = bridges.follow_rest_encode_message(step, context())
    assert event == b'{"steps":[{"text":"go","halts":[{"name":"lake"}]}]}'
    read = bridges.follow_rest_decode_message(event, context())
    chunks = bridges.follow_grpc_encode_message(read, context())
    assert bridges.follow_grpc_decode_message(join(chunks), context()) == step
    assert bridges.follow_rest_decode_message(b'{"steps":[]}', context()).closing
    assert bridges.follow_rest_encode_message(operations.PlanMessage(closing=True), context()) == b'{"steps":[]}'
    with pytest.raises(BridgeError, match="steps: one can be carried, there are 2"):
        bridges.follow_rest_decode_message(b'{"steps":[{"text":"a"},{"text":"b"}]}', context())


@pytest.mark.parametrize(("value", "refused"), [(math.nan, False), (math.inf, True), (-math.inf, True)])
def test_numbers_that_json_lacks(trips: Any, value: float, refused: bool) -> None:
    """A runtime's NaN is null and noted, an infinity an error; a client's are errors both."""
    operations, bridges = trips.operations, trips.bridges
    reply = operations.PlanReply(legs=[operations.Leg(stops=[operations.Stop(name="peak", height=value)])])
    surroundings = context(replying=True)
    if refused:
        with pytest.raises(BridgeError, match="height: JSON has no"):
            bridges.plan_rest_encode_reply(reply, operations.PlanRequest(), surroundings)
    else:
        answer = bridges.plan_rest_encode_reply(reply, operations.PlanRequest(), surroundings)
        assert b'"height":null' in b"".join(map(bytes, answer.chunks))
        assert surroundings.losses == ["height"]
    with pytest.raises(BridgeError, match="patience: JSON has no"):
        bridges.plan_rest_encode_request(operations.PlanRequest(patience=value), context())


def test_the_registry_says_how_endpoints_stream(trips: Any) -> None:
    """Modes, framing, what a binding can say and its defaults are data."""
    api = trips.registry.APIS["trips"]
    assert {name: endpoint.mode for name, endpoint in api.endpoints.items()} == {
        "plan": "unary", "follow": "stream", "quick": "either",
    }  # fmt: skip
    follow, plan = api.endpoints["follow"], api.endpoints["plan"]
    assert follow.fan_out == "wishes"
    framing = follow.rest.framing
    assert (framing.event, framing.done, framing.error_event) == ("step", "[END]", "fault")
    assert plan.rest.defaults == {"pace": "slow", "days": 7}
    assert plan.grpc.fields == plan.rest.fields - {"stream"}
    assert follow.rest.decode_reply is None


def test_generated_code_is_typed_and_formatted(package: Path) -> None:
    """mypy --strict and the formatter have nothing to say."""
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "-p", package.name],
        cwd=package.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    ruff = [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length", "120", str(package)]
    assert subprocess.run(ruff, capture_output=True, check=False).returncode == 0


def test_explain_names_fields_alike_on_both_ends(model: Model) -> None:
    """A field of an only item is the same as one of a list's items, so it is not told as lost."""
    client, runtime = explain.find(model, "trips/rest"), explain.find(model, "planner/grpc")
    passages = {passage.name: passage for passage in explain.explain(client, runtime)}
    assert passages["plan"].lost == []
    assert {row.field: (row.client, row.runtime) for row in passages["plan"].request}["budget.limit"] == (
        "options.limits.money.limit", "options.limits.money.limit",
    )  # fmt: skip
    assert passages["follow"].lost == ["reply stops[].height"]
    assert {row.field for row in explain._rows(*_replies(model))} >= {"legs[].text", "legs[].stops[].name"}


def _replies(model: Model) -> tuple[Any, Any, Any]:
    plan, _, quick = model.apis[0].own.endpoints
    assert plan.rest is not None
    assert quick.rest is not None
    return quick.rest.reply, plan.rest.reply, plan.operation.reply


PLAIN = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(['"', "'", "\\'", '\\"', "'\"", "\n"])


@given(value=PLAIN | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_any_plain_value_has_a_literal(value: Any) -> None:
    """A value of a spec stands in generated code as itself, quotes and backslashes included."""
    assert ast.literal_eval(literal(value)) == value


def test_quotes_in_a_spec_reach_the_wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants, enum values and marks with quotes come out of the generated code as the spec has them."""
    shutil.copytree(STRUCTURED, tmp_path / "specs")
    spec = tmp_path / "specs/apis/trips.yaml"
    text = spec.read_text()
    for old, new in (
        ("constant: plan", "constant: 'a \"plan\"'"),
        ("calm: slow", "'\"calm\"': slow"),
        ('done: "[END]"', "done: '\"END\"'"),
    ):
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    for path, content in render_package(load_model(tmp_path / "specs")).items():
        (tmp_path / "quoted_generated" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "quoted_generated" / path).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    bridges = importlib.import_module("quoted_generated.trips.bridges")
    operations = importlib.import_module("quoted_generated.operations")
    registry = importlib.import_module("quoted_generated.registry")
    answer = bridges.plan_rest_encode_reply(operations.PlanReply(), operations.PlanRequest(), context())
    assert b"".join(map(bytes, answer.chunks)) == b'{"kind":"a \\"plan\\"","ways":[]}'
    asked = bridges.plan_rest_encode_request(operations.PlanRequest(pace="slow"), context())
    assert b'{"speed":"\\"calm\\""}' in b"".join(map(bytes, asked.chunks))
    assert registry.APIS["trips"].endpoints["follow"].rest.framing.done == '"END"'
