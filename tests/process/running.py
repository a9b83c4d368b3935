"""`inferbridge proxy` as a process of its own, and a runtime whose answers wait for the test."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

from gateway.serving import curl
from inferbridge_generated.tgis import wire

STARTED = 60
"""Seconds that a process may take on a busy machine."""
SERVICE = "fmaas.GenerationService"


def message(text: str, count: int, stop: int) -> bytes:
    """One response of TGIS."""
    response = wire.GenerationResponse(text=text, generated_token_count=count, stop_reason=stop)
    return b"".join(map(bytes, wire.encode_GenerationResponse(response)))


@dataclass
class Runtime:
    """A TGIS that answers when `gate` is open; streams begin before that."""

    url: str = ""
    text: str = "lo"
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    calls: int = 0

    async def _pass(self) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1

    async def generate(self, request: bytes, context: object) -> bytes:
        """Generate."""
        self.calls += 1
        await self._pass()
        one = wire.GenerationResponse(text=f"Hel{self.text}", generated_token_count=2, stop_reason=2)
        reply = wire.BatchedGenerationResponse(responses=[one])
        return b"".join(map(bytes, wire.encode_BatchedGenerationResponse(reply)))

    async def stream(self, request: bytes, context: object) -> AsyncIterator[bytes]:
        """GenerateStream."""
        self.calls += 1
        yield message("Hel", 1, 0)
        await self._pass()
        yield message(self.text, 2, 2)

    async def has(self, waiting: int) -> None:
        """Wait until so many calls are in the middle."""
        await until(lambda: self.waiting >= waiting)


async def until(condition: Any, seconds: float = STARTED) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.01)


@asynccontextmanager
async def runtime(text: str = "lo") -> AsyncIterator[Runtime]:
    """A runtime on a port of its own."""
    made, server = Runtime(text=text), grpc.aio.server()
    handlers = {
        "Generate": grpc.unary_unary_rpc_method_handler(made.generate),
        "GenerateStream": grpc.unary_stream_rpc_method_handler(made.stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    made.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


@dataclass
class Process:
    """A running proxy."""

    process: asyncio.subprocess.Process
    port: int = 0
    admin: int = 0
    lines: list[str] = field(default_factory=list)
    """What it has said on stderr."""

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(STARTED):
            return await self.process.wait()

    async def says(self, text: str, times: int = 1) -> None:
        """Wait for lines with `text`."""
        await until(lambda: sum(text in line for line in self.lines) >= times)

    async def page(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a page of the admin port."""
        output = await curl("-w", "\n%{http_code}", f"http://127.0.0.1:{self.admin}/{path}")
        body, _, status = output.rpartition(b"\n")
        return int(status), json.loads(body)

    async def metric(self, line: str) -> float:
        """The value of a series."""
        text = (await curl(f"http://127.0.0.1:{self.admin}/metrics")).decode()
        found = [one for one in text.splitlines() if one.startswith(f"{line} ")]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    async def counts(self, line: str, value: float) -> None:
        """Wait for a series to have a value."""
        async with asyncio.timeout(STARTED):
            while await self.metric(line) != value:  # noqa: ASYNC110 - there is nothing to wait for
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """A client of gRPC with a connection of its own that does not try again."""
        options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=options) as channel:
            yield channel


@asynccontextmanager
async def proxy(
    *arguments: str,
    env: dict[str, str] | None = None,
    prefix: Sequence[str] = (),
    admin: bool = True,
    listen: Sequence[str] = ("--listen", "127.0.0.1:0"),
) -> AsyncIterator[Process]:
    """`inferbridge proxy` with these arguments; the value once it listens."""
    command = [*prefix, sys.executable, "-m", "inferbridge.cli", "proxy", *listen, *arguments]
    if admin:
        command += ["--admin", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})}
    process = await asyncio.create_subprocess_exec(
        *command, stderr=-1, stdout=asyncio.subprocess.DEVNULL, env=environment
    )
    running = Process(process)
    reading = asyncio.create_task(_read(running))
    try:
        await until(lambda: process.returncode is not None or (running.port and (running.admin or not admin)))
        assert process.returncode is None, "\n".join(running.lines)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(running: Process) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        text = line.decode().rstrip("\n")
        running.lines.append(text)
        if found := re.match(r"(listening|admin port) on https?://\S+:(\d+)$", text):
            setattr(running, "port" if found[1] == "listening" else "admin", int(found[2]))


def config(folder: Path, upstream: str, *lines: str) -> Path:
    """A configuration file."""
    path = folder / "inferbridge.yaml"
    path.write_text(
        "\n".join(
            [f"upstreams: [{{runtime: tgis, name: {upstream.rpartition(':')[2]}, url: '{upstream}'}}]", *lines, ""]
        )
    )
    return path


def unary_request() -> bytes:
    """Of TGIS."""
    asked = wire.BatchedGenerationRequest(model_id="m", requests=[wire.GenerationRequest(text="hi")])
    return b"".join(map(bytes, wire.encode_BatchedGenerationRequest(asked)))


def stream_request() -> bytes:
    """Of TGIS."""
    asked = wire.SingleGenerationRequest(model_id="m", request=wire.GenerationRequest(text="hi"))
    return b"".join(map(bytes, wire.encode_SingleGenerationRequest(asked)))


async def grpc_unary(channel: grpc.aio.Channel) -> grpc.StatusCode:
    """How a call ends."""
    call = channel.unary_unary(f"/{SERVICE}/Generate")(unary_request(), timeout=STARTED)
    return await call.code()


async def grpc_stream(channel: grpc.aio.Channel) -> tuple[int, grpc.StatusCode]:
    """The messages of a stream, and how it ends."""
    call = channel.unary_stream(f"/{SERVICE}/GenerateStream")(stream_request(), timeout=STARTED)
    messages = 0
    try:
        async for _ in call:
            messages += 1
    except grpc.aio.AioRpcError:
        pass
    return messages, await call.code()


async def http_call(port: int, *, stream: bool = False, close: bool = False) -> tuple[str, str]:
    """Head and body of the answer to an OpenAI completion, read to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "m", "prompt": "a", "stream": stream, "max_tokens": 3})
    fields = f"host: a\r\ncontent-length: {len(body)}\r\n" + ("connection: close\r\n" if close else "")
    writer.write(f"POST /v1/completions HTTP/1.1\r\n{fields}\r\n{body}".encode())
    try:
        async with asyncio.timeout(STARTED):
            head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
    finally:
        writer.close()
    return head, answer
