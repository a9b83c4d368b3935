"""The work of the gateway: routes each call, takes it over a bridge to a runtime, and brings the answer back.

A call whose binding the runtime speaks itself is passed through: its body is not read, and the answer streams. All
others are collected, translated and sent. Whatever fails is answered in the client's dialect. What follows from the
head of a call alone is worked out once and remembered with the head (`Route`).
"""

from asyncio import TimerHandle
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial

from inferbridge.auth.rates import Lease, RateLimiter
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import Rates
from inferbridge.bridge.accept import StreamForm, rest_stream_form
from inferbridge.bridge.bridge import Bridge, End
from inferbridge.bridge.context import Policy
from inferbridge.bridge.dialects import error_reply
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import (
    GRPC_HEADERS,
    PREFIX_BYTES,
    timeout_text,
    too_large,
    unframe,
)
from inferbridge.bridge.matching import half_of
from inferbridge.bridge.registry import Api, Endpoint
from inferbridge.bridge.rest import HEADER_LENGTH, JSON_HEADERS, body_of
from inferbridge.bridge.routes import Match, Routes
from inferbridge.bridge.values import Buffer, GrpcRequest, HttpRequest, header, join
from inferbridge.gateway.answers import (
    NOT_PASSED_ON,
    OneAnswer,
    PassthroughAnswer,
    answer,
    crossing_headers,
    is_grpc,
)
from inferbridge.gateway.application import RefusedCall, RequestHead, RequestSink, Responder
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.deadlines import allowed, sent_on, shortened
from inferbridge.gateway.duplex import DuplexExchange, duplex_rpcs
from inferbridge.gateway.inspection import MODEL_HEADER, inspect, refuse_repeated_names
from inferbridge.gateway.limiting import LimitedCall, booking
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.listing import Listing, sources
from inferbridge.gateway.local.services import HEALTH, REFLECTIONS, LocalServices
from inferbridge.gateway.losses import Losses
from inferbridge.gateway.metering import Metering, noted
from inferbridge.gateway.readiness import Readiness
from inferbridge.gateway.record import bounded
from inferbridge.gateway.reframing import ReframedAnswer
from inferbridge.gateway.rest_services.calls import RestServices
from inferbridge.gateway.route import Route, note_model, note_route, template, translated, unrouted
from inferbridge.gateway.targets import Target, able, choose, owner
from inferbridge.gateway.translating import Cancellable, StreamedAnswer, WholeAnswer, later, now
from inferbridge.gateway.unread import refuse_deadly_json
from inferbridge.upstream.api import Receiver, UpstreamRequest

_REMEMBERED_PATHS = 1024
_SMALL_BODY = 16 << 10
"""Bytes of a body that is read for its model's name alone."""
_BODILESS = frozenset({"GET", "HEAD"})
"""Methods whose body means nothing: a runtime that does not even read it would take it for the next request."""
_HEALTH = frozenset({"server_ready"})
"""Operations that anybody may call where health is public: a model's readiness tells which models there are."""


class _Drained:
    """A call that goes on unseen when it is cancelled."""

    def __init__(self, call: Cancellable) -> None:
        self._call = call

    def cancel(self) -> None:
        """Its receiver is deaf by now; the runtime must come to its end."""
        self._call.throttle(False)

    def throttle(self, paused: bool) -> None:
        """The runtime waits with the client."""
        self._call.throttle(paused)


def _cancellable(call: Cancellable, target: Target, endpoint: Endpoint) -> Cancellable:
    """The call, unless cutting it would do the runtime harm."""
    harmful = target.profile.drain_streams and target.protocol == "rest" and endpoint.mode != "unary"
    return _Drained(call) if harmful else call


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


