"""Recorded calls as values, read from mitmproxy's flows: those of the gateway's capture, and those of any traffic.

    client ── asked ──▶ gateway ── asked ──▶ runtime
           ◀── told ──         ◀── told ────

A flow of the gateway holds what its transcript knew (`inspect.told.FLOW_KEY`): both sides and the call's record. Of
another flow there is the client's side alone; what a record would say is read off the call as far as the specs know it.
Anything may be missing from a flow, and nothing that stands in one is trusted.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mitmproxy import exceptions, http
from mitmproxy.io import FlowReader

from inferbridge.bridge.values import Headers, header
from inferbridge.inspect.told import FLOW_KEY
from inferbridge.recorded.facts import facts_of


@dataclass(frozen=True, slots=True)
class Message:
    """One HTTP message, of either direction."""

    method: str = ""
    target: str = ""
    """Path and query of a request."""
    status: int = 0
    headers: Headers = ()
    """Names in lower case."""
    body: bytes = b""
    """Of an answer without its content coding, of a request as it was sent."""
    trailers: Headers = ()
    is_cut: bool = False
    """The body was longer than what was kept of it."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one side asked, and was told."""

    protocol: str
    """`rest` or `grpc`."""
    asked: Message
    told: Message | None = None
    """None where no answer came."""
    url: str = ""
    """Scheme, host and port of who was asked; empty: not recorded."""
    is_http2: bool = False
    api: str = ""
    """Empty: not known, as is the endpoint."""
    endpoint: str = ""
    variant: str = ""
    upstream: str = ""
    runtime: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded call."""

    number: int
    """Its place in the file, from 1."""
    client: Side
    legs: tuple[Side, ...]
    """Calls of runtimes; none where none was made, or only the client's side was recorded."""
    record: Mapping[str, Any]
    """What is known of the call, by the names of the access log."""
    losses: tuple[str, ...] = ()
    began: float = 0.0
    """Seconds since 1970."""
    times: Mapping[str, float] | None = None
    """Seconds since `began`: `asked`, `first_byte` and `ended`, as far as they are known."""

    @property
    def title(self) -> str:
        """For people; it holds what strangers sent."""
        return f"{self.client.asked.method} {self.client.asked.target.partition('?')[0]}"

    def sides(self, name: str) -> tuple[Side, ...]:
        """Those of `client` or `runtime`."""
        return (self.client,) if name == "client" else self.legs


class Unreadable(Exception):
    """The file is no file of flows from here on."""


def read_exchanges(path: Path) -> Iterator[Exchange | str]:
    """The calls of a file, and a sentence for each flow that is none. Raises `Unreadable` where the file breaks off."""
    with path.open("rb") as file:
        yield from exchanges_in(file)


def exchanges_in(file: BinaryIO) -> Iterator[Exchange | str]:
    """As `read_exchanges`."""
    number = 0
    try:
        for number, flow in enumerate(FlowReader(file).stream(), 1):
            if isinstance(flow, http.HTTPFlow):
                yield exchange_of(flow, number)
            else:
                yield f"flow {number} is {flow.type}, not HTTP"
    except (exceptions.FlowReadException, OSError) as error:
        raise Unreadable(f"not a file of mitmproxy's flows after {number} of them: {error}") from None


def exchange_of(flow: http.HTTPFlow, number: int = 1) -> Exchange:
    """The call that a flow tells of."""
    told = _mapping(flow.metadata.get(FLOW_KEY))
    record, times = _mapping(told.get("call")), _times(flow)
    client = _client(flow, _mapping(told.get("client")), record)
    record = record or facts_of(client.protocol, client.asked, client.told, times)
    losses = tuple(str(name) for name in _list(told.get("losses")))
    legs = tuple(_leg(_mapping(leg)) for leg in _list(told.get("upstream")))
    return Exchange(number, client, legs, record, losses, flow.request.timestamp_start or 0.0, times)


def _client(flow: http.HTTPFlow, spoken: Mapping[str, Any], record: Mapping[str, Any]) -> Side:
    request = flow.request
    headers, body = _headers(request.headers), request.raw_content
    size = None if flow.modified() else record.get("bytes_in")  # somebody who has edited it has seen what there is
    is_cut = _lacks(headers, body, size)
    asked = Message(request.method, request.path, headers=headers, body=body or b"", is_cut=is_cut)
    return Side(
        "grpc" if _is_grpc(headers) else "rest",
        asked,
        _answer(flow.response, record) if flow.response is not None else None,
        f"{request.scheme}://{_bracketed(request.host)}:{request.port}",
        request.http_version.startswith("HTTP/2"),
        str(spoken.get("api", "")),
        str(spoken.get("endpoint", "")),
        str(spoken.get("way", "")).partition("/")[2],
        error=flow.error.msg if flow.error is not None else "",
    )


def _answer(response: http.Response, record: Mapping[str, Any]) -> Message:
    headers = _headers(response.headers)
    return Message(
        status=response.status_code,
        headers=headers,
        body=response.get_content(strict=False) or b"",
        trailers=_headers(response.trailers) if response.trailers is not None else (),
        is_cut=_lacks(headers, response.raw_content, record.get("bytes_out")),
    )


def _leg(leg: Mapping[str, Any]) -> Side:
    asked, told = _mapping(leg.get("asked")), _mapping(leg.get("told"))
    protocol = "grpc" if leg.get("protocol") == "grpc" else "rest"
    return Side(
        protocol,
        _message(asked, method=str(leg.get("method", "")), target=str(leg.get("target", ""))),
        _message(told, status=int(leg["status"])) if leg.get("status") else None,
        is_http2=protocol == "grpc",
        api=str(leg.get("api", "")),
        variant=str(leg.get("variant", "")),
        upstream=str(leg.get("upstream", "")),
        runtime=str(leg.get("runtime", "")),
        error=str(leg.get("error") or ""),
    )


def _message(told: Mapping[str, Any], *, method: str = "", target: str = "", status: int = 0) -> Message:
    headers, body = _pairs(told.get("headers")), told.get("body")
    kept = body if isinstance(body, bytes) else b""
    is_cut = _lacks(headers, body if isinstance(body, bytes) else None, told.get("size"))
    return Message(method, target, status, headers, kept, _pairs(told.get("trailers")), is_cut)


def _lacks(headers: Headers, body: bytes | None, size: Any = None) -> bool:
    """Whether there is less of a body than was told, or than its head says; that of a HEAD's answer is never there."""
    if body is None:
        return True
    if isinstance(size, int):
        return size > len(body)
    length = header(headers, "content-length") or ""
    return bool(body) and length.isascii() and length.isdecimal() and int(length[:20]) > len(body)


def _is_grpc(headers: Headers) -> bool:
    kind = (header(headers, "content-type") or "").lower()
    return kind.startswith("application/grpc") and not kind.startswith("application/grpc-web")


def _headers(fields: http.Headers) -> Headers:
    return tuple((name.lower(), value) for name, value in fields.items(multi=True) if not name.startswith(":"))


def _pairs(value: Any) -> Headers:
    return tuple((str(pair[0]).lower(), str(pair[1])) for pair in _list(value) if len(_list(pair)) == 2)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _times(flow: http.HTTPFlow) -> Mapping[str, float]:
    reply = flow.response
    found = {
        "asked": flow.request.timestamp_end,
        "first_byte": reply.timestamp_start if reply is not None else None,
        "ended": reply.timestamp_end if reply is not None else None,
    }
    began = flow.request.timestamp_start or 0.0
    return {name: max(0.0, at - began) for name, at in found.items() if at}
