"""Bodies as values: gRPC messages by name, JSON, events and lines; what is none of these stays as it is.

A value stands for a body only if nothing of it is lost: JSON with a member given twice, or a message with fields that
no proto names, is not taken apart in silence.
"""

from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.descriptor import Descriptor, MethodDescriptor

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.event_stream import EventReader
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.transcode import to_json
from inferbridge.bridge.values import header, join, media_type
from inferbridge.bridge.wire import Unknown, unknown_names
from inferbridge.inspect.exact_json import exact_json
from inferbridge.inspect.known import find_method
from inferbridge.recorded.exchanges import Message, Side

LIMIT = 64 * 1024 * 1024
_LINES = ("application/x-ndjson", "application/jsonl")
EVENTS = "text/event-stream"

type Kind = Literal["empty", "json", "events", "lines", "messages", "text", "binary"]


@dataclass(frozen=True, slots=True)
class Body:
    """A body, taken apart."""

    kind: Kind
    value: Any = None
    """None, a JSON value, `[{"event", "data"}]`, a list of JSON values, one of JSON texts (gRPC), text, or bytes."""
    unknown: tuple[str, ...] = ()
    """Fields of gRPC messages that the proto does not have; they are missing from the value."""


def method_of(side: Side) -> MethodDescriptor | None:
    """The gRPC method that was called, if a proto has it."""
    return find_method(side.asked.target.partition("?")[0], side.api, side.variant)


def request_body(side: Side) -> Body:
    """What was asked."""
    if side.protocol == "grpc":
        method = method_of(side)
        return _grpc(side.asked, None if method is None else method.input_type)
    return _rest(side.asked)


def reply_body(side: Side) -> Body:
    """What was answered; empty where nothing was."""
    if side.told is None:
        return Body("empty")
    if side.protocol == "grpc" and is_grpc(side.told):
        method = method_of(side)
        return _grpc(side.told, None if method is None else method.output_type)
    return _rest(side.told)


def is_grpc(message: Message) -> bool:
    """Whether a body is framed messages."""
    return content_type(message).startswith("application/grpc")


def content_type(message: Message) -> str:
    """Without parameters, in lower case."""
    return media_type(message.headers)


def is_streamed(side: Side) -> bool:
    """Whether the answer comes in pieces that somebody may want to see as they come."""
    if side.told is None:
        return False
    kind = content_type(side.told)
    return kind == EVENTS or kind in _LINES or kind.startswith("application/grpc")


def _grpc(message: Message, descriptor: Descriptor | None) -> Body:
    if descriptor is None:
        return Body("binary", message.body) if message.body else Body("empty")
    unknown: Unknown = []
    try:
        framed = unframe(message.body, header(message.headers, "grpc-encoding") or "identity", LIMIT)
        texts = [_text(join(chunks) if chunks else b"", descriptor, unknown) for chunks in framed]
    except BridgeError:
        return Body("binary", message.body)
    return Body("messages", texts, tuple(unknown_names(unknown)))


def _text(wire: Any, descriptor: Descriptor, unknown: Unknown) -> str:
    return to_json(wire, descriptor, original_names=True, plain_integers=True, unknown=unknown).decode()


def _rest(message: Message) -> Body:
    if not message.body:
        return Body("empty")
    kind = content_type(message)
    try:
        if kind == EVENTS:
            return Body("events", _events(message.body))
        text = message.body.decode()
        if kind in _LINES:
            return Body("lines", [exact_json(line) for line in text.split("\n") if line.strip()])
        if text.lstrip()[:1] in "{[":
            return Body("json", exact_json(text))
        return Body("text", text)
    except (ValueError, BridgeError, RecursionError):
        return _plain(message.body)


def _plain(body: bytes) -> Body:
    try:
        return Body("text", body.decode())
    except UnicodeDecodeError:
        return Body("binary", body)


def _events(body: bytes) -> list[dict[str, Any]]:
    reader = EventReader(LIMIT)
    events = reader.feed(body)
    if not reader.finish():
        raise ValueError("the stream broke off within an event")
    return [{"event": event.name, "data": _maybe_json(event.data.decode())} for event in events]


def _maybe_json(text: str) -> Any:
    try:
        return exact_json(text) if text.lstrip()[:1] in "{[" else text
    except (ValueError, RecursionError):
        return text
