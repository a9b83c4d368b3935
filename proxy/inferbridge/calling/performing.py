"""Makes a call: straight to who understands it, or through a gateway of its own, in this process and without a port.

    straight:  call ─▶ pool ─▶ runtime
    bridged:   call ─▶ GatewayService ─▶ half-bridges ─▶ pool ─▶ runtime

Over a bridge the runtime's side of the call can be watched: the pool tells of what it sends and gets.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from inferbridge.bridge.chat_template import ChatTemplate
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.calling.asking import Place, Spoken
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.service import GatewayService
from inferbridge.secret import CREDENTIAL_HEADERS
from inferbridge.upstream.api import Call, Pool, Receiver, UpstreamRequest
from inferbridge.upstream.pool import open_pool
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS


@dataclass(frozen=True, slots=True)
class Manner:
    """How a call is made."""

    timeout: float
    """Seconds for the whole call."""
    lossy: bool = False
    chat_template: Path | None = None


type Watch = Callable[[UpstreamRequest], Receiver]
"""Told of each call of the runtime; what it gives hears the answer too."""


async def perform(
    request: UpstreamRequest, ask: Spoken | None, place: Place, manner: Manner, receiver: Receiver, watch: Watch | None
) -> None:
    """Make a call, and come back when the receiver has all of the answer. Without `ask` it goes straight."""
    done = asyncio.Event()
    pool = open_pool(place.url, limits=Limits())
    last = _Both(receiver, _Bell(done))
    try:
        if ask is not None and ask.bridged:
            _bridge(request, ask, place, manner, last, _Watched(pool, _credentials(request), watch))
        else:
            pool.send(request, last, manner.timeout)
        await done.wait()
    finally:
        await pool.close()


def _credentials(request: UpstreamRequest) -> Headers:
    """A gateway keeps them to itself; here they are meant for the runtime."""
    return tuple(pair for pair in request.headers if pair[0] in CREDENTIAL_HEADERS)


def _bridge(
    request: UpstreamRequest, ask: Spoken, place: Place, manner: Manner, receiver: Receiver, pool: Pool
) -> None:
    template = ChatTemplate.load(manner.chat_template) if manner.chat_template is not None else None
    setting = Setting(operations=operations, chat_template=template)
    targets = [Target(place.runtime, profile, place.protocol, pool, setting=setting) for profile in place.profiles]
    limits = Limits(call_seconds=manner.timeout)
    gateway = GatewayService(targets, APIS, Policy(lossy=manner.lossy), limits)
    head = RequestHead(request.method, request.path, "", request.headers, "2" if ask.protocol == "grpc" else "1.1")
    sink = gateway.open(head, _Responder(receiver))
    for chunk in request.chunks:
        sink.on_data(chunk)
    sink.on_end()


@dataclass(frozen=True, slots=True)
class _Responder(Responder):
    """The gateway's answer, for a receiver."""

    receiver: Receiver

    def head(self, status: int, headers: Headers) -> None:
        self.receiver.on_head(status, headers)

    def data(self, data: Buffer) -> None:
        self.receiver.on_data(data)

    def end(self, trailers: Headers = ()) -> None:
        self.receiver.on_end(trailers)

    def abort(self) -> None:
        self.receiver.on_failure(BridgeError(Code.UNAVAILABLE, "the answer was cut off"))


@dataclass(frozen=True, slots=True)
class _Watched:
    """A pool that lets somebody watch, and adds headers."""

    pool: Pool
    headers: Headers
    watch: Watch | None

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        request = structs.replace(request, headers=(*request.headers, *self.headers))
        both = receiver if self.watch is None else _Both(self.watch(request), receiver)
        return self.pool.send(request, both, timeout)

    async def close(self) -> None:
        await self.pool.close()


@dataclass(frozen=True, slots=True)
class _Both:
    """Two receivers of one answer."""

    first: Receiver
    second: Receiver

    def on_head(self, status: int, headers: Headers) -> None:
        self.first.on_head(status, headers)
        self.second.on_head(status, headers)

    def on_data(self, data: Buffer) -> None:
        self.first.on_data(data)
        self.second.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        self.first.on_end(trailers)
        self.second.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        self.first.on_failure(error)
        self.second.on_failure(error)


@dataclass(frozen=True, slots=True)
class _Bell:
    """A receiver that only wants to know when it is over."""

    over: asyncio.Event

    def on_head(self, status: int, headers: Headers) -> None:
        pass

    def on_data(self, data: Buffer) -> None:
        pass

    def on_end(self, trailers: Headers) -> None:
        self.over.set()

    def on_failure(self, error: BridgeError) -> None:
        self.over.set()
