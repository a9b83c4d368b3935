"""Calls in which client and runtime both stream: each message goes on as it comes, while answers come back.

A runtime that speaks the client's binding gets the client's bytes as they come (`Passage`), no faster than it takes
them: what it has no room for stays with the client, whose HTTP/2 window is not granted again until there is.

Across a bridge each message of the client is a call of its own (`Turns`), made when the one before it is answered; all
their answers make up the client's. An error ends the client's call, unless its API tells errors as messages. To the
limits of its caller each of them is a request, and all of them are one call at a time; a `Passage` is one of either.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from inferbridge.auth.rates import Lease
from inferbridge.bridge.bridge import Bridge
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import GRPC_HEADERS, frame, status_trailers
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.registry import Api, GrpcHalf
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import Buffer, Chunks, GrpcRequest, Headers, header
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.calls.answers import NOT_PASSED_ON, PassthroughAnswer
from inferbridge.gateway.calls.inspection import inspect
from inferbridge.gateway.calls.limiting import booking
from inferbridge.gateway.calls.route import Route, note_request, note_route, translated, unrouted
from inferbridge.gateway.calls.targets import Target, choose
from inferbridge.gateway.calls.translating import Cancellable, StreamedAnswer
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.metering import Metering, noted
from inferbridge.upstream.api import UpstreamRequest

_OK: Headers = (("grpc-status", "0"),)


class Service(Protocol):
    """What a call needs of the gateway."""

    limits: Limits
    metering: Metering

    def route(self, head: RequestHead) -> Route:
        """Where it goes; raises `BridgeError`."""

    def bridge(self, match: Match, protocol: str, target: Target) -> Bridge:
        """The bridge to a target."""

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer an error."""


class _Onward(Protocol):
    """Where the client's messages go."""

    def on_data(self, data: Buffer) -> None:
        """Some of them."""

    def on_end(self) -> None:
        """There are no more."""

    def cancel(self) -> None:
        """The client went away."""

    def throttle(self, paused: bool) -> None:
        """The client does not take the answer, or does again."""


def duplex_rpcs(apis: Iterable[Api]) -> frozenset[str]:
    """Paths of the methods whose clients stream."""
    found = set()
    for api in apis:
        halves: list[GrpcHalf | None] = [endpoint.grpc for endpoint in api.endpoints.values()]
        for variant in api.variants.values():
            halves += variant.values()
        found |= {half.rpc for half in halves if half is not None and half.client_streaming}
    return frozenset(found)


class DuplexExchange:
    """One call in flight; where the model decides about the runtime, its first message is waited for."""

    def __init__(self, service: Service, head: RequestHead, responder: Responder, lease: Lease | None = None) -> None:
        self._service = service
        self._lease = lease
        self._head = head
        self._record = responder.record
        self._responder = responder
        self._route: Route | None = None
        self._onward: _Onward | None = None
        self._early: list[Buffer] = []
        self._first = MessageReader(service.limits.message_bytes, _encoding(head))
        self._done = False

    def begin(self) -> None:
        """Find the runtime, if that can be done without a message."""
        self._responder.unhurried()
        try:
            route = self._route = self._service.route(self._head)
            if self._record is not None:
                note_route(self._record, route)
            if all(target.serves_all for target in route.targets):
                self._go(route, route.targets[0])
        except BridgeError as error:
            self._fail(error)

    def on_data(self, data: Buffer) -> None:
        """A piece of the client's messages."""
        if self._done:
            return
        if self._onward is not None:
            self._onward.on_data(data)
            return
        self._early.append(data)
        try:
            messages = self._first.feed(data)
            if messages:
                self._choose(messages[0])
        except BridgeError as error:
            self._fail(error)

    def on_end(self) -> None:
        """The client has nothing more to say."""
        if self._done:
            return
        try:
            if self._onward is None:
                self._choose(b"")
            if self._onward is not None:
                self._onward.on_end()
        except BridgeError as error:
            self._fail(error)

    def on_cancel(self) -> None:
        """The client went away."""
        self._done = True
        if self._onward is not None:
            self._onward.cancel()

    def on_pressure(self, full: bool) -> None:
        """The client does not take the answer, or does again."""
        if self._onward is not None:
            self._onward.throttle(full)

    def _choose(self, first: Buffer) -> None:
        route = self._route
        assert route is not None
        self._go(route, choose(route.targets, lambda: self._model(route, first)))
        early, self._early = self._early, []
        for data in early:
            if self._onward is not None:
                self._onward.on_data(data)

    def _model(self, route: Route, first: Buffer) -> str:
        bridge = self._service.bridge(route.match, route.protocol, route.targets[0])
        return bridge.model(GrpcRequest(self._head.target, self._head.headers, ((first,),)))

    def _go(self, route: Route, target: Target) -> None:
        bridge = self._service.bridge(route.match, route.protocol, target)
        limits = self._service.limits
        if not (target.same_binding(route.match, route.protocol) and target.is_duplex):
            if (used := booking(self._lease)) is not None:
                bridge = self._service.metering.over(bridge, noted(self._record, used))
            self._onward = Turns(bridge, self._head, route, target, self._responder, limits, self._lease)
        elif route.inspects:
            self._onward = InspectedPassage(self._head, route, target, self._responder, bridge, limits)
        else:
            self._onward = Passage(self._head, route, target, self._responder)

    def _fail(self, error: BridgeError) -> None:
        if not self._done:
            self._done = True
            self._early = []
            if self._record is not None:
                self._record.failed(error, unrouted(error) if self._route is None else "TE")
            self._service.refuse(error, self._head, self._responder)


