"""What both demo runtimes share: a server on a free port that ends cleanly, and a memory of what it saw."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from inferbridge.demo.view import Lines

REMEMBERED = 16


@dataclass(slots=True)
class Seen:
    """One call as a runtime saw it."""

    request: Lines = field(default_factory=list)
    reply: Lines = field(default_factory=list)


class Memory:
    """The latest calls of a runtime."""

    def __init__(self) -> None:
        self._seen: deque[Seen] = deque(maxlen=REMEMBERED)

    def begin(self, request: Lines) -> Seen:
        """A new call."""
        seen = Seen(request)
        self._seen.append(seen)
        return seen

    def take(self) -> Seen:
        """The latest call since the last `take`; an empty one when there was none."""
        latest = self._seen[-1] if self._seen else Seen()
        self._seen.clear()
        return latest


class Connection(asyncio.Protocol):
    """A server-side connection that its server can close."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Send to the other side, if it is still there."""
        if self._transport is not None and data:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection after what was written."""
        if self._transport is not None:
            self._transport.close()


@asynccontextmanager
async def serving(connect: Callable[[], Connection]) -> AsyncIterator[int]:
    """Accept connections on a free port of 127.0.0.1, the context's value; they all end with the context."""
    connections: list[Connection] = []

    def accept() -> Connection:
        connections.append(connect())
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            connection.close()
        await server.wait_closed()
