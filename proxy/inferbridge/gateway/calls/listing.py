"""Lists of models where several upstreams have some: each is asked, and the client gets one list in its own dialect.

Models stand in the order of the upstreams, each name once, as the first upstream that lists it tells of it; what an
upstream is not configured to serve is left out. One that fails, or is silent for `ANSWER_SECONDS`, is logged and its
models are missing; only where all fail the client gets an error, that of the first. What the caller may not call is
hidden: `joined` is the one place where a model gets into a list.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from inferbridge.bridge.bridge import Bridge, Crossing, not_the_clients
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.routes import Match
from inferbridge.bridge.rules.models import TELLS_OF_ONE, demand_all
from inferbridge.bridge.values import GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest
from inferbridge.gateway.answering import Collected, answer
from inferbridge.gateway.application import Responder
from inferbridge.gateway.calls.route import Route, translated
from inferbridge.gateway.calls.targets import Caller, Target
from inferbridge.gateway.calls.translating import Cancellable, Legs
from inferbridge.upstream.api import Receiver

log = logging.getLogger(__name__)

OPERATION = "model_list"
ANSWER_SECONDS = 10.0
"""A list is cheap to give; who waits for it shall not wait for a dead upstream."""

type Visible = Callable[[str], bool]
"""Whether a client may see the model of this name."""


def sources(
    match: Match, able: Sequence[Target], configured: Sequence[Target], *, hides: bool = False
) -> tuple[Target, ...]:
    """The upstreams whose models a call lists together, in the order of the configuration; none for other calls.

    `able` are the targets for the call, the best first: an upstream that has several is asked by its best one. The list
    of one upstream alone passes through, unless some of its models may have to be hidden from the caller.
    """
    if match.endpoint.operation != OPERATION or match.endpoint.rule in TELLS_OF_ONE:
        return ()
    best = {target.name: target for target in reversed(able)}
    names = dict.fromkeys(target.name for target in configured if target.name in best)
    return tuple(best[name] for name in names) if len(names) > 1 or hides else ()


def joined(lists: Iterable[tuple[Target, Sequence[Any]]], visible: Visible) -> list[Any]:
    """One list of models, each name once; several entries that one upstream has of a name are its versions."""
    known: set[str] = set()
    models: list[Any] = []
    for target, listed in lists:
        own = [each for each in listed if each.id not in known and target.serves(each.id) and visible(each.id)]
        known.update(each.id for each in own)
        models += own
    return models


class Listing:
    """One call for the models of several upstreams."""

    def __init__(
        self,
        route: Route,
        call: HttpRequest | GrpcRequest,
        bridge_to: Callable[[Target], Bridge],
        caller: Caller,
        responder: Responder,
        limit: int,
    ) -> None:
        self._route = route
        self._caller = caller
        self._responder = responder
        self._wanted: list[str] = []
        self._errors: list[BridgeError] = []
        made = [self._part(target, bridge_to(target), call, limit) for target in route.sources]
        self._parts = [part for part in made if part is not None]
        self._open = len(self._parts)
        if not self._parts:
            raise self._errors[0]

    def _part(self, target: Target, bridge: Bridge, call: HttpRequest | GrpcRequest, limit: int) -> "_Part | None":
        context = bridge.context()
        request = bridge.client.half.decode_request(call, context)  # type: ignore[arg-type]  # the half fits the call's protocol
        # all are asked for all: an upstream may call it an error that another's model is not its own
        self._wanted, request.models = list(request.models), []
        try:
            return _Part(self, target, bridge, bridge.cross(request, context), limit)
        except BridgeError as error:
            self._missing(target, error, error.message)
            return None

    def _missing(self, target: Target, error: BridgeError, why: str) -> None:
        log.warning("%s: its models are missing from a list: %s", target.name, why)
        self._errors.append(error)

    def begin(self) -> Cancellable:
        """Ask all of them."""
        timeout = min(self._route.timeout, ANSWER_SECONDS)
        targets: dict[Receiver, Target] = {part: part.target for part in self._parts}
        self._legs = Legs(
            lambda leg, part: targets[part].send(
                translated(leg, self._route), part, timeout, self._caller, self._responder.record
            )
        )
        self._legs.begin([(part.crossing.legs[0], part) for part in self._parts])
        return self._legs

    def ended(self, part: "_Part") -> None:
        """An upstream has answered, or never will."""
        if self._legs.over:
            return
        if part.error is not None:
            self._missing(part.target, part.error, part.answered or part.error.message)
        self._open -= 1
        if self._open:
            self._legs.ended(part)
        else:
            self._legs.let_go()
            answered, self._parts = self._answer(), []  # which hold this: leave nothing to the garbage collector
            answer(answered, self._responder)

    def _answer(self) -> HttpReply | GrpcReply:
        told = [part for part in self._parts if part.error is None]
        if not told:
            return self._parts[0].bridge.error(self._parts[0].error or self._errors[0])
        first, bridge = told[0].crossing, told[0].bridge
        reply = told[0].reply
        try:
            reply.models = joined([(part.target, part.reply.models) for part in told], self._route.permit.sees)
            first.request.models = self._wanted
            demand_all(reply, first.request)
            for loss in (loss for part in told for loss in part.crossing.context.losses):
                first.context.note(loss)
            return bridge.encode_reply(first, reply)
        except BridgeError as error:
            return bridge.error(error)
        except Exception:
            log.exception("listing models failed")
            return bridge.error(BridgeError(Code.INTERNAL, "internal error"))


class _Part(Collected):
    """The models of one upstream: `reply`, or the error that there is instead."""

    def __init__(self, listing: Listing, target: Target, bridge: Bridge, crossing: Crossing, limit: int) -> None:
        super().__init__(crossing.call, limit)
        self._listing = listing
        self.target = target
        self.bridge = bridge
        self.crossing = crossing
        self.reply: Any = None
        self.error: BridgeError | None = None
        self.answered = ""
        """The runtime's own error without its text, which may repeat the credential that we showed."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        try:
            reply = self.collected(trailers)
            self.answered = _failure(reply)
            self.reply = self.bridge.read_reply(self.crossing, self.crossing.legs[0], reply)
            self.bridge.prepare_reply(self.crossing, self.reply)
        except BridgeError as error:
            self.error = not_the_clients(error)
        except Exception:
            log.exception("reading a list of models failed")
            self.error = BridgeError(Code.INTERNAL, "internal error")
        self._listing.ended(self)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self.error = error
        self._listing.ended(self)


def _failure(reply: HttpReply | GrpcReply) -> str:
    if isinstance(reply, GrpcReply):
        return f"it answered with the gRPC status {int(reply.code)}" if reply.code else ""
    return f"it answered {reply.status}" if reply.status >= 400 else ""