class Passage:
    """To a runtime that speaks the client's binding. A deadline is the client's to set: such calls may be long."""

    def __init__(self, head: RequestHead, route: Route, target: Target, responder: Responder) -> None:
        self._responder = responder
        receiver = self._receiver = PassthroughAnswer(responder, True, route.match.api.errors, streams=True)
        headers = tuple(pair for pair in head.headers if pair[0] not in NOT_PASSED_ON)
        request = UpstreamRequest(head.method, head.target, headers)
        self._call = target.begin(request, receiver, responder.resume, route.deadline, head, responder.record)

    def on_data(self, data: Buffer) -> None:
        """On to the runtime; the client waits when there is no room."""
        if not self._call.write(data):
            self._responder.hold()

    def on_end(self) -> None:
        """The runtime learns that the request is complete."""
        self._call.finish()

    def cancel(self) -> None:
        """The runtime learns that nobody listens."""
        self._call.cancel()

    def throttle(self, paused: bool) -> None:
        """The runtime waits with the client."""
        self._call.throttle(paused)


class InspectedPassage(Passage):
    """As `Passage`, for a caller that may not send everything: each message is looked at before it goes on.

    Messages go on one by one and uncompressed, so that the runtime gets what was looked at and nothing else.
    """

    def __init__(
        self, head: RequestHead, route: Route, target: Target, responder: Responder, bridge: Bridge, limits: Limits
    ) -> None:
        super().__init__(head, route, target, responder)
        self._head = head
        self._route = route
        self._bridge = bridge
        self._reader = MessageReader(limits.message_bytes, _encoding(head))
        self._over = False

    def on_data(self, data: Buffer) -> None:
        """Those that are complete and allowed; one that is not ends the call."""
        try:
            for message in self._reader.feed(data):
                if not self._over:
                    call = GrpcRequest(self._head.target, self._head.headers, ((message,),))
                    inspect(call, self._bridge, self._route, len(message))
                    super().on_data(b"".join(frame(((message,),))))
        except BridgeError as error:
            self._refuse(error)

    def on_end(self) -> None:
        """A message that was cut off is the client's mistake."""
        try:
            self._reader.finish()
        except BridgeError as error:
            self._refuse(error)
        if not self._over:
            super().on_end()

    def _refuse(self, error: BridgeError) -> None:
        if not self._over:
            self._over = True
            if self._responder.record is not None:
                self._responder.record.failed(error, "TE")
            self.cancel()
            if self._receiver.begun:
                self._responder.end(status_trailers(error))
            else:
                self._receiver.on_failure(error)


