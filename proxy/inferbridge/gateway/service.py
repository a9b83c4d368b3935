"""The work of the gateway: routes each call, takes it over a bridge to a runtime, and brings the answer back.

A call whose binding the runtime speaks itself is passed through: its body is not read, and the answer streams. All
others are collected, translated and sent. Whatever fails is answered in the client's dialect. What follows from the
head of a call alone is worked out once and remembered with the head (`Route`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from inferbridge.bridge.bridge import Bridge, Crossing
from inferbridge.bridge.context import Context, Policy
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import PREFIX_BYTES, frame, parse_timeout, timeout_text, too_large, unframe
from inferbridge.bridge.registry import Api, GrpcHalf, RestHalf
from inferbridge.bridge.rest import HEADER_LENGTH, JSON_HEADERS
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import Buffer, GrpcRequest, Headers, HttpRequest, header, join
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
from inferbridge.gateway.targets import Target, able, choose
from inferbridge.upstream.api import Call, Receiver, UpstreamRequest

_REMEMBERED_PATHS = 1024


@dataclass(frozen=True, slots=True)
class Route:
    """What follows from a call's head alone."""

    protocol: str
    """`rest` or `grpc`."""
    match: Match
    targets: tuple[Target, ...]
    """Those that speak the endpoint."""
    timeout: float
    """Seconds the runtime may take."""
    body_limit: int
    """Bytes."""
    crossing: Headers
    """What of the client's headers goes over a bridge."""
    grpc: Headers
    """The same for a gRPC runtime, with what every gRPC request needs."""


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

    def route(self, head: RequestHead) -> Route:
        """Where a call goes; raises `BridgeError`."""
        route: Route | None = head.memo.get("route")
        if route is None:
            route = head.memo["route"] = self._find_route(head)
        return route

    def _find_route(self, head: RequestHead) -> Route:
        grpc, limits = is_grpc(head), self.limits
        match = self._rpc(head.target) if grpc else self._rest(head.method, head.target)
        text = header(head.headers, "grpc-timeout")
        timeout = limits.call_seconds if text is None else min(limits.call_seconds, parse_timeout(text))
        crossing = crossing_headers(head.headers)
        return Route(
            "grpc" if grpc else "rest",
            match,
            tuple(able(self.targets, match)),
            timeout,
            limits.message_bytes + PREFIX_BYTES if grpc else limits.body_bytes,
            crossing,
            (*GRPC_HEADERS, ("te", "trailers"), ("grpc-timeout", timeout_text(timeout)), *crossing),
        )

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

    __slots__ = ("_bridge", "_call", "_chunks", "_done", "_head", "_responder", "_route", "_service", "_size")

    def __init__(self, service: GatewayService, head: RequestHead, responder: Responder) -> None:
        self._service = service
        self._head = head
        self._responder = responder
        self._chunks: list[Buffer] = []
        self._size = 0
        self._done = False
        self._call: Call | None = None
        self._route: Route | None = None
        self._bridge: Bridge | None = None

    @property
    def route(self) -> Route:
        """Where the call goes; a call without a route is done before anybody asks."""
        assert self._route is not None
        return self._route

    def begin(self) -> None:
        """Find the endpoint; a call without one is answered at once."""
        try:
            self._route = self._service.route(self._head)
        except BridgeError as error:
            self._fail(error)

    # the client's body

    def on_data(self, data: Buffer) -> None:
        """A piece of the client's body."""
        if self._done:
            return
        self._size += len(data)
        if self._size > self.route.body_limit:
            self._fail(too_large(self._size, self.route.body_limit))
        else:
            self._chunks.append(data)

    def on_end(self) -> None:
        """The client's body is complete: send the call."""
        if self._done:
            return
        try:
            self._send(self.route)
        except BridgeError as error:
            self._fail(error)

    def on_cancel(self) -> None:
        """The client went away."""
        self._done = True
        if self._call is not None:
            self._call.cancel()

    def _send(self, route: Route) -> None:
        target = choose(route.targets, route.protocol, self._model)
        if target.protocol == route.protocol and not self._needs_translation(target):
            request = self._passthrough(route)
            receiver: Receiver = PassthroughAnswer(self._responder, route.protocol == "grpc")
        else:
            self._bridge = self._service.bridge(route.match, route.protocol, target)
            crossing = self._bridge.request(self._client_call(route))
            request = self._translated(crossing, route)
            receiver = TranslatedAnswer(self._bridge, crossing, self._responder, self._service.limits)
        self._done, self._chunks = True, []
        self._call = target.pool.send(request, receiver, route.timeout)

    def _needs_translation(self, target: Target) -> bool:
        """A REST runtime without the binary tensor extension cannot take the call of a client that uses it."""
        if target.protocol == "grpc" or target.profile.binary_tensors:
            return False
        uses = header(self._head.headers, HEADER_LENGTH) is not None or header(self._head.headers, "content-encoding")
        return bool(uses) or any(b"binary_data" in bytes(chunk) for chunk in (join(self._chunks),) if self._chunks)

    def _model(self) -> str:
        route = self.route
        if route.protocol == "rest":
            return route.match.variables.get("model", "")
        bridge = self._service.bridge(route.match, "grpc", route.targets[0])
        request = bridge.client.decode_request(self._client_call(route), Context(bridge.profile, bridge.policy))  # type: ignore[arg-type]  # both are gRPC
        return str(getattr(request, "model", ""))

    def _client_call(self, route: Route) -> HttpRequest | GrpcRequest:
        head = self._head
        if route.protocol == "rest":
            return HttpRequest(head.method, head.target, head.headers, self._chunks, route.match.variables)
        body = join(self._chunks) if self._chunks else b""
        encoding = header(head.headers, "grpc-encoding") or "identity"
        return GrpcRequest(head.target, head.headers, unframe(body, encoding, self._service.limits.message_bytes))

    def _passthrough(self, route: Route) -> UpstreamRequest:
        head = self._head
        headers = tuple(pair for pair in head.headers if pair[0] not in CREDENTIALS)
        if route.protocol == "rest" and self._chunks and header(headers, HEADER_LENGTH) is None:
            # V2 clients send JSON as octet-stream, form data or nothing at all; FastAPI runtimes insist on its own type
            headers = (*(pair for pair in headers if pair[0] != "content-type"), *JSON_HEADERS)
        return UpstreamRequest(head.method, head.target, headers, self._chunks, route.match.endpoint.idempotent)

    def _translated(self, crossing: Crossing, route: Route) -> UpstreamRequest:
        call, idempotent = crossing.call, route.match.endpoint.idempotent
        if isinstance(call, HttpRequest):
            return UpstreamRequest(call.method, call.path, (*call.headers, *route.crossing), call.chunks, idempotent)
        return UpstreamRequest("POST", call.rpc, route.grpc, frame(call.messages), idempotent)

    def _fail(self, error: BridgeError) -> None:
        if self._done:
            return
        self._done = True
        self._chunks = []
        if self._bridge is not None:
            answer(self._bridge.error(error), self._responder)
        else:
            self._service.refuse(error, self._head, self._responder)
