"""Runtimes that begin an answer and then say nothing: a stream has its head and first message, one answer nothing.

They know when the gateway has left a call, and end one themselves in the way that they are told to.
"""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import GoAwayFrame, RstStreamFrame

from hostile.recorders import listening
from inferbridge.bridge.framing import frame
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis

NO_LINGER = struct.pack("ii", 1, 0)
INTERNAL_ERROR = 2
_TOKEN = tgis.encode_GenerationResponse(tgis.GenerationResponse(text="a", generated_token_count=1))
_TENSORS = v2.encode_ModelStreamInferResponse(
    v2.ModelStreamInferResponse(infer_response=v2.ModelInferResponse(model_name="m"))
)
_FIRST = {"GenerateStream": b"".join(frame((_TOKEN,))), "ModelStreamInfer": b"".join(frame((_TENSORS,)))}
_EVENT = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [{"index": 0, "text": "a"}]}
_EVENTS = b"data: %s\n\n" % json.dumps(_EVENT).encode()
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@dataclass
class Quiet:
    """The call that came last."""

    fields: dict[str, str] = field(default_factory=dict)
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """The gateway has reset its stream, or closed its connection."""
    left_at: float = 0.0
    end: Callable[[str], None] = lambda how: None
    """Ends it: `close`, `reset`, and over HTTP/2 `RST_STREAM` or `GOAWAY`."""

    def ask(self, end: Callable[[str], None]) -> None:
        """A call has come."""
        self.end = end
        self.asked.set()

    def leave(self) -> None:
        """It is not wanted any more."""
        self.left_at = time.monotonic()
        self.left.set()

    def clear(self) -> None:
        """Await the next one."""
        self.asked.clear()
        self.left.clear()


def hang_up(connection: socket.socket, how: str) -> None:
    """End a connection with FIN (`close`) or RST (`reset`)."""
    if how == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        connection.shutdown(socket.SHUT_RD)  # a thread that reads would hold it open
        connection.close()
    else:
        connection.shutdown(socket.SHUT_RDWR)


def _serve_rest(client: socket.socket, seen: Quiet) -> None:
    data = b""
    while b"\r\n\r\n" not in data or _is_incomplete(data):
        data += client.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    seen.fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    if b'"stream":true' in body.replace(b" ", b""):
        client.sendall(_STREAM_HEAD + b"%x\r\n%s\r\n" % (len(_EVENTS), _EVENTS))
    ended = threading.Event()

    def end(how: str) -> None:
        ended.set()
        hang_up(client, how)

    seen.ask(end)
    try:
        while client.recv(1 << 16):
            pass
    finally:
        if not ended.is_set():
            seen.leave()


def _is_incomplete(data: bytes) -> bool:
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) < int(lengths[0]) if lengths else False


def _serve_grpc(client: socket.socket, seen: Quiet) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
    connection.initiate_connection()
    client.sendall(connection.data_to_send())
    path = ""

    def end(how: str, stream: int) -> None:
        if how == "RST_STREAM":
            client.sendall(RstStreamFrame(stream, error_code=INTERNAL_ERROR).serialize())
            return
        if how == "GOAWAY":
            client.sendall(GoAwayFrame(0, last_stream_id=stream, error_code=INTERNAL_ERROR).serialize())
        hang_up(client, how)

    while data := client.recv(1 << 16):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                seen.fields = dict(event.headers)
                path = seen.fields[":path"].rpartition("/")[2]
            elif isinstance(event, h2.events.DataReceived) and event.stream_id in connection.streams:
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                if path in _FIRST:
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    connection.send_data(event.stream_id, _FIRST[path])
                client.sendall(connection.data_to_send())
                stream = event.stream_id
                seen.ask(lambda how, stream=stream: end(how, stream))
            elif isinstance(event, h2.events.StreamReset):
                seen.leave()
        client.sendall(connection.data_to_send())


@contextmanager
def quiet_rest() -> Iterator[tuple[Quiet, int]]:
    """Speaks HTTP/1.1."""
    seen = Quiet()
    with listening(lambda client: _serve_rest(client, seen)) as port:
        yield seen, port


@contextmanager
def quiet_grpc() -> Iterator[tuple[Quiet, int]]:
    """Speaks HTTP/2."""
    seen = Quiet()
    with listening(lambda client: _serve_grpc(client, seen)) as port:
        yield seen, port
