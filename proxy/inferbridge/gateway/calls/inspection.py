"""What a call asks for, read from its body before anything is sent, where that decides whether it may be sent.

The body is read as the runtime will read it: by the half-bridge of the client's own binding. A body that goes on
unread afterwards must also mean the same to everybody, so JSON that names a member twice is refused: readers differ in
which one they take.
"""

import json
from dataclasses import replace
from typing import Any

from inferbridge.auth.rules import Asked
from inferbridge.bridge.bridge import Bridge
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.outgoing import adapter_name
from inferbridge.bridge.values import GrpcRequest, HttpRequest
from inferbridge.gateway.calls.route import Route

MODEL_HEADER = "mm-model-id"
"""Metadata in which clients of ModelMesh and Caikit name the model."""


def inspect(call: HttpRequest | GrpcRequest, bridge: Bridge, route: Route, size: int) -> None:
    """Raise unless the call may be sent: Forbidden, or INVALID_ARGUMENT for a model with two names.

    A LoRA adapter that is named beside the model must be allowed as the model that it is to clients of other APIs.
    """
    request = bridge.read(call)
    asked = _asked(request, bridge, route, size)
    route.permit.check(asked)
    adapter = getattr(request, "adapter", "")
    if adapter:
        known = bridge.setting.adapters
        route.permit.check(replace(asked, model=adapter_name(adapter, known) or adapter))


def _asked(request: Any, bridge: Bridge, route: Route, size: int) -> Asked:
    tokens = getattr(request, "max_tokens", None)
    if tokens is None:
        tokens = bridge.client.half.defaults.get("max_tokens")
    return Asked(_model(request, bridge, route), tokens, hasattr(request, "max_tokens"), size)


def _model(request: Any, bridge: Bridge, route: Route) -> str | None:
    if not hasattr(request, "model"):
        return None
    model, named = str(request.model or "") or bridge.setting.default_model, route.named_model
    if model and named and model != named:
        raise invalid(f"the call is for the model {model!r}, its {MODEL_HEADER} for {named!r}")
    return model or named


def refuse_repeated_names(body: bytes) -> None:
    """INVALID_ARGUMENT for JSON with an object that names a member twice."""
    try:
        json.loads(body or b"null", object_pairs_hook=_unique)
    except RecursionError:
        raise invalid("the body is nested too deeply") from None
    except ValueError as error:
        raise invalid(f"the body is no JSON: {error}") from None


def _unique(members: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in members]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise invalid(f"the member {repeated[:64]!r} is named twice")
