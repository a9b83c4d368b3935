"""A client of HTTP/1.1 that costs little: one kept connection, one call at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Connection:
    """Opened by the first call, and again after it was closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def close(self) -> None:
        """In the middle of an answer the proxy sees its client leave."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def send(self, target: str, key: str, body: bytes) -> int:
        """Begin a call; the status of its answer, whose body has to be read."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        fields = f"host: a\r\nauthorization: Bearer {key}\r\ncontent-type: application/json"
        self._writer.write(f"POST {target} HTTP/1.1\r\n{fields}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower()
        lines = head.split("\r\n")
        self._fields = dict(line.split(": ", 1) for line in lines[1:-2])
        return int(lines[0].split(" ")[1])

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        if "content-length" in self._fields:
            yield await self._reader.readexactly(int(self._fields["content-length"]))
        else:
            while size := int(await self._reader.readuntil(b"\r\n"), 16):
                yield (await self._reader.readexactly(size + 2))[:-2]
            await self._reader.readexactly(2)
        if self._fields.get("connection") == "close":
            await self.close()

    async def whole(self) -> bytes:
        """The whole body."""
        return b"".join([piece async for piece in self.pieces()])
