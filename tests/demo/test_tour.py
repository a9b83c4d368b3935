"""The tour, through the real proxy."""

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferbridge.config.values import Listener, Settings
from inferbridge.demo.scenes import SCENES
from inferbridge.demo.tour import run_demo
from inferbridge.run import running

PATHS = [str(Path(__file__).parents[2] / folder) for folder in ("codegen", "proxy", "generated")]


async def test_every_answer_of_the_tour_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All calls go through the proxy both ways, are right, and show what each side saw."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "110")
    out = io.StringIO()
    assert await run_demo(running, out) == 0
    text = out.getvalue()
    assert "✗" not in text
    assert all(f"\n{number}. " in text for number in range(1, len(SCENES) + 1))
    for seen in (
        "gRPC /fmaas.GenerationService/GenerateStream",  # of an OpenAI client's chat
        "POST /v1/completions",  # of a TGIS client
        "gRPC /caikit.runtime.Nlp.NlpService/TextGenerationTas",
        "gRPC /inference.GRPCInferenceService/ModelInfer",
        "POST /v2/models/echo-rest/infer",
        "mm-model-id: poet-caikit",
        '{"generated_token_count":2,"text":" be"}',
        "toys",
        "curl -sN http://127.0.0.1:",
    ):
        assert seen in text


async def test_a_dead_proxy_fails_the_tour() -> None:
    """Calls that get no answer are shown as such, and the demo fails."""

    @asynccontextmanager
    async def nobody(settings: Settings) -> AsyncIterator[Listener]:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            yield Listener(*unused.getsockname())

    out = io.StringIO()
    assert await run_demo(nobody, out) == 1
    assert out.getvalue().count("✗ this is not the answer it should be") == len(SCENES)
    assert "no usable answer" in out.getvalue()


async def test_a_wrong_answer_fails_the_tour() -> None:
    """A proxy that answers, but not what it should, is found out."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    @asynccontextmanager
    async def wrong(settings: Settings) -> AsyncIterator[Listener]:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            yield Listener(*server.sockets[0].getsockname())

    out = io.StringIO()
    assert await run_demo(wrong, out) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serving_ends_with_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    """With --serve the demo goes on after the tour, and a signal ends it without an error or a traceback."""
    code = "from inferbridge.cli import main; main()"
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join(PATHS),
        "XDG_STATE_HOME": str(tmp_path),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-c", code, "demo", "--serve"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Serving until"):
                break
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
