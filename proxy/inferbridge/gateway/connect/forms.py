"""The forms that a call and its answer can have, told by method, content type and `Accept`.

* `application/json`, or what curl sends for `-d`: one message in, one out; of a method that streams its answer NDJSON,
  or server-sent events or a JSON array where `Accept` asks for them.
* `application/connect+json`: Connect's streams, envelopes either way.
* `application/proto` and `application/connect+proto`: the same with the messages as they are on the wire.
* GET with the message in the query, for methods that may be called twice.
"""

from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor

from inferbridge.bridge import transcode
from inferbridge.bridge.connect_messages import EnvelopeReader
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import inflate
from inferbridge.bridge.values import Buffer, Headers, header, join
from inferbridge.bridge.wire import Unknown
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.connect.methods import Method

type Shape = Literal["unary", "connect", "lines", "events", "array"]

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
        """A message as the client reads it, in ProtoJSON's own names and forms; `unknown` takes what has no name."""
        if not self.json:
            return bytes(message)
        return transcode.to_json(
            message, descriptor, original_names=False, plain_integers=False, limit=limit, unknown=unknown
        )


def form_of(head: RequestHead, method: Method) -> Form:
    """The form of a call; BridgeError (415) for content types that are none of these."""
    if head.method == "GET":
        return _get_form(head, method)
    kind = (header(head.headers, "content-type") or "").partition(";")[0].strip().lower()
    if kind in _STREAM_TYPES:
        return Form("connect", _STREAM_TYPES[kind], True)
    if kind == "application/proto" and not method.streams:
        return Form("unary", False)
    if kind not in _JSON_TYPES:
        raise BridgeError(Code.INVALID_ARGUMENT, f"content type {kind!r} is none of {_ACCEPTED}", status=415)
    return Form(_shape(header(head.headers, "accept") or "") if method.descriptor.server_streaming else "unary", True)


def _get_form(head: RequestHead, method: Method) -> Form:
    if not method.idempotent or method.streams:
        raise BridgeError(Code.INVALID_ARGUMENT, f"{method.rpc} is called with POST", status=405)
    encoding = _query(head).get("encoding", "json")
    if encoding not in {"json", "proto"}:
        raise BridgeError(Code.INVALID_ARGUMENT, f"encoding {encoding!r} is neither json nor proto", status=415)
    return Form("unary", encoding == "json")


def _shape(accept: str) -> Shape:
    if "text/event-stream" in accept:
        return "events"
    return "array" if "application/json" in accept else "lines"


def messages_of(head: RequestHead, form: Form, body: list[Buffer], limit: int) -> list[Buffer]:
    """The messages of a call as they came, decompressed; `limit` in bytes for each."""
    if head.method == "GET":
        return [_query_message(head, limit)]
    data = join(body) if body else b""
    if form.streams_in:
        encoding = header(head.headers, "connect-content-encoding") or "identity"
        reader = EnvelopeReader(limit, encoding, reply=False)
        messages = reader.feed(data)
        reader.finish()
        return messages
    return [_inflated(data, header(head.headers, "content-encoding") or "identity", limit)]


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
