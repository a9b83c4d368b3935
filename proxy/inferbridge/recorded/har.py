"""Recorded calls as HAR 1.2, the form that browsers and their tools exchange.

HAR knows neither the messages of a stream, nor trailers, nor that one call made others: these stand in `_inferbridge`,
as the format allows for fields of one's own. Times are in milliseconds, -1 where they are not known, as HAR has it.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from inferbridge.bridge.values import Headers, header
from inferbridge.recorded.calls import Place, encoded
from inferbridge.recorded.credentials import hidden_headers, hidden_target
from inferbridge.recorded.exchanges import Exchange, Message, Side
from inferbridge.recorded.lines import line_of
from inferbridge.upstream.address import parse_address


def har_log(entries: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The whole document."""
    creator = {"name": "inferbridge", "version": version("inferbridge")}
    return {"log": {"version": "1.2", "creator": creator, "entries": entries}}


def har_entry(exchange: Exchange, side: Side, place: Place) -> Mapping[str, Any]:
    """One call of a client, or with a side of a runtime one of the gateway's; the whole exchange is beside it."""
    times = exchange.times if side is exchange.client else None
    wait, receive = _timings(times or {})
    return {
        "startedDateTime": datetime.fromtimestamp(exchange.began, UTC).isoformat(timespec="milliseconds"),
        "time": max(0.0, wait) + max(0.0, receive),
        "request": _request(side, place),
        "response": _response(side, place),
        "cache": {},
        "timings": {"send": 0, "wait": max(0.0, wait), "receive": max(0.0, receive)},
        "_inferbridge": msgspec.to_builtins(line_of(exchange, reveal=place.reveal)),
    }


def _timings(times: Mapping[str, float]) -> tuple[float, float]:
    first, ended = times.get("first_byte"), times.get("ended")
    if first is None:
        return -1.0, -1.0
    return first * 1000, max(0.0, (ended - first) * 1000) if ended is not None else -1.0


def _request(side: Side, place: Place) -> Mapping[str, Any]:
    asked = side.asked
    target = hidden_target(asked.target, reveal=place.reveal)
    query = parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="replace")
    request = {
        "method": asked.method,
        "url": f"{_base(side, place)}{encoded((target,))[0]}",
        "httpVersion": _version(side),
        "cookies": [],
        "headers": _headers(asked.headers, place),
        "queryString": [{"name": name, "value": value} for name, value in query],
        "headersSize": -1,
        "bodySize": len(asked.body),
    }
    if asked.body:
        request["postData"] = {
            "mimeType": header(asked.headers, "content-type") or "",
            **_text(asked.body, "_encoding"),
        }
    return request


def _base(side: Side, place: Place) -> str:
    """A side of a runtime has no address that was recorded: its name stands for it."""
    if not (place.url or side.url):
        return f"http://{side.upstream or 'unknown'}"
    try:
        address = parse_address(place.url or side.url)
    except ValueError:
        return "http://unknown"
    return f"{'https' if address.tls else 'http'}://{address.authority}"


def _version(side: Side) -> str:
    return "HTTP/2" if side.is_http2 or side.protocol == "grpc" else "HTTP/1.1"


def _response(side: Side, place: Place) -> Mapping[str, Any]:
    told = side.told or Message()
    return {
        "status": told.status,
        "statusText": _phrase(told.status),
        "httpVersion": _version(side),
        "cookies": [],
        "headers": _headers(told.headers, place),
        "content": {
            "size": len(told.body),
            "mimeType": header(told.headers, "content-type") or "",
            **(_text(told.body, "encoding") if told.body else {}),
        },
        "redirectURL": header(told.headers, "location") or "",
        "headersSize": -1,
        "bodySize": -1,
        **({"comment": side.error} if side.error else {}),
    }


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in set(HTTPStatus) else ""


def _headers(headers: Headers, place: Place) -> list[Mapping[str, str]]:
    shown = hidden_headers(headers, reveal=place.reveal)
    return [{"name": name, "value": value} for name, value in shown]


def _text(body: bytes, encoding: str) -> Mapping[str, str]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"text": base64.b64encode(body).decode(), encoding: "base64"}
