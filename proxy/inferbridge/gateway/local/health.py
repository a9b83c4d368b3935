"""grpc.health.v1: whether services are ready, asked once or watched.

Readiness is asked for, never stored: each service has a function that tells it. What it tells may have to be found
out first (`refresh`), which is done for every question, and every `WATCH_SECONDS` while somebody watches. Who knows
that a service may now say something else calls `ServiceStates.changed`, and everybody who watches one that did change
hears of it.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.local.calls import StreamCall
from inferbridge.gateway.local.messages import message_class, parse

_log = logging.getLogger(__name__)
_MAX_LISTED = 100
"""Services in one answer of List, as the protocol asks."""
_REQUEST = "grpc.health.v1.HealthCheckRequest"
_RESPONSE = "grpc.health.v1.HealthCheckResponse"
type Ready = Callable[[], bool]
type Then = Callable[[], None]
type Refresh = Callable[[Iterable[str], Then], None]
"""Finds out what the readiness of some services depends on, and then calls what it is given."""
WATCH_SECONDS = 5.0


class Status(IntEnum):
    """grpc.health.v1.HealthCheckResponse.ServingStatus."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


class _Watch:
    """Somebody who watches a service, and what they know of it."""

    def __init__(self, service: str, tell: Callable[[Status | None], None]) -> None:
        self.service = service
        self.tell = tell
        self.known: Status | None = None

    def update(self, status: Status) -> None:
        if status is not self.known:
            self.known = status
            self.tell(status)


class ServiceStates:
    """The state of each service by its full name; "" is the whole gateway, ready unless `ready` has a say in it.

    `ready` is looked at anew each time, so services may come and go. All of this belongs to one event loop.
    """

    def __init__(self, ready: Mapping[str, Ready], refresh: Refresh | None = None) -> None:
        self._ready = ready
        self._refresh = refresh
        self._watches: dict[_Watch, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = False
        self._closed = False
        self._successor: ServiceStates | None = None

    def refreshed(self, services: Iterable[str], then: Then) -> None:
        """Call `then` when the states of some services are as good as new."""
        if self._refresh is None or self._closed:
            then()
        else:
            self._refresh(services, then)

    def refreshed_all(self, then: Then) -> None:
        """The same for every service."""
        self.refreshed(list(self._ready), then)

    def status(self, service: str) -> Status | None:
        """SERVING or NOT_SERVING; None for a service that is not known. One that cannot tell is not ready."""
        ready = self._ready.get(service)
        if ready is None and service:
            return None
        try:
            serving = not (self._stopping or self._closed) and (ready is None or ready())
            return Status.SERVING if serving else Status.NOT_SERVING
        except Exception:
            _log.exception("the readiness of %r cannot be told", service)
            return Status.NOT_SERVING

    def statuses(self) -> dict[str, Status]:
        """The state of every known service."""
        found = {service: self.status(service) for service in sorted({"", *self._ready})}
        return {service: status for service, status in found.items() if status is not None}

    def watch(self, service: str, tell: Callable[[Status | None], None]) -> Callable[[], None]:
        """Tell the state now and whenever it changes, and None when the gateway stops; returns what ends this."""
        if self._successor is not None:
            return self._successor.watch(service, tell)
        watch = _Watch(service, tell)
        if self._closed:
            tell(None)
        else:
            self._watches[watch] = None
            watch.update(self._watched(service))
            self._look_again()
        return lambda: self._forget(watch)

    def _forget(self, watch: _Watch) -> None:
        if self._successor is not None:
            self._successor._forget(watch)
        self._watches.pop(watch, None)

    def _look_again(self) -> None:
        """Later, while there are watches and something to find out."""
        if self._timer is None and self._watches and self._refresh is not None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_SECONDS, self._look)

    def _look(self) -> None:
        self._timer = None
        self.refreshed({watch.service for watch in self._watches}, self.changed)
        self._look_again()

    def _watched(self, service: str) -> Status:
        status = self.status(service)
        return Status.SERVICE_UNKNOWN if status is None else status

    def changed(self) -> None:
        """The readiness of some service may have changed."""
        if self._successor is not None:  # somebody has been asked in its name, and answers
            return
        watches = list(self._watches)
        now = {service: self._watched(service) for service in {watch.service for watch in watches}}
        for watch in watches:
            if watch in self._watches:  # telling one may end another
                watch.update(now[watch.service])

    def succeed(self, before: "ServiceStates") -> None:
        """Whoever watches `before` watches this from now on."""
        self._watches, before._watches = before._watches, {}
        before._successor = self
        before._rest()
        self._look_again()
        self.changed()

    def stopping(self) -> None:
        """Nothing is ready any more, though calls are served yet."""
        self._stopping = True
        self.changed()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """The gateway stops."""
        self._closed = True
        self._rest()
        watches, self._watches = self._watches, {}
        for watch in watches:
            watch.tell(None)


class Health:
    """The answers of Check and List."""

    def __init__(self, states: ServiceStates) -> None:
        self._states = states

    def prepare_check(self, message: Buffer, then: Then) -> None:
        """Find out about the service."""
        self._states.refreshed((parse(_REQUEST, message).service,), then)

    def prepare_list(self, message: Buffer, then: Then) -> None:
        """Find out about all services."""
        self._states.refreshed_all(then)

    def check(self, message: Buffer) -> bytes:
        """The state of one service; NOT_FOUND when it is not known."""
        service: str = parse(_REQUEST, message).service
        status = self._states.status(service)
        if status is None:
            raise BridgeError(Code.NOT_FOUND, f"unknown service {service[:200]!r}")
        return _response(status)

    def list(self, message: Buffer) -> bytes:
        """The state of every service."""
        parse("grpc.health.v1.HealthListRequest", message)
        statuses = self._states.statuses()
        if len(statuses) > _MAX_LISTED:
            text = f"{len(statuses)} services are more than the {_MAX_LISTED} that one answer may list"
            raise BridgeError(Code.RESOURCE_EXHAUSTED, text)
        response = message_class("grpc.health.v1.HealthListResponse")()
        for service, status in statuses.items():
            response.statuses[service].status = int(status)
        return bytes(response.SerializeToString(deterministic=True))


def _response(status: Status) -> bytes:
    return bytes(message_class(_RESPONSE)(status=int(status)).SerializeToString())


class WatchCall(StreamCall):
    """Watch: the state of a service now, and each time it changes, until the client goes."""

    def __init__(self, head: RequestHead, responder: Responder, states: ServiceStates) -> None:
        super().__init__(head, responder)
        self._states = states
        self._service: str | None = None
        self._unwatch: Callable[[], None] | None = None

    def take(self, message: Buffer) -> None:
        """The request."""
        if self._service is not None:
            raise invalid(f"{self._head.target} takes one message, got more")
        service = self._service = str(parse(_REQUEST, message).service)
        self._states.refreshed((service,), lambda: self._watch(service))

    def _watch(self, service: str) -> None:
        if not self.done:
            self._unwatch = self._states.watch(service, self._tell)

    def complete(self) -> None:
        """The client has said what to watch."""
        if self._service is None:
            raise invalid(f"{self._head.target} takes one message, got none")

    def _tell(self, status: Status | None) -> None:
        if status is None:
            self.fail(BridgeError(Code.UNAVAILABLE, "the gateway is stopping"))
        else:
            self.send((_response(status),))

    def finish(self) -> None:
        """Watch no more."""
        super().finish()
        if self._unwatch is not None:
            self._unwatch()
