"""The work of the gateway: routes each call, takes it over a bridge to a runtime, and brings the answer back.

A call whose binding the runtime speaks itself is passed through: its body is not read, and the answer streams. All
others are collected, translated and sent. Whatever fails is answered in the client's dialect.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from inferbridge.bridge.bridge import Bridge, Crossing
from inferbridge.bridge.context import Context, Policy
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame, parse_timeout, timeout_text, too_large, unframe
from inferbridge.bridge.registry import Api, GrpcHalf, RestHalf
from inferbridge.bridge.rest import HEADER_LENGTH, JSON_HEADERS
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import Buffer, GrpcRequest, HttpRequest, header, join
from inferbridge.gateway.answers import (
    CREDENTIALS,
    GRPC_HEADERS,
    PassthroughAnswer,
    TranslatedAnswer,
    answer,
    crossing_headers,
    is_grpc,
)
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.targets import Target, choose
from inferbridge.upstream.api import Call, Receiver, UpstreamRequest

_REMEMBERED_PATHS = 1024


class GatewayService:
    """The `Application` of the gateway."""

    def __init__(self, targets: Sequence[Target], apis: Mapping[str, Api], policy: Policy, limits: Limits) -> None:
        self.targets = targets
        self.policy = policy
        self.limits = limits
        routes = Routes(apis.values())
        self._rpc = routes.rpc
        self._rest = lru_cache(_REMEMBERED_PATHS)(routes.rest)
        self._bridges: dict[tuple[str, str, str], Bridge] = {}

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        exchange = Exchange(self, head, responder)
        exchange.begin()
        return exchange

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer an error in the dialect that the head asks for."""
        answer(error_reply(error, rest=head is None or not is_grpc(head)), responder)

    def match(self, head: RequestHead) -> Match:
        """The endpoint of a call."""
        return self._rpc(head.target) if is_grpc(head) else self._rest(head.method, head.target)

    def bridge(self, match: Match, protocol: str, target: Target) -> Bridge:
        """The bridge between a client's protocol and a target, for one endpoint."""
        key = (match.endpoint.name, protocol, target.name)
        bridge = self._bridges.get(key)
        if bridge is None:
            runtime = target.half(match.api, match.endpoint.name)
            client = client_half(match, protocol, target)
            if runtime is None:
                raise BridgeError(Code.UNIMPLEMENTED, f"{target.name} does not speak {match.endpoint.name}")
            bridge = Bridge(match.endpoint, client, runtime, target.profile, self.policy)
            self._bridges[key] = bridge
        return bridge


def client_half(match: Match, protocol: str, target: Target | None) -> RestHalf | GrpcHalf:
    """How the client speaks the endpoint; a gRPC client of a variant runtime speaks its variant."""
    variant = target.profile.variant if target else ""
    half = match.endpoint.rest if protocol == "rest" else match.api.grpc_half(match.endpoint.name, variant)
    if half is None:
        raise BridgeError(Code.UNIMPLEMENTED, f"{match.endpoint.name} has no {protocol} binding")
    return half


