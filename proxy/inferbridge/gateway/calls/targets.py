"""The runtimes the gateway sends to, and the choice among them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from msgspec import structs

from inferbridge.auth.identity import ANONYMOUS, Identity
from inferbridge.auth.outgoing import Outgoing
from inferbridge.bridge.context import RuntimeProfile, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.matching import half_of, serving
from inferbridge.bridge.registry import Api, Endpoint
from inferbridge.bridge.routes import Match
from inferbridge.bridge.values import Headers, header
from inferbridge.gateway.fields import REQUEST_ID
from inferbridge.gateway.record import CallRecord, clock
from inferbridge.gateway.records.recording import RecordedReceiver
from inferbridge.gateway.records.traced import traced
from inferbridge.gateway.transcript import Runtime, TranscribedAsk, TranscribedReceiver, TranscribedUpload
from inferbridge.secret import Secret
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Call, DuplexPool, GrowingCall, Pool, Receiver, UpstreamRequest

_OTHER_IDS = {"tgis": "x-correlation-id"}
"""Where the runtimes of an API look for a call's id, beside `x-request-id`."""


class Caller(Protocol):
    """For whom a runtime is called."""

    @property
    def identity(self) -> Identity:
        """Who that is."""

    @property
    def token(self) -> Secret | None:
        """Its own credential."""


@dataclass(frozen=True, slots=True)
class Itself:
    """The gateway, asking for itself."""

    identity: Identity = ANONYMOUS
    token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One running runtime."""

    name: str
    profile: RuntimeProfile
    protocol: str
    """`rest` or `grpc`."""
    pool: Pool
    models: tuple[str, ...] = ("*",)
    """Globs of the models it serves."""
    setting: Setting = field(default_factory=Setting)
    outgoing: Outgoing = field(default_factory=Outgoing)
    """As whom it is called."""
    address: Address | None = None
    """Where it is, as traces tell it."""

    def send(
        self,
        request: UpstreamRequest,
        receiver: Receiver,
        timeout: float | None,
        caller: Caller,
        record: CallRecord | None = None,
    ) -> Call:
        """Start a call for `caller`, see `Pool.send`; `record` is that of the client's call it is made for."""
        if record is not None:
            request, receiver = self._noted(request, receiver, record)
        request = self._signed(request, caller)
        if record is None or record.transcript is None:
            return self.pool.send(request, receiver, timeout)
        leg = record.transcript.ask(request, self._asked)
        leg.asked.ended = leg.asked.began
        noting = TranscribedReceiver(receiver, record.transcript, leg)
        return TranscribedAsk(self.pool.send(request, noting, timeout), noting)

    def begin(
        self,
        request: UpstreamRequest,
        receiver: Receiver,
        drained: Callable[[], None],
        timeout: float | None,
        caller: Caller,
        record: CallRecord | None = None,
    ) -> GrowingCall:
        """Start a call whose messages follow, see `DuplexPool.begin`; only where `is_duplex`."""
        assert isinstance(self.pool, DuplexPool)
        if record is not None:
            request, receiver = self._noted(request, receiver, record)
        request = self._signed(request, caller)
        if record is None or record.transcript is None:
            return self.pool.begin(request, receiver, drained, timeout)
        transcript, leg = record.transcript, record.transcript.ask(request, self._asked)
        noting = TranscribedReceiver(receiver, transcript, leg)
        return TranscribedUpload(self.pool.begin(request, noting, drained, timeout), noting, transcript, leg)

    @property
    def _asked(self) -> Runtime:
        profile = self.profile
        return Runtime(self.name, profile.name, profile.api, profile.variant, self.protocol, self.outgoing.header)

    @property
    def is_duplex(self) -> bool:
        """Whether request and answer of one call may be under way at once."""
        return isinstance(self.pool, DuplexPool)

    def _noted(
        self, request: UpstreamRequest, receiver: Receiver, record: CallRecord
    ) -> tuple[UpstreamRequest, Receiver]:
        """The request with the call's id, and the receiver of an answer that the record tells of."""
        record.upstream, record.runtime, record.upstream_protocol = self.name, self.profile.name, self.protocol
        if not record.upstream_began:
            record.upstream_began = clock()
        record.upstream_ended = 0.0
        own: Headers = ((REQUEST_ID, record.request_id),) if record.own_id else ()
        other = _OTHER_IDS.get(self.profile.api)
        if other is not None and header(request.headers, other) is None:
            own = (*own, (other, record.request_id))
        if own:
            kept = request.headers
            if record.hostile_id:
                kept = tuple(pair for pair in kept if pair[0] != REQUEST_ID)
            request = UpstreamRequest(request.method, request.path, kept, request.chunks, request.idempotent, own)
        receiver = RecordedReceiver(receiver, record)
        if record.trace is not None:
            return traced(request, receiver, record, record.trace, self.address)
        return request, receiver

    def _signed(self, request: UpstreamRequest, caller: Caller) -> UpstreamRequest:
        if self.outgoing.nothing:
            return request
        added = self.outgoing.headers(caller.identity, caller.token)
        return structs.replace(request, headers=(*request.headers, *added)) if added else request

    @property
    def serves_all(self) -> bool:
        """Whether it takes every model."""
        return "*" in self.models

    def serves(self, model: str) -> bool:
        """Whether it takes this model."""
        return self.serves_all or any(fnmatchcase(model, glob) for glob in self.models)

    @property
    def takes_unnamed(self) -> bool:
        """Whether a call that names no model has one here."""
        return self.serves_all or bool(self.setting.default_model)

    def names_adapters_apart(self, match: Match) -> bool:
        """Whether its own API has a place for an adapter beside the model's name."""
        half = half_of(match.api, match.endpoint.name, self.protocol, self.profile.variant)
        return half is not None and "adapter" in half.fields

    def serving(self, apis: Mapping[str, Api], match: Match) -> tuple[Endpoint, ...]:
        """Its endpoints that serve a client's, for one answer and for a stream; none when it cannot."""
        api = apis.get(self.profile.api)
        if api is None:
            return ()
        return serving(match.api, match.endpoint, api, self.protocol, self.profile.variant)

    def same_binding(self, match: Match, protocol: str) -> bool:
        """Whether it speaks the client's own binding, so that nothing need be translated."""
        if self.protocol != protocol or self.profile.api != match.api.name or match.is_alias:
            return False
        return half_of(match.api, match.endpoint.name, protocol, self.profile.variant) is not None


