"""Calls and answers as lines, for either side: gRPC messages as the JSON of their protos."""

import json
from collections.abc import Iterable, Iterator

from inferbridge.bridge.event_stream import EventReader
from inferbridge.bridge.framing import GRPC_HEADERS, unframe
from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.bridge.values import (
    Chunks,
    GrpcReply,
    GrpcRequest,
    Headers,
    HttpReply,
    HttpRequest,
    header,
    join,
)
from inferbridge.calling.asking import Spoken
from inferbridge.calling.reading import LIMIT
from inferbridge.demo.client import Got
from inferbridge.demo.view import Lines, field_lines, header_lines
from inferbridge.mock.exchange import Seen
from inferbridge.protos import methods
from inferbridge.upstream.api import UpstreamRequest

_EVERY_TIME = frozenset({"id", "object", "created", "model"})
"""What OpenAI repeats in each message of a stream."""


def sent_lines(ask: Spoken, request: UpstreamRequest) -> Lines:
    """What the client sends."""
    if ask.protocol == "rest":
        return _rest_request(HttpRequest(request.method, request.path, request.headers, request.chunks))
    messages = unframe(join(request.chunks), "identity", LIMIT)
    return _grpc_request(GrpcRequest(request.path, GRPC_HEADERS, messages), ask.api.name, "")


def seen_lines(seen: Seen | None, variant: str = "") -> Lines:
    """What the runtime received."""
    if seen is None:
        return [("", "nothing")]
    if isinstance(seen.call, HttpRequest):
        return _rest_request(seen.call)
    return _grpc_request(seen.call, seen.match.api.name, variant)


def got_lines(ask: Spoken, got: Got) -> Lines:
    """What the client got."""
    outcome = got.outcome
    if outcome is None or not outcome.status:
        return [("", f"no usable answer: {outcome.details if outcome is not None else 'none came'}")]
    head = [("", str(got.status)), *header_lines(got.headers)] if ask.protocol == "rest" else []
    if outcome.status >= 400:
        return [*head, *_body((outcome.details.encode(),), ())]
    end = [("grpc-status", f"{outcome.code} {outcome.details}".strip())] if ask.protocol == "grpc" else []
    if len(got.messages) == 1:
        return [*head, *_body((got.messages[0],), got.headers), *end]
    return [*head, *(("", _brief(message)) for message in got.messages), *end]


def said_lines(seen: Seen | None, variant: str = "") -> Lines:
    """What the runtime answered."""
    lines: Lines = []
    if seen is None:
        return lines
    for part in seen.said:
        if isinstance(part, HttpReply):
            lines += [("", str(part.status)), *header_lines(part.headers), *_body(part.chunks, part.headers)]
        elif isinstance(part, GrpcReply):
            lines += _grpc_messages(seen, part.messages, variant)
            lines.append(("grpc-status", f"{part.code} {part.details}".strip()))
        else:
            lines += _frame(seen, part, variant)
    return lines


def _frame(seen: Seen, frame: bytes, variant: str) -> Iterator[tuple[str, str]]:
    """The messages of a piece of a stream."""
    if isinstance(seen.call, GrpcRequest):
        replies = (_json(seen, chunks, variant) for chunks in unframe(frame, "identity", LIMIT))
    else:
        replies = (event.data for event in EventReader(LIMIT).feed(frame))
    return (("", _brief(bytes(reply))) for reply in replies)


def _grpc_messages(seen: Seen, messages: Iterable[Chunks], variant: str) -> Lines:
    return [line for chunks in messages for line in field_lines(json.loads(_json(seen, chunks, variant)))]


def _json(seen: Seen, chunks: Chunks, variant: str) -> bytes:
    assert isinstance(seen.call, GrpcRequest)
    return methods(seen.match.api.name, variant).reply_to_json(seen.call.rpc, join(chunks) if chunks else b"")


def _rest_request(call: HttpRequest) -> Lines:
    body = _body(call.chunks, call.headers) if call.chunks else []
    return [("", f"{call.method} {call.path}"), *header_lines(call.headers), *body]


def _grpc_request(call: GrpcRequest, api: str, variant: str) -> Lines:
    wire = join(call.messages[0]) if call.messages and call.messages[0] else b""
    fields = json.loads(methods(api, variant).request_to_json(call.rpc, wire))
    return [("", f"gRPC {call.rpc}"), *header_lines(call.metadata), *field_lines(fields)]


def _body(chunks: Chunks, headers: Headers) -> Lines:
    """JSON, and what stands behind it in the binary tensor extension."""
    body = bytes(join(chunks)) if chunks else b""
    length = header(headers, HEADER_LENGTH)
    at = int(length) if length is not None else len(body)
    lines = field_lines(json.loads(body[:at])) if at else []
    return lines + (field_lines({"behind the JSON": body[at:]}) if body[at:] else [])


def _brief(message: bytes) -> str:
    """One line a message of a stream, without what every message repeats."""
    try:
        value = json.loads(message)
    except ValueError:
        return message.decode("utf-8", "replace")
    kept = {name: item for name, item in value.items() if name not in _EVERY_TIME} if isinstance(value, dict) else value
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
