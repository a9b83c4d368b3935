"""The Connect protocol (connectrpc.com): messages in a stream, its end, and errors as JSON.

A stream is a sequence of envelopes, like gRPC's: a byte of flags, four of length, the message. The last envelope of an
answer has the flag END and tells, as JSON, the error if there was one and the trailing metadata. A unary answer is
plain HTTP; its error is the same JSON object, with the HTTP status that belongs to its code.
"""

import binascii
import re
import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import inflate
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.json_errors import error_headers
from inferbridge.bridge.rest import CODE_TO_HTTP
from inferbridge.bridge.values import Buffer, Headers, HttpReply

STREAM_JSON = "application/connect+json"
UNARY_JSON = "application/json"
COMPRESSED = 1
END = 2

_PREFIX = struct.Struct(">BI")
_TIMEOUT = re.compile(r"[0-9]{1,10}")
NAMES = {code: "canceled" if code is Code.CANCELLED else code.name.lower() for code in Code if code}
"""Connect's name of each code."""
_CODES = {name: code for code, name in NAMES.items()}

# The protocol's own table for answers without an error object; statuses of a proxy on the way, mostly.
_INFERRED = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}


class Detail(NamedTuple):
    """A detail of an error: the full name of a protobuf message, and the message on the wire."""

    type: str
    value: bytes


class StreamEnd(NamedTuple):
    """How a stream ended: the error, if there was one, with its details, and the trailing metadata."""

    error: BridgeError | None
    details: tuple[Detail, ...] = ()
    metadata: Headers = ()


class EnvelopeReader(MessageReader):
    """Reads the messages of one stream; `limit` in bytes, before and after decompression.

    `encoding` is the stream's `connect-content-encoding`. An answer (`reply`) ends with `end`; a request has none.
    """

    def __init__(self, limit: int, encoding: str = "identity", *, reply: bool) -> None:
        super().__init__(limit, encoding)
        self._reply = reply
        self.end: StreamEnd | None = None
        """How the stream ended, as soon as it did."""

    def feed(self, data: Buffer) -> list[Buffer]:
        """The messages that `data` completes, without the end; BridgeError for what is too large, or no Connect."""
        if self.end is not None:
            if len(data):
                raise self._broken("the stream goes on after its end")
            return []
        messages = super().feed(data)
        if self.end is not None:
            messages.pop()
        return messages

    def _message(self, flag: int, message: bytes) -> bytes:
        if self.end is not None:
            raise self._broken("the stream goes on after its end")
        if flag & ~(COMPRESSED | END) or (flag & END and not self._reply):
            raise self._broken(f"the flags {flag:#x} of a Connect envelope mean nothing here")
        plain = self._inflated(message) if flag & COMPRESSED else message
        if flag & END:
            self.end = read_end(plain)
        return plain

    def _inflated(self, message: bytes) -> bytes:
        if self._encoding == "identity":
            raise self._broken("a Connect message is compressed, but the stream has no connect-content-encoding")
        if self._encoding != "gzip":
            what = f"connect-content-encoding {self._encoding!r}"
            raise BridgeError(Code.UNIMPLEMENTED, f"{what} is not supported; use gzip or identity")
        return inflate(message, "gzip", self._limit)

    def _broken(self, message: str) -> BridgeError:
        """What a runtime sends wrongly is not the client's fault."""
        return BridgeError(Code.INTERNAL, message) if self._reply else invalid(message)

    def finish(self) -> None:
        """BridgeError when the stream was cut: within a message, or an answer before its end."""
        super().finish()
        if self._reply and self.end is None:
            raise BridgeError(Code.UNAVAILABLE, "the stream broke off before its end")


def encode_end(end: StreamEnd) -> bytes:
    """The last envelope of an answer. All other messages are framed as gRPC's (`framing.frame`)."""
    content: dict[str, Any] = {}
    if end.error is not None:
        content["error"] = error_object(end.error, end.details)
    if end.metadata:
        values: dict[str, list[str]] = {}
        for name, value in end.metadata:
            values.setdefault(name.lower(), []).append(value)
        content["metadata"] = values
    text = msgspec.json.encode(content)
    return _PREFIX.pack(END, len(text)) + text


def read_end(text: Buffer) -> StreamEnd:
    """The content of the last envelope; BridgeError INTERNAL when it is none."""
    content = _object(text)
    if content is None:
        raise BridgeError(Code.INTERNAL, "the end of a Connect stream is not a JSON object")
    metadata = content.get("metadata") or {}
    if not isinstance(metadata, dict) or not all(_is_texts(values) for values in metadata.values()):
        raise BridgeError(Code.INTERNAL, "the metadata at the end of a Connect stream are not lists of strings")
    pairs = tuple((name.lower(), value) for name, values in metadata.items() for value in values)
    if "error" not in content:
        return StreamEnd(None, (), pairs)
    # a success has no such key: whatever it holds, the call failed
    return StreamEnd(*_error_of(content["error"], Code.UNKNOWN, None), pairs)


def error_object(error: BridgeError, details: Iterable[Detail] = ()) -> dict[str, Any]:
    """An error as Connect writes it, to be encoded as JSON."""
    content: dict[str, Any] = {"code": NAMES.get(error.code, "unknown")}
    if error.message:
        content["message"] = error.message
    written = [{"type": detail.type, "value": _to_base64(detail.value)} for detail in details]
    return {**content, "details": written} if written else content


def error_reply(error: BridgeError, details: Iterable[Detail] = ()) -> HttpReply:
    """The answer to a unary call that failed. Its status is that of the code, as the protocol wants it."""
    body = msgspec.json.encode(error_object(error, details))
    return HttpReply(CODE_TO_HTTP.get(error.code, 500), error_headers(error), (body,))


def read_error(status: int, body: Buffer) -> tuple[BridgeError, tuple[Detail, ...]]:
    """The error of a unary answer with a status other than 200; one without an error object goes by its status."""
    return _error_of(_object(body), _INFERRED.get(status, Code.UNKNOWN), status)


def parse_timeout(text: str) -> float:
    """Seconds of a `connect-timeout-ms`."""
    if _TIMEOUT.fullmatch(text) is None:
        raise invalid(f"connect-timeout-ms {text!r} is not a number of up to 10 digits")
    return int(text) / 1000


def _error_of(content: Any, code: Code, status: int | None) -> tuple[BridgeError, tuple[Detail, ...]]:
    if not isinstance(content, dict):
        content = {}
    name, message = content.get("code"), content.get("message")
    code = _CODES.get(name, code) if isinstance(name, str) else code
    if not isinstance(message, str) or not message:
        message = NAMES[code] if status is None else f"HTTP {status}"
    details = content.get("details")
    found = map(_detail_of, details) if isinstance(details, list) else ()
    return BridgeError(code, message, status=status), tuple(detail for detail in found if detail is not None)


def _detail_of(content: Any) -> Detail | None:
    """A detail, or None for what is none: a broken detail must not hide the error."""
    if not isinstance(content, dict) or not _is_texts([content.get("type"), content.get("value")]):
        return None
    try:
        return Detail(content["type"], from_base64(content["value"]))
    except ValueError:
        return None


def from_base64(text: str) -> bytes:
    """The bytes of a binary value, whose padding may be left out; ValueError for what is no base64."""
    text = text.rstrip("=")
    return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)


def _to_base64(value: bytes) -> str:
    return binascii.b2a_base64(value, newline=False).rstrip(b"=").decode("ascii")


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _object(text: Buffer) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(bytes(text))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None
