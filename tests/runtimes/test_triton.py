"""Errors of a real Triton in the eyes of real clients: the status its other interface gives, and its own words."""

import pytest

from runtimes import errors
from runtimes.programs import Client
from runtimes.routes import Route, routes

pytestmark = pytest.mark.runtimes

ROUTES = routes("triton")
# what a model raises: the status Triton's REST interface gives it, the code its gRPC interface gives it
FAILURES = {
    "UNKNOWN": ("400", "UNKNOWN"),
    "INTERNAL": ("500", "INTERNAL"),
    "NOT_FOUND": ("404", "NOT_FOUND"),
    "INVALID_ARG": ("400", "INVALID_ARGUMENT"),
    "UNAVAILABLE": ("503", "UNAVAILABLE"),
    "UNSUPPORTED": ("501", "UNIMPLEMENTED"),
    "ALREADY_EXISTS": ("400", "ALREADY_EXISTS"),
    "CANCELLED": ("400", "CANCELLED"),
}
# what is left to say in gRPC when the REST status is all that is known
CODE_OF_STATUS = {
    "400": "INVALID_ARGUMENT",
    "404": "NOT_FOUND",
    "500": "INTERNAL",
    "501": "UNIMPLEMENTED",
    "503": "UNAVAILABLE",
}


def expected(route: Route, rest: str, grpc: str) -> str:
    """The status a client should see."""
    if route.rest_client:
        return rest
    return CODE_OF_STATUS[rest] if route.upstream == "rest" else grpc


@pytest.mark.parametrize("route", ROUTES, ids=str)
@pytest.mark.parametrize("failure", FAILURES)
def test_model_failure(client: Client, route: Route, failure: str) -> None:
    """A model's error arrives with the status Triton would have given and the model's text."""
    outcome = errors.fail(client, failure)
    assert errors.status(outcome) == expected(route, *FAILURES[failure])
    assert f"asked to fail: {failure} é" in errors.message(outcome)


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
    """A shape the model does not take is the caller's fault, in Triton's words."""
    outcome = errors.wrong_shape(client)
    assert errors.status(outcome) == expected(route, "400", "INVALID_ARGUMENT")
    assert "shape" in errors.message(outcome)
