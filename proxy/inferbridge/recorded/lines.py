"""Recorded calls as JSON lines: one call a line, both sides of it, bodies taken apart.

`Line` is what a line says; `exchange.schema.json` beside this module says the same as JSON Schema. All keys are always
there, null where nothing is known.
"""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from inferbridge.bridge.values import Headers
from inferbridge.recorded.bodies import Body, Kind, reply_body, request_body
from inferbridge.recorded.credentials import hidden_headers, hidden_target
from inferbridge.recorded.exchanges import Exchange, Message, Side

type _Size = Annotated[int, Meta(ge=0)]
type _Milliseconds = Annotated[float, Meta(ge=0.0)]


class Content(Struct, forbid_unknown_fields=True):
    """A body."""

    kind: Kind
    """How `value` stands for it."""
    value: Any
    """JSON as it is; `lines` and `messages` (gRPC) are lists; `binary` is base64; `empty` is null."""
    size: _Size
    """Bytes that were recorded, framing included."""
    is_cut: bool
    """There was more of it."""
    unknown: list[str]
    """Fields of gRPC messages that no proto names; `value` lacks them."""


class Asked(Struct, forbid_unknown_fields=True):
    """A request."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: Content


class Told(Struct, forbid_unknown_fields=True):
    """An answer."""

    status: _Size
    headers: list[tuple[str, str]]
    body: Content
    trailers: list[tuple[str, str]]


class OneSide(Struct, forbid_unknown_fields=True):
    """What a client or the gateway asked, and was told."""

    protocol: Literal["rest", "grpc"]
    url: str | None
    api: str | None
    endpoint: str | None
    upstream: str | None
    runtime: str | None
    request: Asked
    reply: Told | None
    error: str | None


class Line(Struct, forbid_unknown_fields=True):
    """One call."""

    began: Annotated[str, Meta(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\.[0-9]{3}Z$")]
    """RFC 3339, UTC."""
    client: OneSide
    runtimes: list[OneSide]
    """Calls that the gateway made for it."""
    losses: list[str]
    """Fields that were dropped on the way."""
    record: dict[str, Any]
    """What else is known of the call, by the names of the access log."""
    times_ms: dict[str, _Milliseconds]
    """Since `began`: `asked`, `first_byte`, `ended`, as far as they are known."""


def schema() -> Mapping[str, Any]:
    """The JSON Schema of a line."""
    found = msgspec.json.schema(Line)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def line_of(exchange: Exchange, *, reveal: bool) -> Line:
    """All that a recording tells of a call; `reveal` shows credentials that it holds."""
    return Line(
        datetime.fromtimestamp(exchange.began, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        _side(exchange.client, reveal),
        [_side(leg, reveal) for leg in exchange.legs],
        list(exchange.losses),
        dict(exchange.record),
        {name: at * 1000 for name, at in (exchange.times or {}).items()},
    )


def json_text(value: Any) -> bytes:
    """A Struct or a plain value as one line of JSON, all digits of its numbers; what is no text in UTF-8 is escaped."""
    plain = msgspec.to_builtins(value, builtin_types=(bytes,))
    text = json.dumps(plain, ensure_ascii=False, default=repr)
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates, which JSON can only say in escapes
        return json.dumps(plain, default=repr).encode()


def _side(side: Side, reveal: bool) -> OneSide:
    asked = Asked(
        side.asked.method,
        hidden_target(side.asked.target, reveal=reveal),
        _headers(side.asked.headers, reveal),
        _content(side.asked, request_body(side)),
    )
    told = None
    if side.told is not None:
        headers, trailers = _headers(side.told.headers, reveal), _headers(side.told.trailers, reveal)
        told = Told(side.told.status, headers, _content(side.told, reply_body(side)), trailers)
    return OneSide(
        "grpc" if side.protocol == "grpc" else "rest",
        side.url or None,
        side.api or None,
        side.endpoint or None,
        side.upstream or None,
        side.runtime or None,
        asked,
        told,
        side.error or None,
    )


def _headers(headers: Headers, reveal: bool) -> list[tuple[str, str]]:
    return list(hidden_headers(headers, reveal=reveal))


def _content(message: Message, body: Body) -> Content:
    value = body.value
    if body.kind == "binary":
        value = base64.b64encode(value).decode()
    elif body.kind == "messages":
        value = [json.loads(text) for text in value]
    return Content(body.kind, value, len(message.body), message.is_cut, list(body.unknown))
