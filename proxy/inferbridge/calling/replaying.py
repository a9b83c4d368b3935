"""Makes a recorded call again, of the gateway, of its runtime, or through a bridge of another runtime."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import HOP_BY_HOP, Buffer, Headers
from inferbridge.calling.asking import Place, Spoken, spoken
from inferbridge.calling.performing import Manner, perform
from inferbridge.recorded.calls import encoded, left_out, method_word, refuse_cut
from inferbridge.recorded.editing import Edit, edited
from inferbridge.recorded.exchanges import Message, Side
from inferbridge.recorded.facts import find_endpoint
from inferbridge.secret import HIDDEN
from inferbridge.upstream.api import UpstreamRequest

_MADE_ANEW = HOP_BY_HOP | {"host", "content-length", "accept-encoding", "expect"}


@dataclass(frozen=True, slots=True)
class Again:
    """A recorded call, to be made once more."""

    request: UpstreamRequest
    ask: Spoken | None
    """How it crosses a bridge; None: it goes straight."""
    place: Place
    missing: tuple[str, ...]
    """Names of headers and parameters whose values were not recorded and not given, or cannot be sent."""


def prepared(side: Side, place: Place, headers: Headers, edits: Collection[Edit]) -> Again:
    """The call as it is sent; `headers` replace those of the same name.

    Raises ValueError or `BridgeError` for one that cannot be sent there.
    """
    refuse_cut(side)
    given = {name for name, _ in headers}
    unfit = _MADE_ANEW | given | set(left_out(side))
    left = [pair for pair in side.asked.headers if pair[0] not in unfit]
    missing = [name for name, value in left if value == HIDDEN or value.endswith(f" {HIDDEN}")]
    body = side.asked.body
    if edits:
        body = edited(side, edits)
        left = [pair for pair in left if pair[0] not in ("grpc-encoding", "content-encoding")]
    kept = tuple((name, _octets(value)) for name, value in left if name not in missing)
    target, parameters = _without_hidden(str(encoded((side.asked.target,))[0]))
    request = UpstreamRequest(method_word(side), target, (*kept, *headers), (body,) if body else ())
    ask, where = _way(side, place)
    return Again(request, ask, where, (*missing, *parameters, *left_out(side)))


def _without_hidden(target: str) -> tuple[str, list[str]]:
    """A target without the parameters of its query that were hidden, and the names of these."""
    path, mark, query = target.partition("?")
    pairs = query.split("&") if mark else []
    kept = [pair for pair in pairs if pair.partition("=")[2] != HIDDEN]
    hidden = [pair.partition("=")[0] for pair in pairs if pair not in kept]
    return f"{path}?{'&'.join(kept)}" if kept else path, hidden


def _octets(value: str) -> str:
    """mitmproxy reads headers as UTF-8, a pool writes them in ISO 8859-1: the same bytes."""
    return value.encode(errors="surrogateescape").decode("latin-1")


def _way(side: Side, place: Place) -> tuple[Spoken | None, Place]:
    """Over a bridge where a runtime is named that does not speak this, else straight, over the call's own protocol."""
    if place.runtime:
        match = find_endpoint(side.protocol, side.asked.method, side.asked.target)
        if match is None:
            raise ValueError(f"no spec has this call, so none can say how {place.runtime} is asked the same")
        ask = spoken(match.api, match.endpoint, place, side.protocol)
        return (ask if ask.bridged else None), place
    if side.protocol == "rest" and place.protocol == "grpc":
        raise ValueError("it is a REST call; say which runtime is there, as in triton=grpc://…, to have it translated")
    if side.protocol == "grpc" and place.protocol == "rest":
        return None, Place(place.url.replace("http", "grpc", 1))
    return None, place


def replayed(side: Side, again: Again, manner: Manner) -> Side:
    """The side with the new answer, or with the error that came instead."""
    heard = _Heard()
    asyncio.run(perform(again.request, again.ask, again.place, manner, heard, None))
    body = again.request.chunks[0] if again.request.chunks else b""
    asked = replace(side.asked, body=bytes(body), headers=again.request.headers)
    told = None if heard.error else Message(status=heard.status, headers=heard.headers, body=bytes(heard.body),
                                            trailers=heard.trailers)  # fmt: skip
    return replace(side, asked=asked, told=told, error=heard.error)


@dataclass(slots=True)
class _Heard:
    """A receiver that keeps the answer."""

    status: int = 0
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = ()
    error: str = ""

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: Buffer) -> None:
        self.body += data

    def on_end(self, trailers: Headers) -> None:
        self.trailers = trailers

    def on_failure(self, error: BridgeError) -> None:
        self.error = f"{error.code.name}: {error.message}"
