"""Answers to clients: written from neutral replies, passed through as they come, or brought back over a bridge."""

import logging

from inferbridge.bridge.bridge import Bridge, Crossing, not_the_clients
from inferbridge.bridge.dialects import DIALECTS, OPEN_INFERENCE, error_reply
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventFraming
from inferbridge.bridge.framing import status_trailers
from inferbridge.bridge.grpc import is_grpc as says_grpc
from inferbridge.bridge.grpc import no_status
from inferbridge.bridge.values import (
    HOP_BY_HOP,
    Buffer,
    GrpcReply,
    Headers,
    HttpReply,
    header,
)
from inferbridge.gateway.answering import Collected, answer
from inferbridge.gateway.application import Responder
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.spending import said
from inferbridge.secret import CREDENTIAL_HEADERS

log = logging.getLogger(__name__)

_FRAMING = HOP_BY_HOP | {"content-length"}
"""What the client's codec writes itself."""
_STREAMS = ("text/event-stream", "application/x-ndjson")
NOT_PASSED_ON = CREDENTIAL_HEADERS | {"host", "content-length"}
"""Of a call that is passed through: the runtime gets its own."""


def _ignored(data: Buffer) -> None:
    """The answer is over."""


class PassthroughAnswer:
    """Hands the runtime's answer to the client as it comes; what is a stream leaves at once."""

    def __init__(
        self,
        responder: Responder,
        grpc: bool,
        dialect: str = "",
        events: EventFraming | None = None,
        *,
        streams: bool = False,
    ) -> None:
        """`events` is how the API frames the events of a stream, where the endpoint has one.

        `streams` for a gRPC method with many answers; REST says so in its head.
        """
        self._responder = responder
        self._grpc = grpc
        self._dialect = dialect
        self._send = responder.message if streams else responder.data
        self._events_of = events
        self._head: tuple[int, Headers] | None = None
        """Of a gRPC answer whose status is to come at its end."""
        self._refused = False
        self._kind = ""
        self._last: Buffer = b""
        """The piece that came last."""
        self.begun = False
        """The head has gone to the client."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers. A page, which is no answer to a gRPC client, is told as an error."""
        self.begun = True
        if self._grpc and header(headers, "grpc-status") is None:
            self._head = status, headers
            if not says_grpc(headers):
                self._refuse(no_status(status, headers))
                return
        kind = header(headers, "content-type") or ""
        if kind.startswith(_STREAMS):
            self._send = self._responder.message
        if header(headers, "content-encoding") is None:
            self._kind = kind
        self._responder.head(status, tuple(pair for pair in headers if pair[0] not in _FRAMING))

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._last = data
        self._send(data)

    def on_end(self, trailers: Headers) -> None:
        """The end. A gRPC client that gets none of a status may drop the messages before it, so it gets one."""
        if self._refused:
            return
        if self._head is not None and header(trailers, "grpc-status") is None:
            trailers = (*trailers, *status_trailers(no_status(*self._head)))
        self._responder.end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """An answer that has begun ends with the error where its form has a place for it, and is cut where not."""
        if self._refused:
            return
        if not self.begun:
            self._refuse(error)
        elif self._grpc:
            self._responder.end(status_trailers(error))
        elif self._events_of is not None and self._is_between_events():
            told = DIALECTS.get(self._dialect, OPEN_INFERENCE).event(error, None)
            self._responder.data(self._events_of.encode_error(told))
            self._responder.end()
        else:
            self._responder.abort()

    def _refuse(self, error: BridgeError) -> None:
        """Answer the error, and nothing that may still come."""
        self._refused, self._send = True, _ignored
        answer(error_reply(error, rest=not self._grpc, dialect=self._dialect), self._responder)

    def _is_between_events(self) -> bool:
        """Whether an event could stand here: within another it would become a part of that."""
        if not self._kind.startswith("text/event-stream"):
            return False
        return not len(self._last) or bytes(self._last[-4:]).endswith((b"\n\n", b"\r\n\r\n"))


class OneAnswer(Collected):
    """Takes the runtime's only answer over the bridge and sends it."""

    def __init__(self, bridge: Bridge, crossing: Crossing, responder: Responder, limits: Limits) -> None:
        super().__init__(crossing.call, limits.reply_bytes)
        self._record = responder.record
        self._said = said(responder.record, bridge)
        self._bridge = bridge
        self._crossing = crossing
        self._responder = responder

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        bridge, crossing = self._bridge, self._crossing
        try:
            read = bridge.read_reply(crossing, crossing.legs[0], self.collected(trailers))
            if self._said is not None:
                self._said.reply(0, read)
            reply = bridge.write_reply(crossing, (read,))
        except BridgeError as error:
            reply = self._error(not_the_clients(error))
        except Exception:
            # fail closed: a fault of ours must reach the client as an error, and no other call
            log.exception("translating an answer failed")
            reply = self._error(BridgeError(Code.INTERNAL, "internal error"))
        answer(reply, self._responder)

    def _error(self, error: BridgeError) -> HttpReply | GrpcReply:
        if self._record is not None:
            self._record.failed(error, "TE")
        return self._bridge.error(error)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        answer(self._bridge.error(error), self._responder)
