"""mitmproxy's console on a terminal."""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flows.running import STARTED, free_port, start
from gateway.serving import curl
from gateway.test_service import INFER
from gateway.test_streaming import tgis

SIZE = struct.pack("HHHH", 40, 120, 0, 0)
"""Rows and columns."""


class Screen:
    """What was written to a terminal."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._seen = b""

    async def until(self, text: bytes) -> None:
        """Wait for it."""
        async with asyncio.timeout(STARTED):
            while text not in self._seen:
                data = await self._reader.read(65536)
                assert data, self._seen.decode(errors="replace")
                self._seen += data


@asynccontextmanager
async def terminal() -> AsyncIterator[tuple[Screen, int]]:
    """One, and the descriptor of the program's end."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, SIZE)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb"))
    try:
        yield Screen(reader), theirs
    finally:
        transport.close()
        os.close(theirs)


async def test_calls_are_listed_in_the_console(tmp_path: Path) -> None:
    """A call appears while the console runs, and SIGTERM ends it without a question."""
    port = free_port()
    async with tgis("Hel", "lo", "") as upstream, terminal() as (screen, descriptor):
        arguments = ("--console", "--listen", f"127.0.0.1:{port}", "--upstream", f"tgis=grpc://127.0.0.1:{upstream}")
        process = await start(tmp_path, *arguments, terminal=descriptor)
        try:
            await screen.until(b"Flow:")
            await curl("-d", INFER.decode(), f"http://127.0.0.1:{port}/v2/models/seen/infer")
            await screen.until(b"seen")
            process.terminate()
            async with asyncio.timeout(STARTED):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
