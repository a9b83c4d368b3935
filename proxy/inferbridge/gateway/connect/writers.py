"""Write an answer as the client asked for it: one JSON object, Connect's envelopes, lines, events, or an array.

A failure before the first message is an answer of its own with the status that Connect gives the code, except among
envelopes, which always come in a 200. Later it is told in the stream.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from inferbridge.bridge import connect_messages
from inferbridge.bridge.connect_messages import StreamEnd
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.event_stream import EventFraming
from inferbridge.bridge.framing import frame
from inferbridge.bridge.json_lines import ArrayWriter, LineFraming
from inferbridge.bridge.values import Headers, HttpReply
from inferbridge.gateway.application import Responder
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.gateway.connect.forms import Form


class Writer(Protocol):
    """Writes one answer."""

    def messages(self, texts: Sequence[bytes], metadata: Headers) -> None:
        """The next messages, all that there are for now; `metadata` is the call's initial one."""

    def end(self, metadata: Headers, trailers: Headers, lost: Headers) -> None:
        """All is well; `lost` says what of the answer could not be written."""

    def fail(self, end: StreamEnd) -> None:
        """It is not."""

    def leave(self) -> None:
        """Nobody reads on."""


class _Unary:
    """One message, as the body."""

    def __init__(self, form: Form, responder: Responder) -> None:
        self._type = "application/json" if form.json else "application/proto"
        self._responder = responder
        self._texts: list[bytes] = []

    def messages(self, texts: Sequence[bytes], metadata: Headers) -> None:
        self._texts += texts

    def end(self, metadata: Headers, trailers: Headers, lost: Headers) -> None:
        if len(self._texts) != 1:
            count = len(self._texts)
            self.fail(StreamEnd(BridgeError(Code.INTERNAL, f"the runtime sent {count} messages instead of one")))
            return
        trailing = tuple((f"trailer-{name}", value) for name, value in trailers)
        self._responder.whole(200, (("content-type", self._type), *metadata, *lost, *trailing), self._texts)

    def fail(self, end: StreamEnd) -> None:
        _send_error(end, self._responder)

    def leave(self) -> None:
        self._texts.clear()


def _send_error(end: StreamEnd, responder: Responder) -> None:
    """The error as an answer of its own."""
    assert end.error is not None
    reply = connect_messages.error_reply(end.error, end.details)
    if end.error.status is not None:
        reply = HttpReply(end.error.status, reply.headers, reply.chunks)
    responder.whole(reply.status, (*reply.headers, *end.metadata), reply.chunks)


class _Envelopes:
    """A stream as Connect has it: always a 200, the error in its last envelope."""

    def __init__(self, form: Form, responder: Responder) -> None:
        self._type = "application/connect+json" if form.json else "application/connect+proto"
        self._responder = responder
        self._begun = False

    def _begin(self, metadata: Headers) -> None:
        if not self._begun:
            self._begun = True
            self._responder.head(200, (("content-type", self._type), *metadata))

    def messages(self, texts: Sequence[bytes], metadata: Headers) -> None:
        self._begin(metadata)
        self._responder.message(b"".join(frame([(text,) for text in texts])))

    def end(self, metadata: Headers, trailers: Headers, lost: Headers) -> None:
        self._finish(StreamEnd(None, (), (*trailers, *lost)), metadata)

    def fail(self, end: StreamEnd) -> None:
        self._finish(end, ())

    def leave(self) -> None:
        """Nothing goes on by itself."""

    def _finish(self, end: StreamEnd, metadata: Headers) -> None:
        self._begin(metadata)
        self._responder.data(connect_messages.encode_end(end))
        self._responder.end()


class _Framing(Protocol):
    def encode(self, data: bytes) -> bytes:
        """A message."""

    def encode_error(self, data: bytes) -> bytes:
        """An error after messages."""

    def end(self) -> bytes:
        """What stands after the last of either."""

    def keep_alive(self) -> bytes:
        """Something that says nothing."""


class _Plain:
    """A stream for clients without a protocol of their own."""

    def __init__(self, framing: _Framing, content_type: str, responder: Responder) -> None:
        self._framing = framing
        self._headers: Headers = (("content-type", content_type), ("cache-control", "no-cache"))
        self._responder = responder
        self._begun = False
        self._pulse = Pulse(lambda: responder.data(framing.keep_alive()))

    def _begin(self, metadata: Headers) -> None:
        if not self._begun:
            self._begun = True
            self._responder.head(200, (*self._headers, *metadata))
            self._pulse.start()

    def messages(self, texts: Sequence[bytes], metadata: Headers) -> None:
        self._begin(metadata)
        self._pulse.heard()
        self._responder.message(b"".join(map(self._framing.encode, texts)))

    def end(self, metadata: Headers, trailers: Headers, lost: Headers) -> None:
        self._begin(metadata)
        self._finish(b"", (*trailers, *lost))

    def fail(self, end: StreamEnd) -> None:
        if not self._begun:
            _send_error(end, self._responder)
            return
        assert end.error is not None
        text = msgspec.json.encode(connect_messages.error_object(end.error, end.details))
        self._finish(self._framing.encode_error(text), end.metadata)

    def leave(self) -> None:
        self._pulse.stop()

    def _finish(self, last: bytes, trailers: Headers) -> None:
        self._pulse.stop()
        rest = last + self._framing.end()
        if rest:
            self._responder.data(rest)
        self._responder.end(trailers)


def writer(form: Form, responder: Responder) -> Writer:
    """The writer of a form."""
    if form.shape == "unary":
        return _Unary(form, responder)
    if form.shape == "connect":
        return _Envelopes(form, responder)
    if form.shape == "events":
        return _Plain(EventFraming(error_event="error"), "text/event-stream; charset=utf-8", responder)
    if form.shape == "array":
        return _Plain(ArrayWriter("error"), ArrayWriter.content_type, responder)
    return _Plain(LineFraming(error_key="error"), LineFraming.content_type, responder)
