"""The forms that a call and its answer can have, told by method, content type and `Accept`.

* `application/json`, or what curl sends for `-d`: one message in, one out; of a method that streams its answer NDJSON,
  or server-sent events or a JSON array where `Accept` asks for them.
* `application/connect+json`: Connect's streams, envelopes either way, each message taken as it comes.
* `application/proto` and `application/connect+proto`: the same with the messages as they are on the wire.
* GET with the message in the query, for methods that may be called twice.
"""

from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Literal, Protocol
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor

from inferbridge.bridge import transcode
from inferbridge.bridge.accept import StreamForm, stream_form
from inferbridge.bridge.connect_messages import EnvelopeReader
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import inflate, too_large
from inferbridge.bridge.values import Buffer, Headers, header, join, media_type
from inferbridge.bridge.wire import Unknown
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.connect.methods import Method
from inferbridge.gateway.limits import Limits

type Shape = Literal["unary", "connect"] | StreamForm

_JSON_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded", ""})
"""The second is curl's own for `-d`, the last is no type at all."""
_STREAM_TYPES = {"application/connect+json": True, "application/connect+proto": False}
_ACCEPTED = "application/json, application/proto, application/connect+json, application/connect+proto"


@dataclass(frozen=True, slots=True)
class Form:
    """How one call is written."""

    shape: Shape
    """Of the answer."""
    json: bool
    """False: protobuf."""
    streams_in: bool = False
    """The body is a sequence of envelopes."""

    def read(self, message: Buffer, descriptor: Descriptor, limit: int) -> Buffer:
        """A message on the wire."""
        return transcode.to_message(message or b"{}", descriptor, limit=limit) if self.json else message

    def write(self, message: Buffer, descriptor: Descriptor, limit: int, unknown: Unknown) -> bytes:
        """A message as the client reads it, in ProtoJSON's own names and forms.

        `unknown` takes what the descriptor does not know: JSON has no name for it.
        """
        if not self.json:
            return bytes(message)
        return transcode.to_json(
            message, descriptor, original_names=False, plain_integers=False, limit=limit, unknown=unknown
        )


def form_of(head: RequestHead, method: Method) -> Form:
    """The form of a call; BridgeError (415) for content types that are none of these."""
    if head.method == "GET":
        return _get_form(head, method)
    kind = media_type(head.headers)
    if kind in _STREAM_TYPES:
        return Form("connect", _STREAM_TYPES[kind], True)
    if kind == "application/proto" and not method.streams:
        return Form("unary", False)
    if kind not in _JSON_TYPES:
        raise BridgeError(Code.INVALID_ARGUMENT, f"content type {kind!r} is none of {_ACCEPTED}", status=415)
    return Form(
        stream_form(header(head.headers, "accept") or "", "lines") if method.descriptor.server_streaming else "unary",
        True,
    )


def _get_form(head: RequestHead, method: Method) -> Form:
    if not method.idempotent or method.streams:
        raise BridgeError(Code.INVALID_ARGUMENT, f"{method.rpc} is called with POST", status=405)
    encoding = _query(head).get("encoding", "json")
    if encoding not in {"json", "proto"}:
        raise BridgeError(Code.INVALID_ARGUMENT, f"encoding {encoding!r} is neither json nor proto", status=415)
    return Form("unary", encoding == "json")


class Body(Protocol):
    """Takes the body of a call apart; BridgeError for what is too large, or no body of this form."""

    def feed(self, data: Buffer) -> list[Buffer]:
        """The messages that `data` completes, decompressed."""

    def finish(self) -> list[Buffer]:
        """The messages that the end completes."""


def body_of(head: RequestHead, form: Form, limits: Limits) -> Body:
    """What reads the body of a call."""
    return _Envelopes(head, limits) if form.streams_in else _OneMessage(head, limits)


class _Envelopes:
    """Each message by itself."""

    def __init__(self, head: RequestHead, limits: Limits) -> None:
        encoding = header(head.headers, "connect-content-encoding") or "identity"
        self._reader = EnvelopeReader(limits.message_bytes, encoding, reply=False)

    def feed(self, data: Buffer) -> list[Buffer]:
        return self._reader.feed(data)

    def finish(self) -> list[Buffer]:
        self._reader.finish()
        return []


class _OneMessage:
    """The whole body, or the query of a GET."""

    def __init__(self, head: RequestHead, limits: Limits) -> None:
        self._head = head
        self._limits = limits
        self._body: list[Buffer] = []
        self._size = 0

    def feed(self, data: Buffer) -> list[Buffer]:
        self._size += len(data)
        if self._size > self._limits.body_bytes:
            raise too_large(self._size, self._limits.body_bytes)
        self._body.append(data)
        return []

    def finish(self) -> list[Buffer]:
        limit = self._limits.message_bytes
        if self._head.method == "GET":
            return [_query_message(self._head, limit)]
        encoding = header(self._head.headers, "content-encoding") or "identity"
        return [_inflated(join(self._body) if self._body else b"", encoding, limit)]


def _query(head: RequestHead) -> dict[str, str]:
    return dict(parse_qsl(head.target.partition("?")[2], keep_blank_values=True))


def _query_message(head: RequestHead, limit: int) -> Buffer:
    query = _query(head)
    text = query.get("message", "")
    if query.get("base64") != "1":
        return _inflated(text.encode(), query.get("compression", "identity"), limit)
    try:
        data = urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except ValueError:
        raise invalid("message is not base64") from None
    return _inflated(data, query.get("compression", "identity"), limit)


def _inflated(data: Buffer, encoding: str, limit: int) -> Buffer:
    if encoding == "identity":
        return data
    if encoding != "gzip":
        raise BridgeError(Code.UNIMPLEMENTED, f"{encoding!r} is not supported; use gzip or identity")
    return inflate(data, "gzip", limit)


def metadata(headers: Headers) -> Headers:
    """What of an HTTP request's headers is metadata of the call."""
    return tuple(pair for pair in headers if not pair[0].startswith(("connect-", "content-", "accept")))
