"""Translates single calls offline, without a network: JSON forms in, JSON forms out.

A REST call is `{"method", "path", "headers": [[name, value]…], "body" | "body_base64"}`, its reply has `status`
instead of method and path. A gRPC call is `{"rpc", "metadata", "messages_base64"}`, its reply adds `code`, `details`
and `trailers`. A side is named `API/rest`, `API/grpc`, `runtime/rest` or `runtime/grpc`.
"""

import base64
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from inferbridge.bridge.bridge import Bridge, Crossing
from inferbridge.bridge.context import Policy, RuntimeProfile
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.registry import Api, GrpcHalf, RestHalf
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest, join
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

type Form = Mapping[str, Any]
STRICT = Policy()


class Translator:
    """One pair of sides. Errors of the call come back as the answer that the client would get."""

    def __init__(self, client: str, runtime: str, policy: Policy = STRICT) -> None:
        self._client, self._client_protocol = side(client)
        self._runtime, self._runtime_protocol = side(runtime)
        self._policy = policy
        if self._client.api != self._runtime.api:
            raise ValueError(f"{client} and {runtime} share no API")
        self._api: Api = APIS[self._client.api]
        self._routes = Routes([self._api])

    def call(self, form: Form) -> dict[str, Any]:
        """The runtime's form of a client's call."""
        try:
            return form_of(self._cross(form)[1].call)
        except BridgeError as error:
            return {"error": form_of(self._error(error))}

    def reply(self, form: Form) -> dict[str, Any]:
        """The client's form of `{"request": client's call, "reply": runtime's answer}`."""
        try:
            bridge, crossing = self._cross(form["request"])
            return form_of(bridge.reply(crossing, reply_from(form["reply"], self._runtime_protocol)))
        except BridgeError as error:
            return form_of(self._error(error))

    def _error(self, error: BridgeError) -> HttpReply | GrpcReply:
        return error_reply(error, rest=self._client_protocol == "rest", profile=self._runtime)

    def _cross(self, form: Form) -> tuple[Bridge, Crossing]:
        call = call_from(form, self._client_protocol)
        if isinstance(call, GrpcRequest):
            match = self._routes.rpc(call.rpc)
        else:
            match = self._routes.rest(call.method, call.path)
            call = replace(call, variables=match.variables)
        bridge = self._bridge(match)
        return bridge, bridge.request(call)

    def _bridge(self, match: Match) -> Bridge:
        client = self._half(match, self._client, self._client_protocol)
        runtime = self._half(match, self._runtime, self._runtime_protocol)
        return Bridge(match.endpoint, client, runtime, self._runtime, self._policy)

    def _half(self, match: Match, profile: RuntimeProfile, protocol: str) -> RestHalf | GrpcHalf:
        grpc = self._api.grpc_half(match.endpoint.name, profile.variant)
        half = match.endpoint.rest if protocol == "rest" else grpc
        if half is None:
            raise invalid(f"{match.endpoint.name} has no {protocol} binding")
        return half


def side(text: str) -> tuple[RuntimeProfile, str]:
    """The profile and the protocol that `name/rest` or `name/grpc` means; raises ValueError."""
    name, _, protocol = text.rpartition("/")
    if protocol not in {"rest", "grpc"}:
        raise ValueError(f"{text!r} must end in /rest or /grpc")
    if name in APIS:
        return RuntimeProfile(name=name, api=name, json_doubles=True), protocol
    if name in PROFILES:
        return PROFILES[name][0], protocol
    raise ValueError(f"{name!r} is none of {', '.join(sorted([*APIS, *PROFILES]))}")


def translate_call(client: str, runtime: str, call: Form, policy: Policy = STRICT) -> dict[str, Any]:
    """As `Translator.call`."""
    return Translator(client, runtime, policy).call(call)


def translate_reply(client: str, runtime: str, exchange: Form, policy: Policy = STRICT) -> dict[str, Any]:
    """As `Translator.reply`."""
    return Translator(client, runtime, policy).reply(exchange)


def _headers(value: Any) -> Headers:
    if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in value):
        raise invalid("headers and metadata are lists of [name, value]")
    return tuple((str(name).lower(), str(text)) for name, text in value)


def _body(form: Form) -> bytes:
    if "body_base64" in form:
        return base64.b64decode(form["body_base64"])
    return str(form.get("body", "")).encode()


def _messages(form: Form) -> tuple[tuple[bytes, ...], ...]:
    return tuple((base64.b64decode(text),) for text in form.get("messages_base64", []))


def call_from(form: Form, protocol: str) -> HttpRequest | GrpcRequest:
    """A call from its JSON form."""
    try:
        if protocol == "rest":
            return HttpRequest(form["method"], form["path"], _headers(form.get("headers", [])), (_body(form),))
        return GrpcRequest(form["rpc"], _headers(form.get("metadata", [])), _messages(form))
    except KeyError as error:
        raise invalid(f"the call has no {error}") from None


def reply_from(form: Form, protocol: str) -> HttpReply | GrpcReply:
    """A reply from its JSON form."""
    if protocol == "rest":
        return HttpReply(form["status"], _headers(form.get("headers", [])), (_body(form),))
    headers, trailers = _headers(form.get("metadata", [])), _headers(form.get("trailers", []))
    return GrpcReply(form.get("code", 0), form.get("details", ""), headers, _messages(form), trailers)


def form_of(value: HttpRequest | HttpReply | GrpcRequest | GrpcReply) -> dict[str, Any]:
    """The JSON form of a call or reply."""
    if isinstance(value, HttpRequest):
        return {"method": value.method, "path": value.path, **_http_rest(value)}
    if isinstance(value, HttpReply):
        return {"status": value.status, **_http_rest(value)}
    messages = [base64.b64encode(join(chunks) if chunks else b"").decode() for chunks in value.messages]
    if isinstance(value, GrpcRequest):
        return {"rpc": value.rpc, "metadata": [list(pair) for pair in value.metadata], "messages_base64": messages}
    return {
        "code": value.code,
        "details": value.details,
        "metadata": [list(pair) for pair in value.metadata],
        "messages_base64": messages,
        "trailers": [list(pair) for pair in value.trailers],
    }


def _http_rest(value: HttpRequest | HttpReply) -> dict[str, Any]:
    body = bytes(join(value.chunks)) if value.chunks else b""
    headers = [list(pair) for pair in value.headers]
    try:
        return {"headers": headers, "body": body.decode()}
    except UnicodeDecodeError:
        return {"headers": headers, "body_base64": base64.b64encode(body).decode()}
