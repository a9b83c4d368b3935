"""An HTTP/2 server on a real socket, on the `h2` library, that does what a test tells it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset

HEAD = [(":status", "200"), ("content-type", "application/grpc")]


class Peer(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, server: "H2Server") -> None:
        self.server = server
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.number = 0
        self.heads: dict[int, list[tuple[str, str]]] = {}
        """Of each request."""
        self.bodies: dict[int, bytes] = {}
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send SETTINGS, unless the server is to stay silent."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no instance of it
        self.server.peers.append(self)
        self.number = len(self.server.peers)
        if self.server.greeting is not None:
            self.transport.write(self.server.greeting)
            return
        self.h2.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Note requests and let the test answer those that are complete."""
        if self.server.greeting is not None:
            return
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.server.requests.append((self.number, event.stream_id))
                self.heads[event.stream_id] = [(str(name), str(value)) for name, value in event.headers]
                self.server.on_head(self, event.stream_id)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            elif isinstance(event, StreamEnded):
                self.server.behave(self, event.stream_id)
                self.server.arrived.set()
            elif isinstance(event, StreamReset):
                self.server.resets.append((event.stream_id, event.error_code))
                self.server.reset.set()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has."""
        if not self.transport.is_closing():
            self.transport.write(self.h2.data_to_send())

    def answer(self, stream_id: int, body: bytes = b"reply") -> None:
        """Answer one request well."""
        self.h2.send_headers(stream_id, HEAD)
        self.h2.send_data(stream_id, body)
        self.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)


class H2Server:
    """What the server has seen, over all connections."""

    def __init__(self, behave: Callable[[Peer, int], None], greeting: bytes | None) -> None:
        self.behave = behave
        self.greeting = greeting
        self.on_head: Callable[[Peer, int], object] = lambda peer, stream_id: None
        """Called for each request when its head has come."""
        self.url = ""
        self.peers: list[Peer] = []
        self.requests: list[tuple[int, int]] = []
        """Connection number and stream id of each."""
        self.resets: list[tuple[int, int | None]] = []
        self.reset = asyncio.Event()
        self.arrived = asyncio.Event()


@asynccontextmanager
async def h2_server(
    behave: Callable[[Peer, int], None] = Peer.answer, greeting: bytes | None = None, port: int = 0
) -> AsyncIterator[H2Server]:
    """A server for the time of the block; with a `greeting` it sends just that and never speaks HTTP/2."""
    running = H2Server(behave, greeting)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(running), "127.0.0.1", port)
    running.url = f"grpc://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
        for peer in running.peers:
            peer.transport.abort()
        await server.wait_closed()
