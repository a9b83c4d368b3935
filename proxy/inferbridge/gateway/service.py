"""The work of the gateway: routes each call, takes it over a bridge to a runtime, and brings the answer back.

A call whose binding the runtime speaks itself is passed through: its body is not read, and the answer streams. All
others are collected, translated and sent. Whatever fails is answered in the client's dialect. What follows from the
head of a call alone is worked out once and remembered with the head (`Route`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from inferbridge.auth.rates import Lease, RateLimiter
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import Rates
from inferbridge.bridge.accept import StreamForm, rest_stream_form
from inferbridge.bridge.bridge import Bridge, End
from inferbridge.bridge.context import Policy
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import (
    GRPC_HEADERS,
    PREFIX_BYTES,
    timeout_text,
)
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import Api
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import header
from inferbridge.gateway.answering import answer, crossing_headers, is_grpc
from inferbridge.gateway.application import RefusedCall, RequestHead, RequestSink, Responder
from inferbridge.gateway.calls.deadlines import allowed, sent_on
from inferbridge.gateway.calls.duplex import DuplexExchange, duplex_rpcs
from inferbridge.gateway.calls.exchange import Exchange
from inferbridge.gateway.calls.inspection import MODEL_HEADER
from inferbridge.gateway.calls.limiting import LimitedCall
from inferbridge.gateway.calls.listing import sources
from inferbridge.gateway.calls.losses import Losses
from inferbridge.gateway.calls.readiness import Readiness
from inferbridge.gateway.calls.route import Route, note_route, template
from inferbridge.gateway.calls.targets import Target, able, owner
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.local.services import HEALTH, REFLECTIONS, LocalServices
from inferbridge.gateway.record import bounded
from inferbridge.gateway.records.metering import Metering
from inferbridge.gateway.rest_services.calls import RestServices

_REMEMBERED_PATHS = 1024
_BODILESS = frozenset({"GET", "HEAD"})
"""Methods whose body means nothing: a runtime that does not even read it would take it for the next request."""
_HEALTH = frozenset({"server_ready"})
"""Operations that anybody may call where health is public: a model's readiness tells which models there are."""


