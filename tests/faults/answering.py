"""One answer of a runtime as steps, the same for a REST and a gRPC runtime, so that a fault is written once for both.

    head ─▶ first message ─▶ half of the next ─▶ its rest ─▶ end

A unary answer has one message, so there the half comes at once. `over` is set when the answer has ended, whoever ended
it: the runtime by its last byte or the end of the connection, the gateway by resetting the stream or hanging up.
"""

import asyncio
import contextlib
import json
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence

import h2.errors
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from inferbridge_generated.tgis import wire

HTML = b"<html><body>a page</body></html>"
PREFIX_BYTES = 5


class Answering(ABC):
    """The answer to one request."""

    mime: str

    def __init__(self, transport: asyncio.Transport, streams: bool) -> None:
        self.transport = transport
        self.streams = streams
        self.over = asyncio.Event()

    @property
    @abstractmethod
    def messages(self) -> Sequence[bytes]:
        """What a good answer says, framed: two messages of a stream (and its mark of success), or one."""

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
        return self.messages[1 if self.streams else 0]

    def begin(self) -> None:
        """The head, and the first message of a stream."""
        self.head()
        if self.streams:
            self.data(self.messages[0])

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
    """That of vLLM, in HTTP/1.1."""

    @property
    def messages(self) -> Sequence[bytes]:
        """Completions of OpenAI's API."""
        if self.streams:
            return [b"data: %s\n\n" % _completion(text, reason) for text, reason in (("Hel", None), ("lo", "stop"))]
        return [_completion("Hello", "stop")]

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
        if self.streams and good:
            self.data(b"data: [DONE]\n\n")
        self.raw(b"0\r\n\r\n")
        self.over.set()


def _completion(text: str, reason: str | None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    said = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return json.dumps({**said, **({"usage": usage} if text == "Hello" else {})}).encode()


class GrpcAnswering(Answering):
    """That of TGIS, in HTTP/2."""

    def __init__(self, transport: asyncio.Transport, streams: bool, connection: H2Connection, stream: int) -> None:
        super().__init__(transport, streams)
        self.h2 = connection
        self.stream = stream

    @property
    def messages(self) -> Sequence[bytes]:
        """Responses of fmaas."""
        if self.streams:
            texts = (("Hel", 1, 0), ("lo", 2, 2))
            return [_framed(wire.encode_GenerationResponse(_response(*each))) for each in texts]
        batch = wire.BatchedGenerationResponse(responses=[_response("Hello", 2, 2)])
        return [_framed(wire.encode_BatchedGenerationResponse(batch))]

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


def _response(text: str, count: int, reason: int) -> wire.GenerationResponse:
    return wire.GenerationResponse(text=text, generated_token_count=count, stop_reason=reason)


def _framed(chunks: Sequence[bytes | bytearray | memoryview]) -> bytes:
    message = b"".join(map(bytes, chunks))
    return b"\0" + len(message).to_bytes(4) + message


class Connection(asyncio.Protocol, ABC):
    """One connection of the gateway, as a runtime sees it."""

    def __init__(self, runtime: "Behaves") -> None:
        self.runtime = runtime
        self.answers: dict[int, Answering] = {}
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note it."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
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
        """Answer requests that are complete."""
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if found and len(body) >= int(fields[b"content-length"]):
            self._data = b""
            answer = self.answers[0] = RestAnswering(self.transport, b'"stream":true' in body.replace(b" ", b""))
            self.runtime.asked(body, answer)


class GrpcConnection(Connection):
    """In HTTP/2."""

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
        """Answer requests that are complete."""
        with contextlib.suppress(ProtocolError):  # after frames that h2 knows nothing of
            for event in self._h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self._paths[event.stream_id] = str(dict(event.headers)[":path"])
                elif isinstance(event, DataReceived):
                    self._bodies[event.stream_id] = self._bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, StreamReset):
                    self.answers[event.stream_id].over.set()
                elif isinstance(event, StreamEnded):
                    self._ask(event.stream_id)
        self._flush()

    def _ask(self, stream: int) -> None:
        streams = self._paths[stream].endswith("Stream")
        answer = self.answers[stream] = GrpcAnswering(self.transport, streams, self._h2, stream)
        self.runtime.asked(self._bodies[stream], answer)


class Behaves(ABC):
    """What a runtime does about its connections and requests."""

    @abstractmethod
    def connected(self, connection: Connection) -> None:
        """There is a connection."""

    @abstractmethod
    def asked(self, body: bytes, answer: Answering) -> None:
        """A request is complete."""
