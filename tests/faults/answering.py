"""One answer of a runtime as steps, the same for a REST and a gRPC runtime, so that a fault is written once for both.

    head ─▶ first message ─▶ half of the next ─▶ its rest ─▶ end

A unary answer has one message, so there the half comes at once. `over` is set when the answer has ended, whoever ended
it: the runtime by its last byte or the end of the connection, the gateway by resetting the stream or hanging up.
"""

import asyncio
import contextlib
import socket
import struct
from abc import ABC, abstractmethod
from typing import cast

import h2.errors
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError, StreamClosedError

from faults import speech
from faults.speech import Speech

HTML = b"<html><body>a page</body></html>"
PREFIX_BYTES = 5


class Answering(ABC):
    """The answer to one request."""

    def __init__(self, transport: asyncio.Transport, says: Speech) -> None:
        self.transport = transport
        self.says = says
        self.streams = says.streams
        self.over = asyncio.Event()
        self.reads = True
        """The rest of the request is taken as it comes."""
        self.asked = asyncio.Event()
        """All of the request is here."""

    @abstractmethod
    def read_on(self) -> None:
        """Take the rest of a request that was left lying."""

    @abstractmethod
    def refuse(self) -> None:
        """Say that the request is too large, and read no more of it."""

    @abstractmethod
    def head(self, status: int = 200, mime: str = "", *fields: tuple[str, str]) -> None:
        """Status and headers."""

    @abstractmethod
    def data(self, data: bytes) -> None:
        """Some of the body, framed as the protocol does."""

    @abstractmethod
    def announce(self, data: bytes, sent: int) -> None:
        """A frame of the body that says it holds `data`, and so many bytes of it."""

    @abstractmethod
    def end(self, *, good: bool = True) -> None:
        """The end as the protocol marks it; not `good` without the API's own mark of success."""

    @property
    def last(self) -> bytes:
        """The message that faults are within."""
        return self.says.messages[-1]

    def begin(self) -> None:
        """The head, and the first message of a stream."""
        self.head()
        if self.streams:
            self.data(self.says.messages[0])

    def well(self) -> None:
        """A good answer."""
        self.begin()
        self.data(self.last)
        self.end()

    def raw(self, data: bytes) -> None:
        """Bytes as they are."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def hang_up(self) -> None:
        """Close the connection in an orderly way."""
        self.transport.close()
        self.over.set()

    def reset(self) -> None:
        """Close the connection with a TCP RST, which leaves first whatever was written."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        self.over.set()


class RestAnswering(Answering):
    """That of vLLM or Triton, in HTTP/1.1."""

    def read_on(self) -> None:
        """Let the transport deliver again."""
        self.reads = True
        self.transport.resume_reading()

    def refuse(self) -> None:
        """413, in words of V2, and the end of the connection."""
        text = b'{"error":"the request is too large"}'
        head = b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(text)
        self.raw(head + b"connection: close\r\n\r\n" + text)
        self.over.set()

    def head(self, status: int = 200, mime: str = "", *fields: tuple[str, str]) -> None:
        """In chunks, since nobody knows yet how much follows."""
        mime = mime or ("text/event-stream" if self.streams else "application/json")
        pairs = [("content-type", mime), ("transfer-encoding", "chunked"), *fields]
        lines = [f"HTTP/1.1 {status} OK", *(f"{name}: {value}" for name, value in pairs), "", ""]
        self.raw("\r\n".join(lines).encode())

    def data(self, data: bytes) -> None:
        """A chunk."""
        self.announce(data, len(data))
        self.raw(b"\r\n")

    def announce(self, data: bytes, sent: int) -> None:
        """The size of a chunk, and some of it."""
        self.raw(b"%x\r\n%s" % (len(data), data[:sent]))

    def end(self, *, good: bool = True) -> None:
        """The last chunk, after [DONE] in a stream."""
        if self.says.mark and good:
            self.data(self.says.mark)
        self.raw(b"0\r\n\r\n")
        self.over.set()


