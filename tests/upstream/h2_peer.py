"""The `h2` library as the server at the other end of our codec, in memory."""

from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived
from h2.settings import SettingCodes, Settings

from inferbridge.bridge.values import Chunks, Headers
from inferbridge.http2.literals import encode_fields
from inferbridge.upstream.header_blocks import encode_route
from inferbridge.upstream.http2_codec import Http2Codec, Stream

BLOCK = encode_route("http", "peer:1", "POST", "/pkg.Service/Method") + encode_fields(
    [(b"content-type", b"application/grpc")]
)
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0"), ("grpc-message", "")]


class StreamRecorder:
    """Remembers what happened to one stream."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.body = b""
        self.pieces: list[bytes] = []
        self.drained = 0

    def on_head(self, status: int, headers: Headers) -> None:
        """Remember."""
        self.log.append(("head", status, headers))

    def on_data(self, data: bytes | bytearray | memoryview) -> None:
        """Remember."""
        self.body += data
        self.pieces.append(bytes(data))

    def on_end(self, trailers: Headers) -> None:
        """Remember."""
        self.log.append(("end", trailers))

    def on_reset(self, code: int, reason: str) -> None:
        """Remember."""
        self.log.append(("reset", code))

    def on_unprocessed(self) -> None:
        """Remember."""
        self.log.append(("unprocessed",))

    def on_drained(self) -> None:
        """Count."""
        self.drained += 1


class Link:
    """A codec and its peer, connected; `exchange` moves bytes until both are quiet."""

    def __init__(self, settings: dict[SettingCodes, int] | None = None) -> None:
        self.codec = Http2Codec(65_536)
        self.peer = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        if settings:
            self.peer.local_settings = Settings(client=False, initial_values=settings)
            self.peer.max_inbound_frame_size = self.peer.local_settings.max_frame_size
        self.events: list[Event] = []
        self.acknowledge = True
        """The peer grants again what it has received."""
        self.peer.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        """Move bytes both ways until none are left."""
        while True:
            sent = b"".join(self.codec.output)
            self.codec.output.clear()
            if sent:
                self._take(self.peer.receive_data(sent))
            received = self.peer.data_to_send()
            if received:
                self.codec.receive(received)
            if not received and not self.codec.output:
                return

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, DataReceived) and self.acknowledge:
                self.peer.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def open(self, chunks: Chunks = ()) -> tuple[Stream, StreamRecorder]:
        """Open a stream and let its request travel."""
        recorder = StreamRecorder()
        stream = self.codec.open(BLOCK, chunks, recorder)
        self.exchange()
        return stream, recorder

    def answer(self, stream_id: int, body: bytes = b"reply") -> None:
        """Answer as a gRPC server does."""
        self.peer.send_headers(stream_id, HEAD)
        self.peer.send_data(stream_id, body)
        self.peer.send_headers(stream_id, TRAILERS, end_stream=True)
        self.exchange()

    def request_body(self, stream_id: int) -> bytes:
        """What the peer has received of a request's body."""
        return b"".join(e.data for e in self.events if isinstance(e, DataReceived) and e.stream_id == stream_id)

    def request_headers(self, stream_id: int) -> list[tuple[str, str]]:
        """What the peer has received as the request's head."""
        for event in self.events:
            if isinstance(event, RequestReceived) and event.stream_id == stream_id:
                return [(str(name), str(value)) for name, value in event.headers]
        raise AssertionError(f"no request on stream {stream_id}")
