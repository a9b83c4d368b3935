"""A gRPC client whose request grows while it reads the answer, and which makes up nothing about how that ended.

(grpcio says INTERNAL where a message could not be written any more, whatever the server's status.)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events

from faults.answering import PREFIX_BYTES

PAUSE = 0.01
"""Seconds between messages."""


@dataclass
class Grown:
    """What came of a call."""

    messages: list[bytes] = field(default_factory=list)
    status: int = -1
    """-1: there was none."""
    message: str = ""


class _Call:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._room = asyncio.Event()
        self._grown = Grown()
        self._body = b""
        self._over = False

    def begin(self, path: str, seconds: float) -> None:
        """Send the head."""
        self._h2.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path)]
        fields = [("te", "trailers"), ("content-type", "application/grpc"), ("grpc-timeout", f"{seconds * 1000:.0f}m")]
        self._h2.send_headers(1, [*pseudo, *fields])
        self._flush()

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    async def send(self, messages: Sequence[bytes]) -> None:
        """All of them, as the windows admit, until there is an end."""
        for message in messages:
            data = b"\0" + len(message).to_bytes(4) + message
            while data and not self._over:
                self._room.clear()
                room = min(self._h2.local_flow_control_window(1), self._h2.max_outbound_frame_size)
                if not room:
                    await self._room.wait()
                    continue
                self._h2.send_data(1, data[:room])
                self._flush()
                data = data[room:]
            await asyncio.sleep(PAUSE)  # as they come to the client's mind
        if not self._over:
            self._h2.end_stream(1)
            self._flush()

    async def receive(self) -> Grown:
        """To the end."""
        async for event in self._events():
            if isinstance(event, h2.events.DataReceived):
                self._body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self._note(dict(event.headers))
            self._over = isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
            self._room.set()
            if self._over:
                break
        while (end := PREFIX_BYTES + int.from_bytes(self._body[1:PREFIX_BYTES])) <= len(self._body):
            self._grown.messages.append(self._body[PREFIX_BYTES:end])
            self._body = self._body[end:]
        return self._grown

    def _note(self, fields: dict[str, str]) -> None:
        if "grpc-status" in fields:
            self._grown.status, self._grown.message = (
                int(fields["grpc-status"]),
                unquote(fields.get("grpc-message", "")),
            )

    async def _events(self) -> AsyncIterator[h2.events.Event]:
        while data := await self._reader.read(1 << 16):
            for event in self._h2.receive_data(data):
                yield event
            self._flush()


async def grow(port: int, path: str, messages: Sequence[bytes], seconds: float) -> Grown:
    """A call that ends when its answer does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    call = _Call(reader, writer)
    call.begin(path, seconds)
    sending = asyncio.create_task(call.send(messages))
    try:
        return await call.receive()
    finally:
        sending.cancel()
        await asyncio.wait([sending])
        writer.close()
