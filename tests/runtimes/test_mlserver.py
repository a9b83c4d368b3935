"""Errors of a real MLServer in the eyes of real clients: the status its other interface gives, and its own words."""

import pytest

from runtimes import errors, tensors
from runtimes.programs import Client
from runtimes.routes import Route, routes

pytestmark = pytest.mark.runtimes

ROUTES = routes("mlserver")
# the status a model raises: what MLServer's REST interface answers, what its gRPC interface answers
FAILURES = {
    "400": ("400", "INVALID_ARGUMENT"),
    "404": ("404", "NOT_FOUND"),
    "422": ("422", "FAILED_PRECONDITION"),
    "500": ("500", "INTERNAL"),
    "503": ("503", "UNKNOWN"),
}
# what is left to say in REST when the gRPC code is all that is known: it has no code for 503
STATUS_OF_CODE = {
    "INVALID_ARGUMENT": "400",
    "NOT_FOUND": "404",
    "FAILED_PRECONDITION": "422",
    "INTERNAL": "500",
    "UNKNOWN": "500",
}


def expected(route: Route, rest: str, grpc: str) -> str:
    """The status a client should see."""
    if not route.rest_client:
        return grpc
    return STATUS_OF_CODE[grpc] if route.upstream == "grpc" else rest


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("failure", FAILURES)
def test_model_failure(client: Client, route: Route, failure: str) -> None:
    """A model's error arrives with the status MLServer would have given and the model's text."""
    outcome = errors.fail(client, failure)
    assert errors.status(outcome) == expected(route, *FAILURES[failure])
    assert f"asked to fail: {failure} é" in errors.message(outcome)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_crash_of_a_model(client: Client, route: Route) -> None:
    """An exception of a model is an internal error, and the next call works although MLServer drops the connection."""
    for _ in range(3):
        outcome = errors.fail(client, "crash")
        assert errors.status(outcome) == expected(route, "500", "INTERNAL")
        assert errors.message(outcome)
        assert "result" in client.infer("echo", [tensors.edges("INT32").call()])


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_unknown_model(client: Client, route: Route) -> None:
    """A model nobody serves is not found, by name."""
    outcome = errors.unknown_model(client)
    assert errors.status(outcome) == expected(route, "404", "NOT_FOUND")
    assert "nobody" in errors.message(outcome)


@pytest.mark.parametrize("route", [r for r in ROUTES if r.client != "kserve_rest"], ids=str)
def test_unknown_version(client: Client, route: Route) -> None:
    """A version nobody serves is not found."""
    assert errors.status(errors.unknown_version(client)) == expected(route, "404", "NOT_FOUND")


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_wrong_shape(client: Client, route: Route) -> None:
    """A shape the model does not take is the caller's fault, in the model's words."""
    outcome = errors.wrong_shape(client)
    assert errors.status(outcome) == expected(route, "400", "INVALID_ARGUMENT")
    assert "shape" in errors.message(outcome)