class Turns:
    """Across a bridge, one message after the other; the client waits while more than one of its messages does."""

    def __init__(
        self,
        bridge: Bridge,
        head: RequestHead,
        route: Route,
        target: Target,
        responder: Responder,
        limits: Limits,
        lease: Lease | None = None,
    ) -> None:
        self._bridge = bridge
        self._lease = lease
        self._counted = True  # the first message is the request that the call was let in as
        self._head = head
        self._route = route
        self._target = target
        self._responder = responder
        self._limits = limits
        self._reader = MessageReader(limits.message_bytes, _encoding(head))
        self._waiting: deque[Buffer] = deque()
        self._running: Cancellable | None = None
        self._busy = False
        self._begun = False
        self._complete = False
        self._over = False

    def on_data(self, data: Buffer) -> None:
        """The client's messages, as they become complete."""
        if self._over:
            return
        try:
            self._waiting.extend(self._reader.feed(data))
        except BridgeError as error:
            self._break(error)
            return
        if len(self._waiting) > 1:
            self._responder.hold()
        self._next()

    def on_end(self) -> None:
        """The call ends with the answer to the last message."""
        self._complete = True
        try:
            self._reader.finish()
        except BridgeError as error:
            self._break(error)
        else:
            self._next()

    def _break(self, error: BridgeError) -> None:
        """What the client sends is no gRPC, so that nothing can follow."""
        running = self._running
        self._failed(error)
        self._end(status_trailers(error))
        if running is not None:
            running.cancel()

    def _failed(self, error: BridgeError) -> None:
        if self._responder.record is not None:
            self._responder.record.failed(error, "TE")

    def cancel(self) -> None:
        """No more answers are wanted."""
        self._over = True
        self._waiting.clear()
        if self._running is not None:
            self._running.cancel()

    def throttle(self, paused: bool) -> None:
        """The runtime waits with the client."""
        if self._running is not None:
            self._running.throttle(paused)

    def _next(self) -> None:
        while self._waiting and not self._busy and not self._over:
            message = self._waiting.popleft()
            self._responder.resume()
            self._busy = True
            self._start(message)
        if self._complete and not self._busy and not self._over:
            self._end(_OK)

    def _start(self, message: Buffer) -> None:
        call = GrpcRequest(self._head.target, self._head.headers, ((message,),))
        try:
            self._count()
            if self._route.inspects:
                inspect(call, self._bridge, self._route, len(message))
            crossing = self._bridge.request(call)
            if self._responder.record is not None:
                note_request(self._responder.record, crossing.request)
        except BridgeError as error:
            self._failed(error)
            chunks, trailers = self._bridge.failure(error)
            self.head(200, GRPC_HEADERS)
            for chunk in chunks:
                self._responder.data(chunk)
            self._busy = False
            if trailers != _OK:
                self._end(trailers)
            return
        turn = StreamedAnswer(self._bridge, crossing, _Turn(self, self._responder), self._limits)
        running = turn.begin(
            lambda leg, receiver: self._target.send(
                translated(leg, self._route), receiver, self._route.timeout, self._head, self._responder.record
            )
        )
        self._running = running if self._busy else None

    def _count(self) -> None:
        """Every message is a request of its own to the limits of the caller."""
        if self._lease is not None and not self._counted:
            self._lease.request()
        self._counted = False

    def head(self, status: int, headers: Headers) -> None:
        """The first of all answers has the call's head."""
        if not self._begun and not self._over:
            self._begun = True
            self._responder.head(status, headers)

    def ended(self, trailers: Headers) -> None:
        """An answer is complete: the next message may go, unless it was an error."""
        self._busy, self._running = False, None
        if header(trailers, "grpc-status") == "0":
            self._next()
        else:
            self._end(trailers)

    def _end(self, trailers: Headers) -> None:
        if not self._over:
            self.head(200, GRPC_HEADERS)
            self._over = True
            self._waiting.clear()
            self._responder.end(trailers)


class _Turn(Responder):
    """Stands where the client would be, for the answer to one of its messages."""

    def __init__(self, turns: Turns, responder: Responder) -> None:
        self.record = responder.record
        self._turns = turns
        self._responder = responder

    def head(self, status: int, headers: Headers) -> None:
        """Of the whole call, if it is the first."""
        self._turns.head(status, headers)

    def data(self, data: Buffer) -> None:
        """Messages."""
        self._responder.data(data)

    def message(self, data: Buffer) -> None:
        """Messages that the client waits for."""
        self._responder.message(data)

    def end(self, trailers: Headers = ()) -> None:
        """The outcome of this message."""
        self._turns.ended(trailers)

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """An answer without messages, its outcome in the head."""
        self._turns.ended(tuple(pair for pair in headers if pair[0].startswith("grpc-")))

    def abort(self) -> None:
        """The whole call is cut."""
        self._responder.abort()


def _encoding(head: RequestHead) -> str:
    return header(head.headers, "grpc-encoding") or "identity"
