"""One call in flight: collects the client's body, chooses the runtime, and sends the call there.

body ──▶ over a bridge ──▶ translated request ──▶ answer over the bridge
     └─▶ as it is, where the runtime speaks the client's binding ──▶ answer as it comes
"""

from asyncio import TimerHandle
from contextlib import suppress
from functools import partial

from inferbridge.auth.rates import Lease
from inferbridge.bridge.bridge import Bridge
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import (
    too_large,
    unframe,
)
from inferbridge.bridge.grpc import named_model
from inferbridge.bridge.registry import Endpoint
from inferbridge.bridge.rest import HEADER_LENGTH, JSON_HEADERS, body_of
from inferbridge.bridge.values import Buffer, GrpcRequest, HttpRequest, header, join
from inferbridge.gateway.answering import answer
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.calls.answers import NOT_PASSED_ON, OneAnswer, PassthroughAnswer
from inferbridge.gateway.calls.deadlines import sent_on, shortened
from inferbridge.gateway.calls.duplex import Service
from inferbridge.gateway.calls.inspection import inspect, refuse_repeated_names
from inferbridge.gateway.calls.limiting import booking
from inferbridge.gateway.calls.listing import Listing
from inferbridge.gateway.calls.reframing import ReframedAnswer
from inferbridge.gateway.calls.route import Route, note_request, note_route, translated, unrouted
from inferbridge.gateway.calls.targets import Target, choose
from inferbridge.gateway.calls.translating import Cancellable, StreamedAnswer, WholeAnswer, later, now
from inferbridge.gateway.calls.unread import refuse_deadly_json
from inferbridge.gateway.gathering import FIRST, LARGE, room_behind, room_for
from inferbridge.gateway.record import bounded
from inferbridge.gateway.records.metering import noted, unbooked
from inferbridge.gateway.records.spending import generates, traced
from inferbridge.upstream.api import Receiver, UpstreamRequest

_SMALL_BODY = 16 << 10
"""Bytes of a body that is read for its model's name alone."""


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


class Exchange:
    """One call in flight: collects the client's body and sends it on."""

    __slots__ = (
        "_bridge", "_call", "_chunks", "_clock", "_done", "_head", "_record", "_responder", "_route", "_service",
        "_size", "_used",
    )  # fmt: skip

    def __init__(self, service: Service, head: RequestHead, responder: Responder, lease: Lease | None = None) -> None:
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
                return
            if route.declared >= LARGE:
                self._chunks = room_for(route.declared, route.body_limit)
            if route.deadline is not None:
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
            return
        if len(data) >= FIRST and not self._chunks and self.route.protocol == "grpc":
            self._chunks = room_behind(data, self.route.body_limit)
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
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

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
        """What hands the runtime's answer on, and reads along where its tokens matter or a trace is to tell of it."""
        receiver, record = self._handing_on(route), self._record
        generation = traced(record) if generates(route.match.endpoint) else None
        used = self._used or (unbooked if self._reads_all else None)
        if used is None and generation is None:
            return receiver
        used = noted(record, used) if used is not None else None
        bridge = self._service.bridge(route.match, route.protocol, target)
        if record is not None and generation is not None:
            with suppress(BridgeError):  # as in `_note_model`
                note_request(record, bridge.read(self._client_call(route)))
        return self._service.metering.beside(receiver, bridge, used, generation)

    def _note_model(self, route: Route) -> None:
        """The model of a call whose body nobody reads, where a look at it costs little."""
        record = self._record
        if record is None or not record.observed or record.model:
            return
        grpc = route.match.endpoint.grpc if route.protocol == "grpc" else None
        with suppress(BridgeError):  # what is wrong with it is the runtime's to say
            if grpc is not None and grpc.model_field:
                if self._size <= LARGE or len(self._chunks) == 1:
                    record.model = bounded(named_model(self._grpc_call(), grpc.model_field))
            elif self._size <= _SMALL_BODY:
                record.model = bounded(self._model())

    @property
    def _reads_all(self) -> bool:
        """The record of this call is to tell its tokens even though nobody books them."""
        return self._service.metering.reads_all and self._record is not None and self._record.observed

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
            note_request(self._record, crossing.request)
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
        return self._http_call(route) if route.protocol == "rest" else self._grpc_call()

    def _grpc_call(self) -> GrpcRequest:
        head = self._head
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
        if self._used is not None or self._reads_all:  # compressed, the copy with the tokens could not be read
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
