"""An HTTP/2 client without I/O for the tests: h2 for what it allows, raw frames for what it does not."""

from collections.abc import Sequence

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from inferbridge.gateway.codecs.codec import ServerCodec
from inferbridge.gateway.codecs.events import Event

REQUEST = [(":method", "POST"), (":scheme", "http"), (":authority", "a:1"), (":path", "/x?y=1")]


class Client:
    """A client and what it has seen of the answers."""

    def __init__(self, codec: ServerCodec) -> None:
        self.codec = codec
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
        self.h2.initiate_connection()
        self.seen: list[h2.events.Event] = []

    def exchange(self) -> list[Event]:
        """Bring both sides up to date; the codec's events."""
        events: list[Event] = []
        while True:
            data = self.h2.data_to_send()
            events.extend(self.codec.receive(data))
            output = self.codec.take_output()
            if not data and not output:
                return events
            self.seen.extend(self.h2.receive_data(output))

    def raw(self, *frames: Frame) -> list[Event]:
        """Send frames past the client's own checks; after this only raw frames may follow."""
        self.exchange()
        for frame in frames:
            if isinstance(frame, HeadersFrame) and frame.stream_id % 2:
                self.h2.send_headers(frame.stream_id, REQUEST, end_stream="END_STREAM" in frame.flags)
        self.h2.clear_outbound_data_buffer()
        events = self.codec.receive(b"".join(frame.serialize() for frame in frames))
        self.seen.extend(self.h2.receive_data(self.codec.take_output()))
        return events

    def send(self, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None, *, end: bool = True) -> int:
        """Start a request; its stream id."""
        stream: int = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, [*REQUEST, *headers], end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        return stream

    def statuses(self) -> dict[int, str]:
        """Status by stream."""
        found = [event for event in self.seen if isinstance(event, h2.events.ResponseReceived)]
        return {event.stream_id: dict(event.headers)[b":status"].decode() for event in found}

    def body(self, stream: int) -> bytes:
        """The body received on a stream."""
        found = [event for event in self.seen if isinstance(event, h2.events.DataReceived)]
        return b"".join(event.data for event in found if event.stream_id == stream)

    def ended(self, stream: int) -> bool:
        """Whether the answer on a stream is complete."""
        return any(isinstance(event, h2.events.StreamEnded) and event.stream_id == stream for event in self.seen)

    def reset_code(self, stream: int) -> int | None:
        """The code the server reset a stream with."""
        for event in self.seen:
            if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                return event.error_code
        return None

    def goaway_code(self) -> int | None:
        """The code of the server's GOAWAY."""
        for event in self.seen:
            if isinstance(event, h2.events.ConnectionTerminated):
                return event.error_code
        return None


def headers_frame(stream: int, headers: Sequence[tuple[bytes, bytes]], *, end: bool = True) -> HeadersFrame:
    """A HEADERS frame with exactly these fields, without a compression context."""
    block = b"".join(_literal(name, value) for name, value in headers)
    return HeadersFrame(stream, block, flags=["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"])


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _length(name) + _length(value)


def _length(text: bytes) -> bytes:
    return bytes(hpack.hpack.encode_integer(len(text), 7)) + text


def data_frame(stream: int, data: bytes, *, end: bool = False) -> DataFrame:
    """A DATA frame."""
    return DataFrame(stream, data, flags=["END_STREAM"] if end else [])


def reset_frame(stream: int) -> RstStreamFrame:
    """RST_STREAM with CANCEL."""
    return RstStreamFrame(stream, error_code=int(h2.errors.ErrorCodes.CANCEL))