class GatewayService:
    """The `Application` of the gateway."""

    def __init__(
        self,
        targets: Sequence[Target],
        apis: Mapping[str, Api],
        policy: Policy,
        limits: Limits,
        local: LocalServices | None = None,
        authorizer: Authorizer | None = None,
        counters: Counters = NO_COUNTERS,
        limiter: RateLimiter | None = None,
    ) -> None:
        self.losses = Losses(counters, targets, apis)
        self.local = local
        """What the gateway answers itself."""
        self.connect: ConnectGateway | None = None
        """Makes gRPC calls of plain JSON."""
        self.rest_services: RestServices | None = None
        """Makes REST calls of gRPC, for APIs that are REST alone."""
        self.upstreams = Readiness({})
        """Whether upstreams are ready, by their names."""
        self.targets = targets
        self.policy = policy
        self.limits = limits
        self.metering = Metering(limits)
        self._authorizer = authorizer or Authorizer()
        self._limiter = limiter or RateLimiter()
        self._limits_rates = any(rule.rates is not None for rule in self._authorizer.rules)
        routes = Routes(apis.values())
        self._rpc = routes.rpc
        self._rest = lru_cache(_REMEMBERED_PATHS)(routes.rest)
        self._apis = apis
        self._dialects = {
            path.split("/")[1]: api.errors
            for api in reversed(list(apis.values()))
            for endpoint in api.endpoints.values()
            if endpoint.rest is not None
            for path in (*endpoint.rest.paths, *endpoint.rest.aliases)
        }
        self._duplex = duplex_rpcs(apis.values())
        self._bridges: dict[tuple[str, ...], Bridge] = {}

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        local = self.local.find(head) if self.local is not None else None
        if local is not None:
            if responder.record is not None:
                responder.record.routed("", "reflection" if "reflection" in head.target else "health", head.target)
            return local(head, responder)
        connect = self.connect.find(head) if self.connect is not None else None
        if connect is not None:
            return connect(head, responder)
        rest = self.rest_services.find(head) if self.rest_services is not None else None
        if rest is not None:
            return rest(head, responder)
        rates = self._rates(head) if self._limits_rates else None
        return self._begin(head, responder) if rates is None else self._limited(head, responder, rates)

    def _begin(self, head: RequestHead, responder: Responder, lease: Lease | None = None) -> RequestSink:
        kind = DuplexExchange if self._is_duplex(head) else Exchange
        exchange = kind(self, head, responder, lease)
        exchange.begin()
        return exchange

    def _limited(self, head: RequestHead, responder: Responder, rates: Rates) -> RequestSink:
        try:
            lease = self._limiter.lease(head.identity, rates)
        except BridgeError as error:
            if responder.record is not None:
                note_route(responder.record, self.route(head))
                responder.record.failed(error, "RL")
            self.refuse(error, head, responder)
            return RefusedCall()
        return LimitedCall(lease, responder).open(lambda answer: self._begin(head, answer, lease))

    def _rates(self, head: RequestHead) -> Rates | None:
        try:
            return self.route(head).permit.rates
        except BridgeError:
            return None  # the exchange finds it again, and answers it

    def purposes(self, head: RequestHead) -> frozenset[str]:
        """What a call is for, in the words of a list of what is public; nothing for a call of nothing known."""
        rpc = head.target if is_grpc(head) else ""
        if self.connect is not None and (method := self.connect.method(head)) is not None:
            rpc = method.rpc
        service = rpc[1:].partition("/")[0]
        if service == HEALTH or service in REFLECTIONS:
            return frozenset({"health" if service == HEALTH else "reflection"})
        operation = self._operation(head, rpc)
        return frozenset({operation, "health"} if operation in _HEALTH else {operation})

    def _operation(self, head: RequestHead, rpc: str) -> str:
        if self.rest_services is not None and (called := self.rest_services.service(head)) is not None:
            return called.endpoint.operation
        try:
            matches = (self._rpc(rpc),) if rpc else self._rest(head.method, head.target)
            return owner(matches, self.targets, self._apis).endpoint.operation
        except BridgeError:
            return ""

    def _is_duplex(self, head: RequestHead) -> bool:
        """Whether the client may send requests for as long as it gets answers."""
        return head.version == "2" and head.target in self._duplex and is_grpc(head)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer an error in the dialect that the head asks for."""
        if head is not None and self.connect is not None and self.connect.refuse(error, head, responder):
            return
        rest = head is None or not is_grpc(head)
        answer(error_reply(error, rest=rest, dialect=self._dialect(head) if head is not None else ""), responder)

    async def close(self) -> None:
        """End what the gateway answers itself, and close the pools."""
        if self.local is not None:
            self.local.close()
        await self.close_pools()

    async def close_pools(self) -> None:
        """Let go of the runtimes; calls that they still work on fail with UNAVAILABLE."""
        for pool in {id(target.pool): target.pool for target in self.targets}.values():
            await pool.close()

    def _dialect(self, head: RequestHead) -> str:
        """How errors are worded where the path begins, whether there is an endpoint or not."""
        if head.target[:1] != "/":
            return ""
        return self._dialects.get(head.target.partition("?")[0].split("/")[1], "")

    def route(self, head: RequestHead) -> Route:
        """Where a call goes; raises `BridgeError`."""
        route: Route | None = head.memo.get("route")
        if route is None:
            route = head.memo["route"] = self._find_route(head)
        return route

    def _find_route(self, head: RequestHead) -> Route:
        grpc, limits, reachable = is_grpc(head), self.limits, self.targets
        if head.destination:
            reachable = [target for target in self.targets if target.name in head.destination]
        match = self._rpc(head.target) if grpc else owner(self._rest(head.method, head.target), reachable, self._apis)
        deadline = allowed(head.headers)
        timeout = limits.call_seconds if deadline is None else min(limits.call_seconds, deadline)
        crossing = crossing_headers(head.headers)
        protocol = "grpc" if grpc else "rest"
        targets = tuple(able(reachable, self._apis, match, protocol))
        endpoint = match.endpoint
        permit = self._authorizer.permit(head.identity, match.api.name, endpoint.name, endpoint.operation)
        body_limit = limits.message_bytes + PREFIX_BYTES if grpc else limits.body_bytes
        if head.method in _BODILESS:
            body_limit = 0
        return Route(
            protocol,
            match,
            targets,
            timeout,
            body_limit if permit.body_limit is None else min(body_limit, permit.body_limit),
            crossing if deadline is None else sent_on(crossing, timeout, grpc=False),
            (*GRPC_HEADERS, ("te", "trailers"), ("grpc-timeout", timeout_text(timeout)), *crossing),
            deadline,
            "events" if grpc else _form(match, head),
            permit,
            header(head.headers, MODEL_HEADER) or "",
            template(match, protocol),
            bounded(match.variables.get("model", "")),
            sources(match, targets, reachable, hides=permit.inspects),
            self._only_way(match, protocol, targets),
            int(header(head.headers, "content-length") or 0),
        )

    def _only_way(self, match: Match, protocol: str, targets: Sequence[Target]) -> tuple[Target, Bridge] | None:
        """The target of every call and the bridge to it, unless a body decides, or none is needed."""
        target = targets[0]
        if len(targets) > 1 or not target.serves_all or target.same_binding(match, protocol):
            return None
        try:
            return target, self.bridge(match, protocol, target)
        except BridgeError:
            return None  # the exchange finds it again, and answers it

    def bridge(self, match: Match, protocol: str, target: Target) -> Bridge:
        """The bridge between a client's protocol and a target, for one endpoint."""
        key = (match.api.name, match.endpoint.name, protocol, target.name, target.profile.api)
        bridge = self._bridges.get(key)
        if bridge is None:
            bridge = self._bridges[key] = self._new_bridge(match, protocol, target)
        return bridge

    def _new_bridge(self, match: Match, protocol: str, target: Target) -> Bridge:
        same = target.profile.api == match.api.name
        client = client_end(match, protocol, target.profile.variant if same else "")
        api = self._apis[target.profile.api]
        ends = []
        for endpoint in target.serving(self._apis, match):
            half = half_of(api, endpoint.name, target.protocol, target.profile.variant)
            assert half is not None
            ends.append(End(api, endpoint, half))
        if not ends:
            raise BridgeError(Code.UNIMPLEMENTED, f"{target.name} does not speak {match.endpoint.name}")
        losses = self.losses.over_bridge(match, target)
        setting = replace(target.setting, client_api=match.api.name, on_losses=losses)
        return Bridge(client, ends[0], ends[-1], target.profile, self.policy, setting)

    def lost_in_message(self, rpc: str, names: Collection[str]) -> None:
        """Fields of the answer to a gRPC call that cannot be written in the client's form."""
        match = self._rpc(rpc)
        self.losses.in_answer(match.api, match.endpoint, names)


def _form(match: Match, head: RequestHead) -> StreamForm:
    mode = match.endpoint.mode
    accept = header(head.headers, "accept") or ""
    return rest_stream_form(accept) if mode != "unary" else "events"


def client_end(match: Match, protocol: str, variant: str) -> End:
    """How the client speaks the endpoint; a gRPC client of a variant runtime speaks its variant."""
    half = half_of(match.api, match.endpoint.name, protocol, variant)
    if half is None:
        raise BridgeError(Code.UNIMPLEMENTED, f"{match.endpoint.name} has no {protocol} binding")
    return End(match.api, match.endpoint, half)