class GrpcAnswering(Answering):
    """That of TGIS or Triton, in HTTP/2."""

    def __init__(self, transport: asyncio.Transport, says: Speech, connection: H2Connection, stream: int) -> None:
        super().__init__(transport, says)
        self.h2 = connection
        self.stream = stream
        self.unread = 0
        """Bytes whose window is not granted again yet; that of the connection is, for the sake of other calls."""

    def read_on(self) -> None:
        """Grant the windows again."""
        self.reads = True
        self._grant()

    def taken(self, size: int) -> None:
        """So many bytes of the request more are here."""
        self.h2.increment_flow_control_window(size)
        self.unread += size
        if self.reads:
            self._grant()

    def _grant(self) -> None:
        if self.unread:
            with contextlib.suppress(StreamClosedError):  # the last bytes need none
                self.h2.increment_flow_control_window(self.unread, self.stream)
            self.unread = 0
            self.flush()

    def refuse(self) -> None:
        """RESOURCE_EXHAUSTED alone, and the end of the stream for both sides."""
        fields = [("grpc-status", "8"), ("grpc-message", "the request is too large")]
        self.h2.send_headers(
            self.stream, [(":status", "200"), ("content-type", "application/grpc"), *fields], end_stream=True
        )
        self.h2.reset_stream(self.stream, h2.errors.ErrorCodes.NO_ERROR)
        self.flush()
        self.over.set()

    def head(self, status: int = 200, mime: str = "", *fields: tuple[str, str]) -> None:
        """HEADERS."""
        self.h2.send_headers(
            self.stream, [(":status", str(status)), ("content-type", mime or "application/grpc"), *fields]
        )
        self.flush()

    def data(self, data: bytes) -> None:
        """DATA, in frames of any size."""
        for at in range(0, len(data), self.h2.max_outbound_frame_size):
            self.h2.send_data(self.stream, data[at : at + self.h2.max_outbound_frame_size])
        self.flush()

    def announce(self, data: bytes, sent: int) -> None:
        """The head of a DATA frame, and some of it."""
        self.raw(len(data).to_bytes(3) + b"\0\0" + self.stream.to_bytes(4) + data[:sent])

    def end(self, *, good: bool = True) -> None:
        """The status; not `good` is the end of the stream without one."""
        if good:
            self.h2.send_headers(self.stream, [("grpc-status", "0")], end_stream=True)
        else:
            self.h2.end_stream(self.stream)
        self.flush()
        self.over.set()

    def reset_stream(self, code: h2.errors.ErrorCodes) -> None:
        """RST_STREAM."""
        self.h2.reset_stream(self.stream, code)
        self.flush()
        self.over.set()

    def go_away(self, last: int, code: h2.errors.ErrorCodes = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """GOAWAY, after which h2 would send no more, so it is written by hand."""
        self.raw(b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4) + int(code).to_bytes(4))

    def flush(self) -> None:
        """Send what h2 has."""
        self.raw(self.h2.data_to_send())


class Connection(asyncio.Protocol, ABC):
    """One connection of the gateway, as a runtime sees it."""

    def __init__(self, runtime: "Behaves") -> None:
        self.runtime = runtime
        self.answers: dict[int, Answering] = {}
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        self.runtime.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Every answer is over."""
        for answer in self.answers.values():
            answer.over.set()


class RestConnection(Connection):
    """In HTTP/1.1."""

    def __init__(self, runtime: "Behaves") -> None:
        super().__init__(runtime)
        self._data = b""

    def data_received(self, data: bytes) -> None:
        """Answer requests that are complete, or that the runtime does not wait for."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        line, *lines = head.split(b"\r\n")
        fields = dict(each.lower().split(b": ", 1) for each in lines)
        if len(body) >= int(fields[b"content-length"]):
            self._data = b""
            self._answer(line, body).asked.set()
        elif self.runtime.is_hasty(body):
            self._data = b""
            self.transport.pause_reading()
            self._answer(line, body, reads=False)

    def _answer(self, line: bytes, body: bytes, *, reads: bool = True) -> Answering:
        answer = self.answers[0] = RestAnswering(self.transport, speech.rest(line, body))
        answer.reads = reads
        self.runtime.asked(body, answer)
        return answer


class GrpcConnection(Connection):
    """In HTTP/2."""

    answers: dict[int, GrpcAnswering]  # type: ignore[assignment]  # all of them are

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send SETTINGS."""
        super().connection_made(transport)
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._paths: dict[int, str] = {}
        self._bodies: dict[int, bytes] = {}
        self._h2.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Answer requests that are complete, or that the runtime does not wait for."""
        with contextlib.suppress(ProtocolError):  # after frames that h2 knows nothing of
            for event in self._h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self._paths[event.stream_id] = str(dict(event.headers)[":path"])
                elif isinstance(event, DataReceived):
                    self._take(event.stream_id, event.data, event.flow_controlled_length)
                elif isinstance(event, StreamReset) and event.stream_id in self.answers:
                    self.answers[event.stream_id].over.set()
                elif isinstance(event, StreamEnded):
                    self._answer(event.stream_id).asked.set()
        self._flush()

    def _take(self, stream: int, data: bytes, size: int) -> None:
        body = self._bodies[stream] = self._bodies.get(stream, b"") + data
        if stream not in self.answers and self.runtime.is_hasty(body):
            self._answer(stream, reads=False)
        if stream in self.answers and size:
            self.answers[stream].taken(size)
        elif size:
            self._h2.acknowledge_received_data(size, stream)

    def _answer(self, stream: int, *, reads: bool = True) -> GrpcAnswering:
        if stream not in self.answers:
            says = speech.grpc(self._paths[stream])
            answer = self.answers[stream] = GrpcAnswering(self.transport, says, self._h2, stream)
            answer.reads = reads
            self.runtime.asked(self._bodies[stream], answer)
        return self.answers[stream]


class Behaves(ABC):
    """What a runtime does about its connections and requests."""

    @abstractmethod
    def connected(self, connection: Connection) -> None:
        """There is a connection."""

    @abstractmethod
    def is_hasty(self, body: bytes) -> bool:
        """Whether it does something about a request before all of that is here."""

    @abstractmethod
    def asked(self, body: bytes, answer: Answering) -> None:
        """A request is complete, or as much of it as it takes."""
