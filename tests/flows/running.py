"""`inferbridge inspect` as a process, as somebody starts it at a terminal."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.serving import curl
from packaging_sources import ROOT, SOURCE_ROOTS

STARTED = 60.0
"""Seconds; importing all that is generated takes some on a busy machine."""


@dataclass
class Inspecting:
    """One that runs."""

    process: asyncio.subprocess.Process
    port: int
    url: str
    """Of the pages, with the token."""

    @property
    def token(self) -> str:
        """The pages' own."""
        return self.url.rpartition("token=")[2]

    async def get(self, path: str) -> str:
        """What the pages say."""
        return (await curl("-H", f"authorization: Bearer {self.token}", self.url.partition("?")[0] + path)).decode()

    async def flows(self) -> list[dict[str, Any]]:
        """All that are shown."""
        found: list[dict[str, Any]] = json.loads(await self.get("flows"))
        return found

    @property
    def resident(self) -> int:
        """Bytes in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[0])

    async def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


def free_port() -> int:
    """One of this machine that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


async def start(state: Path, *arguments: str, terminal: int = subprocess.PIPE) -> asyncio.subprocess.Process:
    """The command, with its own state folder; `terminal` is the descriptor of one, if it is to run there."""
    path = ":".join(str(ROOT / folder) for folder in SOURCE_ROOTS)
    environment = {**os.environ, "PYTHONPATH": path, "XDG_STATE_HOME": str(state), "TERM": "xterm"}
    command = (sys.executable, "-m", "inferbridge.cli", "inspect", *arguments)
    streams = {"stdin": None if terminal == subprocess.PIPE else terminal, "stdout": terminal, "stderr": terminal}
    return await asyncio.create_subprocess_exec(*command, env=environment, **streams)


@asynccontextmanager
async def inspecting(state: Path, *arguments: str) -> AsyncIterator[Inspecting]:
    """One with its pages, in front of upstreams that the arguments name."""
    process = await start(state, "--listen", "127.0.0.1:0", "--web-port", str(free_port()), *arguments)
    try:
        assert process.stderr is not None
        found: dict[str, str] = {}
        async with asyncio.timeout(STARTED):
            while len(found) < 2:
                line = (await process.stderr.readline()).decode()
                assert line, "it has ended"
                told = re.search(r"listening on http://.*:(?P<port>\d+)|shown at (?P<url>\S+)", line)
                found.update({name: text for name, text in told.groupdict().items() if text} if told else {})
        yield Inspecting(process, int(found["port"]), found["url"])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