def able(targets: Sequence[Target], apis: Mapping[str, Api], match: Match, protocol: str) -> list[Target]:
    """The targets that can serve an endpoint, those that need no translation first; NOT_FOUND when there is none."""
    found = [target for target in targets if target.serving(apis, match)]
    if not found:
        raise BridgeError(Code.NOT_FOUND, f"no upstream speaks {match.api.name}/{match.endpoint.name}")
    found.sort(key=lambda target: (target.profile.api != match.api.name, not target.same_binding(match, protocol)))
    return found


def owner(matches: Sequence[Match], targets: Sequence[Target], apis: Mapping[str, Api]) -> Match:
    """Of endpoints of several APIs with the same path: the one whose API a runtime speaks, or else can be served."""
    if len(matches) == 1:
        return matches[0]
    served = [(match, target) for match in matches for target in targets if target.serving(apis, match)]
    own = [match for match, target in served if target.profile.api == match.api.name]
    return (own or [match for match, _ in served] or matches)[0]


def choose(targets: Sequence[Target], model_of: Callable[[], str]) -> Target:
    """The first of some able targets that takes the model; a call that names none goes where one is meant by default.

    `model_of` reads the model from the call; it is only asked when the choice depends on it.
    """
    if len(targets) == 1 and targets[0].serves_all:
        return targets[0]
    if all(target.serves_all for target in targets):
        return targets[0]
    model = model_of()
    if not model:
        return next((target for target in targets if target.takes_unnamed), targets[0])
    for target in targets:
        if target.serves(model):
            return target
    raise BridgeError(Code.NOT_FOUND, f"no upstream serves the model {model!r}")
