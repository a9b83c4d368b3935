"""A stream that the runtime speaks in the client's own API, in another framing than that API's events.

Only the framing changes: the data of each event goes on as it came, vendor fields and all.
"""

import msgspec

from inferbridge.bridge.accept import StreamForm
from inferbridge.bridge.dialects import DIALECTS, OPEN_INFERENCE
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventFraming, EventReader
from inferbridge.bridge.json_lines import ArrayWriter, LineFraming
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.application import Responder
from inferbridge.gateway.calls.answers import PassthroughAnswer


class ReframedAnswer(PassthroughAnswer):
    """Passes a stream of events on as lines or as an array, and every other answer as it is."""

    def __init__(self, responder: Responder, dialect: str, events: EventFraming, form: StreamForm, limit: int) -> None:
        """`events` is the API's own framing, `limit` the bytes of one event."""
        super().__init__(responder, grpc=False, dialect=dialect)
        self._writer = ArrayWriter() if form == "array" else LineFraming()
        self._error = DIALECTS.get(dialect, OPEN_INFERENCE).event
        self._done = events.done.encode()
        self._complete = not self._done
        self._limit = limit
        self._events: EventReader | None = None
        self._over = False

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers; the content type tells whether there is something to reframe."""
        if status == 200 and (header(headers, "content-type") or "").startswith("text/event-stream"):
            self._events = EventReader(self._limit)
            others = tuple(pair for pair in headers if pair[0] != "content-type")
            headers = (("content-type", self._writer.content_type), *others)
            self._send = self._responder.message
        super().on_head(status, headers)

    def on_data(self, data: Buffer) -> None:
        """Some of the stream. What completes no event, such as a comment, goes on as a sign of life."""
        if self._events is None:
            super().on_data(data)
            return
        if self._over:
            return
        texts: list[bytes] = []
        try:
            texts.extend(self._text(event.data) for event in self._events.feed(data))
        except BridgeError as error:
            super().on_data(b"".join(texts))
            self._fail(error)
        else:
            super().on_data(b"".join(texts) or self._writer.keep_alive())

    def _text(self, data: bytes) -> bytes:
        if self._done and data == self._done:
            self._complete = True
            return b""
        return self._writer.encode(_on_one_line(data))

    def on_end(self, trailers: Headers) -> None:
        """The end, or where the stream broke off."""
        if self._events is None:
            super().on_end(trailers)
        elif not self._events.finish() or not self._complete:
            self._fail(BridgeError(Code.UNAVAILABLE, "the runtime's stream broke off"))
        elif not self._over:
            self._finish(b"", trailers)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed; a stream that has begun tells of it."""
        if self._events is None:
            super().on_failure(error)
        else:
            self._fail(error)

    def _fail(self, error: BridgeError) -> None:
        if not self._over:
            if self._responder.record is not None:
                self._responder.record.failed(error, "TE")
            self._finish(self._writer.encode_error(self._error(error, None)), ())

    def _finish(self, last: bytes, trailers: Headers) -> None:
        self._over = True
        rest = last + self._writer.end()
        if rest:
            super().on_data(rest)
        super().on_end(trailers)


def _on_one_line(data: bytes) -> bytes:
    if b"\n" not in data:
        return data
    try:
        return msgspec.json.format(data, indent=-1)
    except msgspec.DecodeError:
        raise BridgeError(Code.INTERNAL, "an event of the runtime is not JSON") from None
