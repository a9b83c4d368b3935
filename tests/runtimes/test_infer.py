"""Inference from real clients through the proxy into real servers: every value comes back with the bits it left with.

The direct routes, without the proxy, check the checks: what they expect is what the servers really do.
"""

from typing import Any

import pytest

from runtimes import tensors
from runtimes.programs import Client
from runtimes.routes import Route, routes
from runtimes.tensors import DATATYPES, FLOATS, Tensor

pytestmark = pytest.mark.runtimes

ROUTES = routes()
JSON_ROUTES = [route for route in ROUTES if route.rest_client]


def echo(client: Client, *sent: Tensor, binary: bool = True, route: Route) -> dict[str, Any]:
    """Send tensors to the model that returns them, in the binary form the client has or as JSON data."""
    inputs = [tensor.call(binary=binary) for tensor in sent]
    fields: dict[str, Any] = {}
    if route.kserve_client and route.rest_client:
        fields["parameters"] = {"binary_data_output": binary}  # its default is JSON
    elif route.rest_client:
        fields["outputs"] = [{"name": tensor.name, "binary": binary} for tensor in sent]
    return client.infer("echo", inputs, id="bits", **fields)


def returned(outcome: dict[str, Any]) -> list[dict[str, Any]]:
    """The output tensors of a result, in the order of their names."""
    assert "result" in outcome, outcome
    return sorted(outcome["result"]["outputs"], key=lambda output: str(output["name"]))


def served(route: Route, datatype: str) -> bool:
    """Whether runtime and client know the datatype: MLServer and kserve's clients have no BF16."""
    return datatype != "BF16" or (route.runtime != "mlserver" and not route.kserve_client)


def pairs(chosen: list[Route], datatypes: tuple[str, ...]) -> list[Any]:
    """Parameters for route and datatype, without those the runtime or the client does not know."""
    return [
        pytest.param(route, datatype, id=f"{route}-{datatype}")
        for route in chosen
        for datatype in datatypes
        if served(route, datatype)
    ]


@pytest.mark.parametrize(("route", "datatype"), pairs(ROUTES, DATATYPES))
def test_binary_echo(client: Client, route: Route, datatype: str) -> None:
    """A binary tensor of any datatype comes back bit for bit, edge values included."""
    sent = tensors.edges(datatype)
    assert returned(echo(client, sent, route=route)) == [sent.result()]


def json_pairs() -> list[Any]:
    """JSON routes and the datatypes that survive there: Triton's own JSON has no FP16 and rounds FP64."""
    return [
        *pairs([r for r in JSON_ROUTES if not r.translated], _without("BF16", "FP16", "FP64")),
        *pairs([r for r in JSON_ROUTES if r.translated and r.kserve_client], _without("BF16", "FP16")),
        *pairs([r for r in JSON_ROUTES if r.translated and not r.kserve_client], _without("BF16")),
    ]


def _without(*datatypes: str) -> tuple[str, ...]:
    return tuple(each for each in DATATYPES if each not in datatypes)


@pytest.mark.parametrize(("route", "datatype"), json_pairs())
def test_json_echo(client: Client, route: Route, datatype: str) -> None:
    """A tensor sent and asked for as JSON numbers or texts comes back bit for bit, edge values included."""
    sent = tensors.edges(datatype)
    assert returned(echo(client, sent, binary=False, route=route)) == [sent.result()]


@pytest.mark.parametrize("route", [r for r in ROUTES if r.client == "kserve_grpc"], ids=str)
@pytest.mark.parametrize("datatype", _without("FP16", "BF16"))
def test_contents_echo(client: Client, route: Route, datatype: str) -> None:
    """A tensor in typed gRPC contents, as kserve's client sends JSON-like data, comes back bit for bit."""
    sent = tensors.edges(datatype)
    assert returned(echo(client, sent, binary=False, route=route)) == [sent.result()]


def speaks_json_upstream(route: Route) -> bool:
    """Whether values must cross as JSON: MLServer's REST interface knows no binary tensors."""
    return route.runtime == "mlserver" and route.upstream == "rest"


@pytest.mark.parametrize(
    ("route", "datatype"), pairs([r for r in ROUTES if not speaks_json_upstream(r)], tuple(FLOATS))
)
def test_not_a_number_echo(client: Client, route: Route, datatype: str) -> None:
    """Infinities and not-a-numbers cross in binary tensors with sign and payload."""
    sent = tensors.specials(datatype)
    assert returned(echo(client, sent, route=route)) == [sent.result()]


@pytest.mark.parametrize("route", [r for r in ROUTES if speaks_json_upstream(r)], ids=str)
def test_not_a_number_is_refused_where_it_cannot_cross(client: Client, route: Route) -> None:
    """A not-a-number bound for a JSON-only runtime is an error that names the tensor, never another value."""
    outcome = echo(client, tensors.specials("FP32"), route=route)
    assert outcome["error"]["status"] == "StatusCode.INVALID_ARGUMENT", outcome
    assert "FP32" in outcome["error"]["message"]


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if not speaks_json_upstream(r) and r.client != "kserve_rest"], ids=str
)
def test_bytes_that_are_no_text(client: Client, route: Route) -> None:
    """BYTES that are no UTF-8 cross in binary tensors (kserve's REST client cannot read them from any server)."""
    sent = tensors.not_text()
    assert returned(echo(client, sent, route=route)) == [sent.result()]


