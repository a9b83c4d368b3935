"""What a record would say of a call that was not recorded by the gateway, as far as the specs know such calls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import header, join
from inferbridge.inspect.known import find_method, known_routes

if TYPE_CHECKING:
    from inferbridge.recorded.exchanges import Message

_READ_BYTES = 1 << 20
_MODEL = ("model", "model_name", "model_id")
"""Names of the model in bodies and paths, of all shipped APIs."""


def facts_of(protocol: str, asked: "Message", told: "Message | None", times: Mapping[str, float]) -> Mapping[str, Any]:
    """API, operation and model where they are known, statuses and times; by the names of the access log."""
    match = find_endpoint(protocol, asked.method, asked.target)
    facts: dict[str, Any] = {"method": asked.method}
    if match is not None:
        facts |= {"api": match.api.name, "operation": match.endpoint.operation}
    if model := _model(protocol, asked, match):
        facts["model"] = model
    if told is not None:
        facts["status"] = told.status
        code = header(told.trailers, "grpc-status") or header(told.headers, "grpc-status") or ""
        if protocol == "grpc" and code.isascii() and code.isdecimal():
            facts["grpc_status"] = int(code[:9])
    for name, key in (("first_byte", "ttft_ms"), ("ended", "duration_ms")):
        if name in times:
            facts[key] = times[name] * 1000
    return facts


def find_endpoint(protocol: str, method: str, target: str) -> Match | None:
    """The endpoint that a call means; None where no spec has it."""
    path = target.partition("?")[0]
    try:
        return known_routes().rpc(path) if protocol == "grpc" else known_routes().rest(method, path)[0]
    except BridgeError:
        return None


def _model(protocol: str, asked: "Message", match: Match | None) -> str:
    variables = match.variables if match is not None else {}
    values: Mapping[str, Any] = {**variables, **_body(protocol, asked)}
    return next((value for name in _MODEL if isinstance(value := values.get(name), str) and value), "")


def _body(protocol: str, asked: "Message") -> Mapping[str, Any]:
    """The members of the request; none where it is no object, or too large to look for a name in it."""
    if len(asked.body) > _READ_BYTES:
        return {}
    try:
        value = _message(asked) if protocol == "grpc" else msgspec.json.decode(asked.body)
    except (BridgeError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(asked: "Message") -> Any:
    from google.protobuf.message import DecodeError
    from google.protobuf.message_factory import GetMessageClass

    method = find_method(asked.target)
    messages = unframe(asked.body, header(asked.headers, "grpc-encoding") or "identity", _READ_BYTES)
    if method is None or not messages or not messages[0]:
        return {}
    try:
        message = GetMessageClass(method.input_type).FromString(bytes(join(messages[0])))
    except DecodeError:
        return {}
    return {name: getattr(message, name) for name in _MODEL if name in method.input_type.fields_by_name}