class Exchange:
    """One call in flight: collects the client's body and sends it on."""

    def __init__(self, service: GatewayService, head: RequestHead, responder: Responder) -> None:
        self._service = service
        self._head = head
        self._responder = responder
        self._protocol = "grpc" if is_grpc(head) else "rest"
        self._chunks: list[Buffer] = []
        self._size = 0
        self._done = False
        self._call: Call | None = None
        self._match: Match | None = None
        self._bridge: Bridge | None = None

    def begin(self) -> None:
        """Find the endpoint; a call without one is answered at once."""
        try:
            self._match = self._service.match(self._head)
        except BridgeError as error:
            self._fail(error)

    # the client's body

    def on_data(self, data: Buffer) -> None:
        """A piece of the client's body."""
        if self._done:
            return
        self._size += len(data)
        limits = self._service.limits
        limit = limits.message_bytes + 5 if self._protocol == "grpc" else limits.body_bytes
        if self._size > limit:
            self._fail(too_large(self._size, limit))
        else:
            self._chunks.append(data)

    def on_end(self) -> None:
        """The client's body is complete: send the call."""
        if self._done:
            return
        try:
            self._send()
        except BridgeError as error:
            self._fail(error)

    def on_cancel(self) -> None:
        """The client went away."""
        self._done = True
        if self._call is not None:
            self._call.cancel()

    def _send(self) -> None:
        assert self._match is not None  # a call without a match is done
        target = choose(self._service.targets, self._match, self._protocol, self._model)
        timeout = self._timeout()
        if target.protocol == self._protocol and not self._needs_translation(target):
            request = self._passthrough()
            receiver: Receiver = PassthroughAnswer(self._responder, self._protocol == "grpc")
        else:
            self._bridge = self._service.bridge(self._match, self._protocol, target)
            crossing = self._bridge.request(self._client_call())
            request = self._translated(crossing, timeout)
            receiver = TranslatedAnswer(self._bridge, crossing, self._responder, self._service.limits)
        self._done, self._chunks = True, []
        self._call = target.pool.send(request, receiver, timeout)

    def _needs_translation(self, target: Target) -> bool:
        """A REST runtime without the binary tensor extension cannot take the call of a client that uses it."""
        if self._protocol == "grpc" or target.profile.binary_tensors:
            return False
        uses = header(self._head.headers, HEADER_LENGTH) is not None or header(self._head.headers, "content-encoding")
        return bool(uses) or any(b"binary_data" in bytes(chunk) for chunk in (join(self._chunks),) if self._chunks)

    @property
    def _idempotent(self) -> bool:
        return self._match is not None and self._match.endpoint.idempotent

    def _timeout(self) -> float:
        limit = self._service.limits.call_seconds
        text = header(self._head.headers, "grpc-timeout")
        return limit if text is None else min(limit, parse_timeout(text))

    def _model(self) -> str:
        assert self._match is not None  # as in _send
        if self._protocol == "rest":
            return self._match.variables.get("model", "")
        bridge = self._service.bridge(self._match, "grpc", self._service.targets[0])
        request = bridge.client.decode_request(self._client_call(), Context(bridge.profile, bridge.policy))  # type: ignore[arg-type]  # both are gRPC
        return str(getattr(request, "model", ""))

    def _client_call(self) -> HttpRequest | GrpcRequest:
        assert self._match is not None  # as in _send
        head = self._head
        if self._protocol == "rest":
            return HttpRequest(head.method, head.target, head.headers, self._chunks, self._match.variables)
        body = join(self._chunks) if self._chunks else b""
        encoding = header(head.headers, "grpc-encoding") or "identity"
        return GrpcRequest(head.target, head.headers, unframe(body, encoding, self._service.limits.message_bytes))

    def _passthrough(self) -> UpstreamRequest:
        head = self._head
        headers = tuple(pair for pair in head.headers if pair[0] not in CREDENTIALS)
        if self._protocol == "rest" and self._chunks and header(headers, HEADER_LENGTH) is None:
            # V2 clients send JSON as octet-stream, form data or nothing at all; FastAPI runtimes insist on its own type
            headers = (*(pair for pair in headers if pair[0] != "content-type"), *JSON_HEADERS)
        return UpstreamRequest(head.method, head.target, headers, self._chunks, self._idempotent)

    def _translated(self, crossing: Crossing, timeout: float) -> UpstreamRequest:
        call, headers = crossing.call, crossing_headers(self._head.headers)
        if isinstance(call, HttpRequest):
            return UpstreamRequest(call.method, call.path, (*call.headers, *headers), call.chunks, self._idempotent)
        own = (*GRPC_HEADERS, ("te", "trailers"), ("grpc-timeout", timeout_text(timeout)))
        return UpstreamRequest("POST", call.rpc, (*own, *headers), frame(call.messages), self._idempotent)

    def _fail(self, error: BridgeError) -> None:
        if self._done:
            return
        self._done = True
        self._chunks = []
        if self._bridge is not None:
            answer(self._bridge.error(error), self._responder)
        else:
            self._service.refuse(error, self._head, self._responder)
