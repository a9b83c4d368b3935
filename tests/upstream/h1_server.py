"""A small HTTP/1.1 server on a real socket that does exactly what a test tells it, misbehaviour included."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

type After = Literal["keep", "close", "reset"]


@dataclass(slots=True)
class Request:
    """One request as it came in."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    """Number of the connection, from 1."""
    nth: int
    """Number of the request on its connection, from 1."""


@dataclass(slots=True)
class Answer:
    """Bytes to send, and what to do with the connection then."""

    sent: bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
    after: After = "keep"
    hold: asyncio.Event | None = None
    """Wait for this before answering."""


@dataclass
class H1Server:
    """The running server: what it has seen."""

    behave: Callable[[Request], Answer]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a request has arrived."""
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a client has closed its connection."""
    busy: int = 0
    most_busy: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        self.open_now += 1
        number = self.connections
        self.writers.add(writer)
        try:
            nth = 0
            while True:
                nth += 1
                request = await _read_request(reader, number, nth)
                if not await self._answer(request, reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open_now -= 1
            self.left.set()
            self.writers.discard(writer)
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.requests.append(request)
        self.arrived.set()
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        answer = self.behave(request)
        if answer.hold is not None:
            await _first(answer.hold.wait(), _closed(reader))
        self.busy -= 1
        writer.write(answer.sent)
        if answer.after == "reset":
            writer.transport.abort()
        else:
            await writer.drain()
        return answer.after == "keep"


async def _first(*waits: object) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # type: ignore[call-overload]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    done, _ = await asyncio.wait(tasks)  # one that still reads would be in the way of the next request
    for task in done:
        if not task.cancelled():
            task.exception()  # seen, or the loop would complain of it in the middle of some other test


async def _closed(reader: asyncio.StreamReader) -> None:
    if not await reader.read(1):
        raise ConnectionError


async def _read_request(reader: asyncio.StreamReader, connection: int, nth: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = head[:-4].split("\r\n")
    headers = [(name, value) for name, _, value in (each.partition(": ") for each in fields)]
    length = int(dict(headers).get("content-length", "0"))
    return Request(line, headers, await reader.readexactly(length), connection, nth)


@asynccontextmanager
async def h1_server(
    behave: Callable[[Request], Answer] = lambda _: Answer(), tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[H1Server]:
    """A server for the time of the block."""
    running = H1Server(behave)
    server = await asyncio.start_server(running.serve, "127.0.0.1", port, ssl=tls, limit=1 << 20)
    running.url = f"{'https' if tls else 'http'}://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield running
    finally:
        server.close()
        for writer in list(running.writers):
            writer.transport.abort()
        await server.wait_closed()