class Exchange:
    """One call in flight: collects the client's body and sends it on."""

    __slots__ = (
        "_bridge", "_call", "_chunks", "_clock", "_done", "_head", "_record", "_responder", "_route", "_service",
        "_size", "_used",
    )  # fmt: skip

    def __init__(
        self, service: GatewayService, head: RequestHead, responder: Responder, lease: Lease | None = None
    ) -> None:
        self._service = service
        self._head = head
        self._responder = responder
        self._record = responder.record
        self._chunks: list[Buffer] = []
        self._size = 0
        self._done = False
        self._clock: TimerHandle | None = None
        """Runs while the body of a client with a deadline is waited for."""
        self._call: Cancellable | None = None
        self._route: Route | None = None
        self._bridge: Bridge | None = None
        self._used = booking(lease)

    @property
    def route(self) -> Route:
        """Where the call goes; a call without a route is done before anybody asks."""
        assert self._route is not None
        return self._route

    def begin(self) -> None:
        """Find the endpoint; a call without one is answered at once."""
        try:
            route = self._route = self._service.route(self._head)
        except BridgeError as error:
            self._fail(error)
        else:
            if self._record is not None:
                note_route(self._record, route)
            if route.declared > route.body_limit:
                self._fail(self._too_large(route.declared))
            elif route.deadline is not None:
                self._clock = later(route.deadline, self._expire)

    def _expire(self) -> None:
        """The body has not come in time."""
        self._fail(BridgeError(Code.DEADLINE_EXCEEDED, "the request was not complete within its deadline"))

    def _stop_clock(self, route: Route) -> Route:
        """From here on the runtime's side keeps the time that is left."""
        clock, self._clock = self._clock, None
        if clock is None or route.deadline is None:
            return route
        clock.cancel()
        return shortened(route, route.deadline - (clock.when() - now()))

    # the client's body

    def on_data(self, data: Buffer) -> None:
        """A piece of the client's body."""
        if self._done:
            return
        self._size += len(data)
        if self._size > self.route.body_limit:
            self._fail(self._too_large(self._size))
        else:
            self._chunks.append(data)

    def _too_large(self, size: int) -> BridgeError:
        limit = self.route.body_limit
        return too_large(size, limit) if limit else invalid(f"a {self._head.method} request has no body here")

    def on_end(self) -> None:
        """The client's body is complete: send the call."""
        if self._done:
            return
        try:
            self._route = self._stop_clock(self.route)
            self._send(self._route)
        except BridgeError as error:
            self._fail(error)

    def on_cancel(self) -> None:
        """The client went away."""
        self._done = True
        self._drop_clock()
        if self._call is not None:
            self._call.cancel()

    def _drop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def on_pressure(self, full: bool) -> None:
        """The client does not take the answer, or does again."""
        if self._call is not None:
            self._call.throttle(full)

    def _send(self, route: Route) -> None:
        if route.inspects:
            bridge = self._service.bridge(route.match, route.protocol, route.targets[0])
            inspect(self._client_call(route), bridge, route, self._size)
        if route.sources:
            self._list(route)
            return
        if route.over is not None:
            self._translate(route, *route.over)
            return
        target = choose(route.targets, self._model)
        if target.same_binding(route.match, route.protocol) and not self._needs_translation(target):
            if route.permit.inspects and route.protocol == "rest" and "model" not in route.match.variables:
                refuse_repeated_names(bytes(body_of(self._http_call(route))))
            if route.protocol == "rest" and self._chunks:
                refuse_deadly_json(self._http_call(route), tensors=route.match.endpoint.operation == "infer")
            receiver = self._passing(route, target)
            request = self._passthrough(route)
            self._note_model(route)
            self._done, self._chunks = True, []
            call = target.send(request, receiver, route.timeout, self._head, self._record)
            self._call = _cancellable(call, target, route.match.endpoint)
        else:
            self._translate(route, target, self._service.bridge(route.match, route.protocol, target))

    def _list(self, route: Route) -> None:
        service = self._service
        listing = Listing(
            route,
            self._client_call(route),
            partial(service.bridge, route.match, route.protocol),
            self._head,
            self._responder,
            service.limits.reply_bytes,
        )
        self._done, self._chunks = True, []
        self._call = listing.begin()

    def _passing(self, route: Route, target: Target) -> Receiver:
        """What hands the runtime's answer on, and counts its tokens where they matter."""
        receiver = self._handing_on(route)
        if self._used is None:
            return receiver
        used = noted(self._record, self._used)
        bridge = self._service.bridge(route.match, route.protocol, target)
        return self._service.metering.beside(receiver, bridge, used)

    def _note_model(self, route: Route) -> None:
        """The model of a call whose body nobody reads, where a look at it costs little."""
        record = self._record
        if record is None or not record.observed or record.model or self._size > _SMALL_BODY:
            return
        with suppress(BridgeError):  # what is wrong with it is the runtime's to say
            record.model = bounded(self._model())

    def _handing_on(self, route: Route) -> PassthroughAnswer:
        """As it is or in the framing that the client asks for."""
        rest = route.match.endpoint.rest
        if route.form == "events" or rest is None or rest.framing is None:
            grpc, events = route.protocol == "grpc", None if rest is None else rest.framing
            streams = grpc and route.match.endpoint.mode == "stream"
            return PassthroughAnswer(self._responder, grpc, route.match.api.errors, events, streams=streams)
        limit = self._service.limits.message_bytes
        return ReframedAnswer(self._responder, route.match.api.errors, rest.framing, route.form, limit)

    def _translate(self, route: Route, target: Target, bridge: Bridge) -> None:
        self._bridge = bridge
        if self._used is not None:
            bridge = self._service.metering.over(bridge, noted(self._record, self._used))
        crossing = bridge.request(self._client_call(route))
        if self._record is not None:
            note_model(self._record, crossing.request)
        limits = self._service.limits
        if not crossing.legs:
            self._done, self._chunks = True, []
            answer(bridge.write_reply(crossing, ()), self._responder)
            return
        if crossing.is_simple:
            receiver = OneAnswer(bridge, crossing, self._responder, limits)
            self._done, self._chunks = True, []
            request = translated(crossing.legs[0], route)
            self._call = target.send(request, receiver, route.timeout, self._head, self._record)
            return
        kind = partial(StreamedAnswer, form=route.form) if crossing.context.stream else WholeAnswer
        answer_of_all = kind(bridge, crossing, self._responder, limits)
        self._done, self._chunks = True, []
        self._call = answer_of_all.begin(
            lambda leg, receiver: _cancellable(
                target.send(translated(leg, route), receiver, route.timeout, self._head, self._record),
                target,
                crossing.runtime.endpoint,
            )
        )

    def _needs_translation(self, target: Target) -> bool:
        """Whether bytes that are the runtime's own dialect would still be misunderstood there.

        A REST runtime without the binary tensor extension cannot take the call of a client that uses it, and a runtime
        that knows adapters by their ids would not look for one under the model's name.
        """
        if target.setting.adapters and target.names_adapters_apart(self.route.match):
            return self._model() in target.setting.adapters
        if target.protocol == "grpc" or target.profile.binary_tensors:
            return False
        uses = header(self._head.headers, HEADER_LENGTH) is not None or header(self._head.headers, "content-encoding")
        return bool(uses) or any(b"binary_data" in bytes(chunk) for chunk in (join(self._chunks),) if self._chunks)

    def _model(self) -> str:
        route = self.route
        if "model" in route.match.variables:
            return route.match.variables["model"]
        bridge = self._service.bridge(route.match, route.protocol, route.targets[0])
        return bridge.model(self._client_call(route))

    def _client_call(self, route: Route) -> HttpRequest | GrpcRequest:
        head = self._head
        if route.protocol == "rest":
            return self._http_call(route)
        body = join(self._chunks) if self._chunks else b""
        encoding = header(head.headers, "grpc-encoding") or "identity"
        return GrpcRequest(head.target, head.headers, unframe(body, encoding, self._service.limits.message_bytes))

    def _http_call(self, route: Route) -> HttpRequest:
        head = self._head
        return HttpRequest(head.method, head.target, head.headers, self._chunks, route.match.variables)

    def _passthrough(self, route: Route) -> UpstreamRequest:
        head = self._head
        headers = tuple(pair for pair in head.headers if pair[0] not in NOT_PASSED_ON)
        if route.deadline is not None:
            headers = sent_on(headers, route.timeout, route.protocol == "grpc")
        if self._used is not None:  # compressed, the copy that tells the tokens could not be read
            headers = tuple(pair for pair in headers if pair[0] != "accept-encoding")
        if route.form != "events":
            # the runtime knows its own framing alone, and compressed it could not be read
            kept = (pair for pair in headers if pair[0] not in {"accept", "accept-encoding"})
            headers = (*kept, ("accept", "text/event-stream, application/json"))
        if route.protocol == "rest" and self._chunks and header(headers, HEADER_LENGTH) is None:
            # V2 clients send JSON as octet-stream, form data or nothing at all; FastAPI runtimes insist on its own type
            headers = (*(pair for pair in headers if pair[0] != "content-type"), *JSON_HEADERS)
        return UpstreamRequest(head.method, head.target, headers, self._chunks, route.match.endpoint.idempotent)

    def _fail(self, error: BridgeError) -> None:
        if self._done:
            return
        self._done = True
        self._chunks = []
        self._drop_clock()
        if self._record is not None:
            self._record.failed(error, unrouted(error) if self._route is None else "TE")
        if self._bridge is not None:
            answer(self._bridge.error(error), self._responder)
        else:
            self._service.refuse(error, self._head, self._responder)
