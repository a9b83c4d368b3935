"""How whole answers are collected from runtimes, and how they are written to clients."""

from inferbridge.bridge.framing import GRPC_HEADERS, frame, quote_message, unframe
from inferbridge.bridge.grpc import outcome
from inferbridge.bridge.rest import HEADER_LENGTH
from inferbridge.bridge.values import (
    Buffer,
    GrpcReply,
    GrpcRequest,
    Headers,
    HttpReply,
    HttpRequest,
    header,
    join,
)
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.gathering import FIRST, room_behind, room_for
from inferbridge.secret import CREDENTIAL_HEADERS

_OWN_HEADERS = CREDENTIAL_HEADERS | frozenset(
    {
        "accept", "accept-encoding", "connection", "content-encoding", "content-length",
        "content-type", "date", "expect", "grpc-accept-encoding", "grpc-encoding", "grpc-message",
        "grpc-status", "grpc-timeout", "host", HEADER_LENGTH, "keep-alive", "server", "te",
        "trailer", "transfer-encoding", "upgrade", "user-agent", "x-request-timeout",
    }
)  # fmt: skip
"""Headers that belong to one side of a bridge; all others cross it. Credentials never reach a runtime."""


def crossing_headers(headers: Headers) -> Headers:
    """The headers that go over a bridge: tracing, request ids and whatever the user invented."""
    return tuple(pair for pair in headers if pair[0] not in _OWN_HEADERS)


def is_grpc(head: RequestHead) -> bool:
    """Whether a request is a gRPC call."""
    return (header(head.headers, "content-type") or "").startswith("application/grpc")


def answer_rest(reply: HttpReply, responder: Responder) -> None:
    """Send a REST answer."""
    responder.whole(reply.status, reply.headers, reply.chunks)


def answer_grpc(reply: GrpcReply, responder: Responder) -> None:
    """Send a gRPC answer; one without messages is "trailers-only", its status in the head."""
    status: Headers = (("grpc-status", str(reply.code)),)
    if reply.details:
        status = (*status, ("grpc-message", quote_message(reply.details)))
    if not reply.messages:
        responder.whole(200, (*GRPC_HEADERS, *reply.metadata, *status, *reply.trailers), ())
        return
    responder.head(200, (*GRPC_HEADERS, *reply.metadata))
    for chunk in frame(reply.messages):
        responder.data(chunk)
    responder.end((*status, *reply.trailers))


def answer(reply: HttpReply | GrpcReply, responder: Responder) -> None:
    """Send an answer of either protocol."""
    if isinstance(reply, HttpReply):
        answer_rest(reply, responder)
    else:
        answer_grpc(reply, responder)


class Collected:
    """Collects a runtime's whole answer; `limit` in bytes for each gRPC message, the pool bounds their sum."""

    def __init__(self, call: HttpRequest | GrpcRequest, limit: int) -> None:
        self._grpc = isinstance(call, GrpcRequest)
        self._limit = limit
        self._status = 0
        self._headers: Headers = ()
        self._chunks: list[Buffer] = []

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._status, self._headers = status, headers

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if len(data) >= FIRST and not self._chunks:
            self._chunks = self._room(data)
        self._chunks.append(data)

    def _room(self, first: Buffer) -> list[Buffer]:
        if self._grpc:
            return room_behind(first, self._limit)
        length = header(self._headers, "content-length")
        return [] if length is None else room_for(int(length), self._limit)

    def collected(self, trailers: Headers) -> HttpReply | GrpcReply:
        """The answer as a value; BridgeError for one that is none."""
        if not self._grpc:
            return HttpReply(self._status, self._headers, self._chunks)
        code, details = outcome(self._status, self._headers, trailers)
        if code:
            return GrpcReply(code, details)
        encoding = header(self._headers, "grpc-encoding") or "identity"
        return GrpcReply(messages=unframe(join(self._chunks) if self._chunks else b"", encoding, self._limit))
