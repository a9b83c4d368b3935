"""Calls that fail, the same for every runtime."""

from typing import Any

from runtimes import tensors
from runtimes.programs import Client


def status(outcome: dict[str, Any]) -> str:
    """The status of a failed call: an HTTP status, or the name of a gRPC code."""
    assert "error" in outcome, outcome
    return str(outcome["error"]["status"]).removeprefix("StatusCode.")


def message(outcome: dict[str, Any]) -> str:
    """The message of a failed call."""
    return str(outcome["error"]["message"])


def fail(client: Client, code: str) -> dict[str, Any]:
    """Ask the failing model for an error."""
    return client.infer("fail", [tensors.text("CODE", code).call()])


def unknown_model(client: Client) -> dict[str, Any]:
    """Infer with a model nobody serves."""
    return client.infer("nobody", [tensors.floats("LEFT", 1).call()])


def unknown_version(client: Client) -> dict[str, Any]:
    """Infer with a version nobody serves."""
    inputs = [tensors.floats("LEFT", 1, 2, 3).call(), tensors.floats("RIGHT", 1, 2, 3).call()]
    return client.infer("add", inputs, version="99")


def wrong_shape(client: Client) -> dict[str, Any]:
    """Infer with two elements where the model takes three."""
    return client.infer("add", [tensors.floats("LEFT", 1, 2).call(), tensors.floats("RIGHT", 1, 2).call()])
