"""Runtimes that write down, byte by byte, what reached them: one for HTTP/1.1, one for HTTP/2.

The HTTP/1.1 one reads as strictly as a text book and guesses nothing: what is not exactly one well-formed request after
another is kept as `malformed`.
"""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

from inferbridge.bridge.framing import frame
from inferbridge_generated.tgis import wire

_HEAD = re.compile(
    rb"(?P<line>[A-Z]+ /[\x21-\x7e]* HTTP/1\.1)\r\n(?P<fields>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?[^\r\n\0]*\r\n)*)\r\n"
)
_TEXT = wire.GenerationResponse(text="a", stop_reason=2)
_GENERATED = b"".join(
    frame((wire.encode_BatchedGenerationResponse(wire.BatchedGenerationResponse(responses=[_TEXT])),))
)
_JSON_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass
class Seen:
    """What has reached a runtime."""

    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """Request line, fields, body."""
    malformed: list[bytes] = field(default_factory=list)

    def clear(self) -> None:
        """Begin anew."""
        self.requests.clear()
        self.malformed.clear()


def _read_http1(data: bytes, seen: Seen) -> tuple[int, bytes]:
    """Take the complete requests off; how many, and the rest."""
    count = 0
    while data:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return count, data
        head = _HEAD.fullmatch(data[: end + 4])
        fields = [] if head is None else [tuple(line.split(b":", 1)) for line in head["fields"].split(b"\r\n")[:-1]]
        names = [name.lower() for name, _ in fields]
        once = all(names.count(name) == 1 for name in (b"host",)) and names.count(b"content-length") <= 1
        if head is None or not once or b"transfer-encoding" in names:
            seen.malformed.append(data)
            return count, b""
        found = {name.decode().lower(): value.strip().decode("latin-1") for name, value in fields}
        length = int(found.get("content-length", "0"))
        body = data[end + 4 : end + 4 + length]
        if len(body) < length:
            return count, data
        seen.requests.append((head["line"].decode(), found, body))
        count += 1
        data = data[end + 4 + length :]
    return count, b""


def _serve_http1(client: socket.socket, seen: Seen) -> None:
    data = b""
    while piece := client.recv(1 << 16):
        count, data = _read_http1(data + piece, seen)
        client.sendall(_JSON_ANSWER * count)
    if data:
        seen.malformed.append(data)


def _serve_http2(client: socket.socket, seen: Seen) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
    connection.initiate_connection()
    client.sendall(connection.data_to_send())
    open_streams: dict[int, tuple[dict[str, str], bytearray]] = {}
    while piece := client.recv(1 << 16):
        for event in connection.receive_data(piece):
            if isinstance(event, h2.events.RequestReceived):
                open_streams[event.stream_id] = (dict(event.headers), bytearray())
            elif isinstance(event, h2.events.DataReceived):
                open_streams[event.stream_id][1].extend(event.data)
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                open_streams.pop(event.stream_id, None)
            elif isinstance(event, h2.events.StreamEnded):
                fields, body = open_streams.pop(event.stream_id)
                seen.requests.append((f"{fields[':method']} {fields[':path']} HTTP/2", fields, bytes(body)))
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                connection.send_data(event.stream_id, _GENERATED)
                connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        client.sendall(connection.data_to_send())


@contextmanager
def listening(serve: Callable[[socket.socket], None], port: int = 0) -> Iterator[int]:
    """Serve each connection in a thread; the value is the port."""
    server = socket.create_server(("127.0.0.1", port))
    clients: list[socket.socket] = []

    def run(client: socket.socket) -> None:
        with client, suppress(OSError):
            serve(client)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients.append(client)
                threading.Thread(target=run, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def http1_recorder(port: int = 0) -> Iterator[tuple[Seen, int]]:
    """A REST runtime that answers `{}` to everything."""
    seen = Seen()
    with listening(lambda client: _serve_http1(client, seen), port) as bound:
        yield seen, bound


@contextmanager
def http2_recorder(port: int = 0) -> Iterator[tuple[Seen, int]]:
    """A gRPC runtime that answers everything as TGIS does a call of Generate."""
    seen = Seen()
    with listening(lambda client: _serve_http2(client, seen), port) as bound:
        yield seen, bound


@dataclass
class Sent:
    """How far a runtime has come with its answers."""

    bytes: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    """An answer was sent to its end, or its client has gone."""


@contextmanager
def http1_fountain(total: int) -> Iterator[tuple[Sent, int]]:
    """A REST runtime whose every answer has so many bytes; `Sent` tells how many the proxy has taken."""
    sent = Sent()
    piece = b"x" * (1 << 16)

    def serve(client: socket.socket) -> None:
        while b"\r\n\r\n" in client.recv(1 << 16):
            try:
                client.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % total)
                for _ in range(total // len(piece)):
                    client.sendall(piece)
                    sent.bytes += len(piece)
            finally:
                sent.ended.set()

    with listening(serve) as port:
        yield sent, port