@pytest.mark.parametrize("route", [r for r in ROUTES if speaks_json_upstream(r)], ids=str)
def test_bytes_that_are_no_text_are_refused_where_they_cannot_cross(client: Client, route: Route) -> None:
    """BYTES that are no UTF-8, bound for a JSON-only runtime, are an error that names the tensor."""
    outcome = echo(client, tensors.not_text(), route=route)
    assert outcome["error"]["status"] == "StatusCode.INVALID_ARGUMENT", outcome
    assert "BYTES" in outcome["error"]["message"]


@pytest.mark.parametrize("route", [r for r in JSON_ROUTES if r.translated], ids=str)
def test_bytes_that_are_no_text_are_no_json(client: Client, route: Route) -> None:
    """BYTES that are no UTF-8, asked for as JSON, are an error, never a damaged text."""
    sent = tensors.not_text()
    choice: dict[str, Any] = {"outputs": [{"name": "BYTES", "binary": False}]}
    outcome = client.infer("echo", [sent.call()], **choice)
    assert "result" not in outcome, outcome
    assert int(outcome["error"]["status"]) >= 400


@pytest.mark.parametrize("route", [r for r in ROUTES if r.runtime == "mlserver" and not r.kserve_client], ids=str)
def test_unknown_datatype_is_refused(client: Client, route: Route) -> None:
    """A datatype MLServer does not have is an error in the client's own form."""
    outcome = echo(client, tensors.edges("BF16"), route=route)
    assert "result" not in outcome
    assert outcome["error"]["message"]


@pytest.mark.parametrize("route", [r for r in ROUTES if r.client != "kserve_rest"], ids=str)
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_empty_tensor(client: Client, route: Route, datatype: str) -> None:
    """A tensor without elements keeps its shape (kserve's REST client sends `null` for it, a V2 error)."""
    sent = tensors.empty(datatype)
    assert returned(echo(client, sent, route=route)) == [sent.result()]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_many_tensors(client: Client, route: Route) -> None:
    """Tensors of all datatypes in one request keep their names, shapes and values."""
    sent = [tensors.edges(datatype) for datatype in DATATYPES if served(route, datatype)]
    assert returned(echo(client, *sent, route=route)) == sorted(
        (each.result() for each in sent), key=lambda output: str(output["name"])
    )


@pytest.mark.parametrize("route", [r for r in JSON_ROUTES if not r.kserve_client], ids=str)
def test_json_and_binary_in_one_request(client: Client, route: Route) -> None:
    """A request may mix JSON and binary tensors, and ask for either form of each output."""
    first, second, third = tensors.edges("FP32"), tensors.edges("INT64"), tensors.edges("BYTES")
    inputs = [first.call(binary=False), second.call(), third.call(binary=False)]
    outputs = [{"name": "FP32", "binary": True}, {"name": "INT64", "binary": False}, {"name": "BYTES", "binary": True}]
    got = returned(client.infer("echo", inputs, outputs=outputs))
    assert got == sorted((each.result() for each in (first, second, third)), key=lambda output: str(output["name"]))


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_large_tensor(client: Client, route: Route) -> None:
    """A tensor of a megabyte comes back bit for bit."""
    count = 1 << 18
    raw = bytes(range(1, 128)) * (4 * count // 127 + 1)  # no byte pattern of it is an infinity
    sent = Tensor("FP32", "FP32", (1, count), raw[: 4 * count])
    assert returned(echo(client, sent, route=route)) == [sent.result()]


VERSION_ROUTES = [route for route in ROUTES if route.client != "kserve_rest"]


def add(client: Client, **fields: Any) -> dict[str, Any]:
    """Call the model that adds and subtracts."""
    inputs = [tensors.floats("LEFT", 1, 2, 3).call(), tensors.floats("RIGHT", 0.5, -2, 4).call()]
    return client.infer("add", inputs, **fields)


@pytest.mark.parametrize("route", VERSION_ROUTES, ids=str)
@pytest.mark.parametrize(("asked", "answered"), [("1", "1"), ("2", "2"), ("", "2")])
def test_version(client: Client, route: Route, asked: str, answered: str) -> None:
    """The version asked for is the one that answers; without one it is the newest."""
    outcome = add(client, version=asked)
    assert outcome["result"]["version"] == answered, outcome
    assert outcome["result"]["model"] == "add"


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_requested_outputs(client: Client, route: Route) -> None:
    """Only the output that was asked for comes back."""
    outcome = add(client, outputs=[{"name": "DIFFERENCE"}])
    assert returned(outcome) == [tensors.floats("DIFFERENCE", 0.5, 4, -1).result()]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_all_outputs_without_a_request(client: Client, route: Route) -> None:
    """Without requested outputs all of them come back."""
    expected = [tensors.floats("DIFFERENCE", 0.5, 4, -1).result(), tensors.floats("SUM", 1.5, 0, 7).result()]
    assert returned(add(client)) == expected


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_request_id(client: Client, route: Route) -> None:
    """The request id comes back."""
    assert add(client, id="request-7")["result"]["id"] == "request-7"
