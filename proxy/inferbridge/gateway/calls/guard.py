"""Stands before the gateway's application: finds out who calls, and lets nobody else in.

    head ─▶ Reader ─▶ Chain ─▶ an identity, at once ──────────────▶ application.open, with the head stripped
                         ├────▶ to be asked: _Waiting holds the body, then the same
                         └────▶ refused ─▶ public? ──yes──▶ as anonymous
                                              └─no─▶ 401 / UNAUTHENTICATED, 403 or 503, before the body is read

What goes on is a head without credentials, so nothing behind the guard can forward one by mistake. It is made once for
each head that a client repeats, and anew when its identity changes. Only refusals are told to the application with the
head as it came; it answers them, and sends nothing on.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Protocol

from inferbridge.auth.authenticator import REFUSALS, CannotAuthenticate, Chain, Question, Unauthenticated
from inferbridge.auth.failures import Failures, TooMany
from inferbridge.auth.identity import ANONYMOUS, Identity, Presented, Token
from inferbridge.auth.presented import Reader, without_secrets
from inferbridge.auth.rules import Forbidden
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import too_large
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import Application, RefusedCall, RequestHead, RequestSink, Responder, press
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.record import clock

_log = logging.getLogger(__name__)


class Guarded(Application, Protocol):
    """What a guard stands before."""

    def purposes(self, head: RequestHead) -> frozenset[str]:
        """What a call is for: names that a list of what is public may hold."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who is let in."""

    chain: Chain
    reader: Reader = field(default_factory=Reader)
    public: frozenset[str] = frozenset()
    realm: str = "inferbridge"
    failures: Failures = field(default_factory=Failures)
    body_bytes: int = 32 << 20
    """Of a call whose caller is still being asked about."""
    counters: Counters = NO_COUNTERS


class _Caller:
    """What was made of one head, which holds it: so it does not know its head."""

    __slots__ = ("admitted", "presented", "wrong")

    def __init__(self, presented: Presented, wrong: BridgeError | None) -> None:
        self.presented = presented
        self.wrong = wrong
        """Why the head shows no credential that could be looked at."""
        self.admitted: RequestHead | None = None
        """Stripped, with the identity that was last found."""


class Guard:
    """The `Application` that clients reach."""

    def __init__(self, application: Guarded, access: Access) -> None:
        self._application = application
        self._access = access

    @property
    def access(self) -> Access:
        """Who is let in."""
        return self._access

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        caller: _Caller | None = head.memo.get("caller")
        if caller is None:
            caller = head.memo["caller"] = self._read(head)
        try:
            if caller.wrong is not None:
                raise caller.wrong.with_traceback(None)  # raised for each call with this head
            found = self._access.chain.authenticate(caller.presented)
            if isinstance(found, Question):
                return self._ask(head, caller, found, responder)
        except BridgeError as error:
            return self.turn_away(head, caller, responder, error)
        return self.admit(head, caller, found, responder)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer a request that could not be accepted."""
        self._application.refuse(error, head, responder)

    async def close(self) -> None:
        """Let go of connections."""
        await self._access.chain.close()
        await self._application.close()

    def _read(self, head: RequestHead) -> _Caller:
        reader = self._access.reader
        presented, wrong = Presented(), None
        try:
            presented = reader.read(head.headers, head.certificate)
        except BridgeError as error:
            wrong = error
        return _Caller(presented, wrong)

    def admit(self, head: RequestHead, caller: _Caller, identity: Identity, responder: Responder) -> RequestSink:
        """Let a call go on as that of `identity`."""
        self._access.counters.auth(identity.method, "allowed", "")
        if responder.record is not None:
            responder.record.identity, responder.record.admitted = identity, clock()
        admitted = caller.admitted
        if admitted is None or admitted.identity is not identity:
            admitted = caller.admitted = self._stripped(head, caller.presented.token, identity)
        return self._application.open(admitted, responder)

    def _stripped(self, head: RequestHead, token: Token | None, identity: Identity) -> RequestHead:
        return RequestHead(
            head.method,
            without_secrets(head.target),
            head.authority,
            self._access.reader.stripped(head.headers),
            head.version,
            head.tls,
            head.peer,
            head.certificate,
            identity,
            token.secret if token is not None else None,
            head.destination,
        )

    def _ask(self, head: RequestHead, caller: _Caller, found: Question, responder: Responder) -> RequestSink:
        host, failures = _host(head), self._access.failures
        if failures.exceeded(host):
            found.withdraw()
            raise TooMany(failures.seconds_left(host), found.method)
        waiting = _Waiting(self, head, caller, responder, self._access.body_bytes)
        waiting.begin(found)
        return waiting

    def turn_away(self, head: RequestHead, caller: _Caller, responder: Responder, error: BridgeError) -> RequestSink:
        """Answer what is not let in, unless what it calls is public."""
        if self._access.public and not self._access.public.isdisjoint(self._application.purposes(head)):
            return self.admit(head, caller, ANONYMOUS, responder)
        told = self._told(head, error)
        if responder.record is not None:
            responder.record.failed(told, "UAEX")
        self._application.refuse(told, head, responder)
        return RefusedCall()

    def _told(self, head: RequestHead, error: BridgeError) -> BridgeError:
        """The error as the client gets it; log and counter have the reason."""
        host, counters = _host(head), self._access.counters
        match error:
            case CannotAuthenticate():
                counters.auth(error.method, "error", "")
                _log.error("cannot authenticate %s: %s", host, error.detail)
                return error
            case Unauthenticated():
                counters.auth(error.method, "denied", error.reason)
                _log.warning("refused %s: %s%s", host, error.reason, f" ({error.detail})" if error.detail else "")
                return self._unauthenticated(host, error)
            case Forbidden():
                counters.auth(error.method, "denied", "forbidden")
            case TooMany():
                counters.auth(error.method, "denied", "too_many")
            case _:  # more than one credential
                counters.auth("", "denied", "malformed")
        _log.warning("refused %s: %s", host, error.message)
        return error

    def _unauthenticated(self, host: str, error: Unauthenticated) -> BridgeError:
        """Shows how to authenticate, until an address has tried too often."""
        failures = self._access.failures
        if error.reason != "missing":
            failures.count(host)
            if failures.exceeded(host):
                return TooMany(failures.seconds_left(host))
        error.headers = self._challenges(error)
        return error

    def _challenges(self, error: Unauthenticated) -> tuple[tuple[str, str], ...]:
        """One `WWW-Authenticate` for each scheme (RFC 6750 §3)."""
        problem = "" if error.reason == "missing" else f', error="invalid_token", error_description="{error.message}"'
        schemes = self._access.chain.challenges or ("Bearer",)
        return tuple(("www-authenticate", f'{scheme} realm="{self._access.realm}"{problem}') for scheme in schemes)


def _host(head: RequestHead) -> str:
    """The client's address without its port, which differs with each connection."""
    return head.peer.rpartition(":")[0]


