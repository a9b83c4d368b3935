"""A proxy as a process of its own, whose output is kept to be searched, and requests for it."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auth.key_files import PLAIN
from gateway.serving import talk

ROOT = Path(__file__).parents[2]
FAULTY = Path(__file__).with_name("canary_proxy.py")
SECONDS = 60


@dataclass
class Proxy:
    """A running proxy."""

    process: asyncio.subprocess.Process
    log: Path
    port: int
    admin: int

    @property
    def seen(self) -> str:
        """All that it has written so far."""
        return output_in(self.log)

    async def pages(self) -> str:
        """All that the admin port shows."""
        paths = ("/metrics", "/config", "/version", "/readyz", "/nothing")
        sent = [f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode() for path in paths]
        return "".join([(await talk(self.admin, each)).decode() for each in sent])


@asynccontextmanager
async def program(
    arguments: list[str], log: Path, environment: dict[str, str], *paths: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program whose output, all of it, goes to a file."""
    sources = os.pathsep.join([*(str(ROOT / name) for name in ("codegen", "proxy", "generated")), *paths])
    known = os.environ | {"PYTHONPATH": sources, "PYTHONDEVMODE": "1", "HOME": str(log.parent)} | environment
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=log.parent, env=known, stdin=-3, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(SECONDS):
            await process.wait()


def output_in(log: Path) -> str:
    """What a program has written so far."""
    return log.read_text("utf-8", "replace")


async def found(pattern: str, log: Path, process: asyncio.subprocess.Process) -> int:
    """The port that a program says it listens on."""
    async with asyncio.timeout(SECONDS):
        while not (hit := re.search(pattern, output_in(log))):
            assert process.returncode is None, output_in(log)
            await asyncio.sleep(0.02)
    return int(hit[1])


@asynccontextmanager
async def proxy(folder: Path, config: dict[str, Any], environment: dict[str, str]) -> AsyncIterator[Proxy]:
    """A proxy with faults, at its most talkative."""
    log, file = folder / "output.log", folder / "inferbridge.yaml"
    file.write_text(json.dumps(config))
    async with program([str(FAULTY), "proxy", "-c", str(file)], log, environment) as process:
        admin = await found(r"admin port on http://127\.0\.0\.1:(\d+)", log, process)
        yield Proxy(process, log, await found(r"listening on http://127\.0\.0\.1:(\d+)", log, process), admin)


def request(path: str, body: dict[str, Any] | bytes, *fields: str, key: str = PLAIN) -> bytes:
    """A POST that ends its connection."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = [f"Authorization: Bearer {key}"] if key else []
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Connection: close", f"Content-Length: {len(content)}", *own, *fields]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + content
