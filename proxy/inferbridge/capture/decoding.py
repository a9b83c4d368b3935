"""Bodies of messages as plain values: JSON, JSON with bytes behind it, protobuf by its proto, and streams of them.

What cannot be decoded as a whole is `Undecodable`, with the reason: it has no fields that could be hidden one by one.
A stream is decoded up to where it was cut.
"""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, MethodDescriptor

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import inflate, split
from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.bridge.transcode_methods import json_of
from inferbridge.bridge.values import Headers, header, media_type
from inferbridge.gateway.transcript import Message
from inferbridge.inspect.events import read_events
from inferbridge.inspect.known import find_method
from inferbridge.inspect.tensor_places import json_length

RAW_INPUTS, RAW_OUTPUTS = "$raw_inputs", "$raw_outputs"
"""Members for the bytes behind the JSON of a request or an answer (V2's binary tensor data), in base64."""
_INFLATED = 16 << 20
"""Bytes of a body after decompression, at most."""
_FRAME = 1 << 32
_DEEPEST = 100
_COMPRESSED, _LAST = 1, 2
_DONE = b"[DONE]"
_FRAMED = ("application/grpc", "application/connect+")
_AS_TEXT = "application/grpc-web-text"


class Undecodable(Exception):
    """The body has no form that is known; the message says why."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How one side speaks."""

    api: str
    variant: str
    path: str
    """Of the request: for gRPC `/package.Service/Method`."""
    is_reply: bool


@dataclass(frozen=True, slots=True)
class Content:
    """A decoded body."""

    values: list[Any]
    """Its messages; one that is no stream has at most one."""
    is_stream: bool = False
    note: str = ""
    """Why some is missing."""


def content_of(message: Message, wire: Wire) -> Content:
    """The messages of a body; `Undecodable` where there is no telling what they say."""
    if not message.size:
        return Content([])
    kind = media_type(message.headers)
    if kind.startswith(_FRAMED) and not kind.startswith(_AS_TEXT):
        return _frames(message, wire, is_json=kind.endswith("+json"))
    body = _plain(message)
    if kind == "text/event-stream":
        events, troubles = read_events(body)
        return Content(_parsed(event.data for event in events if event.data != _DONE), True, "; ".join(troubles))
    if kind == "application/x-ndjson":
        lines = body.split(b"\n")
        return Content(_parsed(lines[:-1] if message.is_cut else lines), True, _cut(message))
    if message.is_cut:
        raise Undecodable(_cut(message))
    if kind in ("application/proto", "application/x-protobuf"):
        return Content([_message(body, _kind(wire, find_method(wire.path, wire.api, wire.variant)))])
    return Content([_json(body, message.headers, RAW_OUTPUTS if wire.is_reply else RAW_INPUTS)])


def _cut(message: Message) -> str:
    return f"cut: {message.kept} of {message.size} bytes were kept" if message.is_cut else ""


def _plain(message: Message) -> bytes:
    encoding = (header(message.headers, "content-encoding") or "identity").lower()
    if encoding == "identity":
        return message.body
    if message.is_cut:
        raise Undecodable(f"compressed and {_cut(message)}")
    try:
        return inflate(message.body, encoding, _INFLATED)
    except BridgeError as error:
        raise Undecodable(error.message) from None


def _parsed(texts: Iterable[bytes]) -> list[Any]:
    """Each as a value; one that is no JSON would hide nothing, so it makes the whole undecodable."""
    found = []
    for text in texts:
        if not text.strip():
            continue
        try:
            found.append(_loaded(text))
        except ValueError:
            raise Undecodable("a message of the stream is no JSON") from None
    return found


def _loaded(text: bytes) -> Any:
    """A JSON text as a value that may be walked and written; ValueError for what is no JSON."""
    value = orjson.loads(text)
    if text.count(b"[") + text.count(b"{") > _DEEPEST:
        level, depth = [value], 0
        while level:
            if depth > _DEEPEST:
                raise Undecodable(f"it is nested deeper than {_DEEPEST} levels")
            level = [inner for item in level if isinstance(item, dict | list) for inner in _inner(item)]
            depth += 1
    return value


def _inner(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _json(body: bytes, headers: Headers, behind: str) -> Any:
    length = json_length(header(headers, HEADER_LENGTH))
    cut = len(body) if length is None else length
    try:
        value = _loaded(body[:cut])
    except ValueError:
        raise Undecodable("it is no JSON") from None
    if cut < len(body):
        if not isinstance(value, dict):
            raise Undecodable("bytes stand behind JSON that is no object")
        value[behind] = base64.b64encode(body[cut:]).decode()
    return value


def _frames(message: Message, wire: Wire, *, is_json: bool) -> Content:
    """gRPC's and Connect's messages, each behind five bytes."""
    name = "grpc-encoding" if header(message.headers, "grpc-encoding") else "connect-content-encoding"
    encoding = header(message.headers, name) or "identity"
    frames, end, _ = split(message.body, _FRAME)
    note = _cut(message) or ("" if end == message.kept else "the last message is not complete")
    method = find_method(wire.path, wire.api, wire.variant)
    values = list(_framed(frames, encoding, _kind(wire, method), is_json=is_json))
    is_stream = method is not None and (method.server_streaming if wire.is_reply else method.client_streaming)
    return Content(values, is_stream or len(values) > 1 or (not values and bool(note)), note)


def _framed(
    frames: Iterable[tuple[int, bytes]], encoding: str, kind: Descriptor | None, *, is_json: bool
) -> Iterator[Any]:
    for flag, content in frames:
        try:
            plain = inflate(content, encoding, _INFLATED) if flag & _COMPRESSED else content
        except BridgeError as error:
            raise Undecodable(error.message) from None
        if is_json or flag & _LAST:  # Connect's last frame is JSON in either form
            yield from _parsed([plain])
        elif flag < _LAST:
            yield _message(plain, kind)
        else:
            raise Undecodable("trailers stand in the body")


def _kind(wire: Wire, method: MethodDescriptor | None) -> Descriptor | None:
    if method is None:
        return None
    return method.output_type if wire.is_reply else method.input_type


def _message(message: bytes, kind: Descriptor | None) -> Any:
    if kind is None:
        raise Undecodable("no proto has this method")
    try:
        return orjson.loads(json_of(message, kind))
    except (BridgeError, ValueError) as error:
        raise Undecodable(f"it is no {kind.name}: {type(error).__name__}") from None