class _Waiting:
    """Holds a call back while somebody is asked who calls."""

    def __init__(self, guard: Guard, head: RequestHead, caller: _Caller, responder: Responder, limit: int) -> None:
        self._guard = guard
        self._head = head
        self._caller = caller
        self._responder = responder
        self._limit = limit
        self._question: asyncio.Future[Identity] | None = None
        self._sink: RequestSink | None = None
        self._held: list[Buffer] = []
        self._size = 0
        self._complete = False

    def begin(self, question: Question) -> None:
        """Ask. An HTTP/2 client is kept from sending more meanwhile."""
        self._responder.hold()
        self._method = question.method
        self._question = asyncio.ensure_future(question.answer)
        self._question.add_done_callback(self._answered)

    def _answered(self, question: asyncio.Future[Identity]) -> None:
        if question.cancelled():
            return
        guard, head, caller, responder = self._guard, self._head, self._caller, self._responder
        try:
            try:
                sink = guard.admit(head, caller, question.result(), responder)
            except REFUSALS as error:
                error.method = self._method
                sink = guard.turn_away(head, caller, responder, error)
            self._go_on(sink)
        except BridgeError as error:
            self._fail(error)
        except Exception:
            # fail closed: outside of the connection's own guard, so the call must be ended here
            _log.exception("a call failed after its caller was asked about")
            self._fail(BridgeError(Code.INTERNAL, "internal error"))

    def _go_on(self, sink: RequestSink) -> None:
        """Let the application have what has come, and what comes."""
        self._sink = sink
        held, self._held = self._held, []
        for data in held:
            sink.on_data(data)
        self._responder.resume()
        if self._complete:
            sink.on_end()

    def _fail(self, error: BridgeError) -> None:
        sink, self._sink = self._sink, RefusedCall()
        self._held = []
        if sink is not None:
            sink.on_cancel()
        if self._responder.record is not None:
            self._responder.record.failed(error)
        self._guard.refuse(error, self._head, self._responder)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if self._sink is not None:
            self._sink.on_data(data)
            return
        self._size += len(data)
        if self._size > self._limit:
            self._stop()
            self._fail(too_large(self._size, self._limit))
        else:
            self._held.append(data)

    def on_end(self) -> None:
        """The body is complete."""
        self._complete = True
        if self._sink is not None:
            self._sink.on_end()

    def on_pressure(self, full: bool) -> None:
        """The answer piles up, or no more."""
        press(self._sink, full)

    def on_cancel(self) -> None:
        """The client went away."""
        self._stop()
        if self._sink is not None:
            self._sink.on_cancel()
        self._sink, self._held = RefusedCall(), []

    def _stop(self) -> None:
        if self._question is not None:
            self._question.cancel()
