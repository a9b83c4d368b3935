"""Takes the REST answer of a call for a gRPC client: the body, or each event of a stream, becomes a message.

What the API's schema does not know of an answer cannot stand in a message: its names go to `x-inferbridge-lost`, in the
trailers, for a stream may say more of them at any time.
"""

from collections.abc import Callable, Collection, Iterable

import msgspec
from google.protobuf.descriptor import Descriptor

from inferbridge.bridge import transcode
from inferbridge.bridge.bridge import LOST_HEADER
from inferbridge.bridge.context import Context, RuntimeProfile, printable
from inferbridge.bridge.dialects import Dialect
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventFraming, EventReader
from inferbridge.bridge.framing import GRPC_HEADERS, frame, status_trailers
from inferbridge.bridge.values import Buffer, Headers, HttpReply, header
from inferbridge.gateway.application import Responder
from inferbridge.gateway.limits import Limits

_OWN = ("content-", "transfer-", "cache-control", "date", "server", "vary", "x-inferbridge-lost")


class RestAnswer(Responder):
    """The `Responder` of the REST call. `framing` is that of a stream; None: one answer."""

    def __init__(
        self,
        responder: Responder,
        message: Descriptor,
        dialect: Dialect,
        framing: EventFraming | None,
        status_field: str,
        limits: Limits,
        on_losses: Callable[[Collection[str]], None],
    ) -> None:
        self.record = responder.record
        self._responder = responder
        self._message = message
        self._dialect = dialect
        self._done = framing.done.encode() if framing is not None and framing.done else None
        self._events = EventReader(limits.message_bytes) if framing is not None else None
        self._status_field = status_field
        self._limit = limits.reply_bytes
        self._context = Context(RuntimeProfile(name="the runtime", api=""))
        self._status = 0
        self._headers: Headers = ()
        self._body: list[Buffer] = []
        self._lost: dict[str, None] = {}
        self._on_losses = on_losses
        self._begun = self._over = self._complete = False
        self._cancel: Callable[[], None] | None = None
        """Until there is an end; the call holds this answer."""

    def is_of(self, cancel: Callable[[], None]) -> None:
        """Note how to end the call, which has begun and may have been refused already."""
        if not self._over:
            self._cancel = cancel

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._status, self._headers = status, headers

    def data(self, data: Buffer) -> None:
        """Some of the body, or of the stream."""
        if self._over:
            return
        if self._events is None or self._status != 200:
            self._body.append(data)
            return
        messages: list[Buffer] = []
        try:
            for event in self._events.feed(data):
                messages += self._read(event.name, event.data)
        except BridgeError as error:
            self._send(messages)
            cancel = self._cancel
            self.fail(error)
            if cancel is not None:
                cancel()
        else:
            self._send(messages)

    def _read(self, name: str, data: bytes) -> Iterable[Buffer]:
        """An event as a message; none for the mark of success."""
        error = self._dialect.read_event(name, data, self._context)
        if error is not None:
            raise error
        if data == self._done:
            self._complete = True
            return ()
        return (self._message_of(data),)

    def end(self, trailers: Headers = ()) -> None:
        """The answer is complete."""
        if self._over:
            return
        try:
            self._finish()
        except BridgeError as error:
            self.fail(error)

    def _finish(self) -> None:
        if self._status_field and self._status in {200, 503}:
            self._say(msgspec.json.encode({self._status_field: self._status == 200}))
        elif self._status != 200:
            raise self._dialect.read(HttpReply(self._status, self._headers, self._body), self._context)
        elif self._events is None:
            self._say(b"".join(self._body))
        elif not self._events.finish() or not (self._complete or self._done is None):
            raise BridgeError(Code.UNAVAILABLE, "the stream broke off")
        self.leave()
        self._begin()
        self._responder.end((("grpc-status", "0"), *self._losses()))

    def _say(self, text: Buffer) -> None:
        """The only message."""
        message = self._message_of(text)
        self._begin()
        self._responder.data(b"".join(frame(((message,),))))

    def _message_of(self, text: Buffer) -> Buffer:
        wire, lost = transcode.to_known_message(text, self._message, limit=self._limit)
        new = dict.fromkeys(name for name in map(printable, lost) if name not in self._lost)
        self._lost |= new
        if new:
            self._on_losses(new)
        return wire

    def _send(self, messages: list[Buffer]) -> None:
        """Those of a stream."""
        if messages:
            self._begin()
            self._responder.message(b"".join(frame([(message,) for message in messages])))

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            metadata = tuple(pair for pair in self._headers if not pair[0].startswith(_OWN))
            self._responder.head(200, (*GRPC_HEADERS, *metadata))

    def _losses(self) -> Headers:
        said = header(self._headers, LOST_HEADER)
        names = [*([said] if said else []), *self._lost]
        return ((LOST_HEADER, ", ".join(names)),) if names else ()

    def leave(self) -> None:
        """The end has come, or the client has gone."""
        self._over, self._cancel = True, None

    def fail(self, error: BridgeError) -> None:
        """End with an error."""
        if self._over:
            return
        self.leave()
        if self.record is not None:
            self.record.failed(error, "TE")
        status = status_trailers(error)
        if self._begun:
            self._responder.end(status)
        else:
            self._responder.whole(200, (*GRPC_HEADERS, *status), ())

    def abort(self) -> None:
        """The answer broke off."""
        self.fail(BridgeError(Code.UNAVAILABLE, "the runtime's answer broke off"))
