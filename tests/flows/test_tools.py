"""`inferbridge inspect` over sockets: pages, files, the end of the program, and memory."""

import asyncio
import json
import socket
from pathlib import Path

import pytest

from flows.running import STARTED, free_port, inspecting, start
from gateway.serving import curl
from gateway.test_streaming import tgis

BODY = json.dumps({"model": "tiny", "prompt": "a", "temperature": 0, "stream": True})


def call(port: int) -> tuple[str, ...]:
    """A streamed completion, as curl makes it."""
    return ("-N", "-H", "content-type: application/json", "-d", BODY, f"http://127.0.0.1:{port}/v1/completions")


async def test_calls_are_shown_on_pages_with_a_token(tmp_path: Path) -> None:
    """A translated stream is listed and can be read as each view shows it; without the token nothing is told."""
    async with (
        tgis("Hel", "lo", "") as upstream,
        inspecting(tmp_path, "--upstream", f"tgis=grpc://127.0.0.1:{upstream}") as running,
    ):
        answer = await curl(*call(running.port))
        (flow,) = await running.flows()
        shown = await running.get(f"flows/{flow['id']}/response/content/inferbridge%20events.json")
        refused = await curl("-o", "/dev/null", "-w", "%{http_code}", running.url.partition("?")[0] + "flows")
        code = await running.stop()
    assert (flow["request"]["path"], flow["response"]["status_code"]) == ("/v1/completions", 200)
    assert flow["response"]["contentLength"] == len(answer)
    assert "Hello" in shown
    assert (refused, code) == (b"403", 0)


async def test_recorded_calls_can_be_read_again(tmp_path: Path) -> None:
    """What `--save` wrote, `--read` prints, without any gateway, filtered, and ends."""
    saved = tmp_path / "saved.flows"
    async with tgis("Hel", "lo", "") as upstream:
        arguments = ("--save", str(saved), "--upstream", f"tgis=grpc://127.0.0.1:{upstream}")
        async with inspecting(tmp_path, *arguments) as running:
            await curl(*call(running.port))
            await running.stop()
    for wanted, shown in (("model:tiny", True), ("ttft:>10m", False)):
        process = await start(tmp_path, "--dump", "--detail", "4", "--read", str(saved), "--filter", wanted)
        async with asyncio.timeout(STARTED):
            out, _ = await process.communicate()
        assert process.returncode == 0
        assert ("Hello" in out.decode()) is shown


async def test_a_filter_that_is_wrong_is_refused(tmp_path: Path) -> None:
    """Before anything starts, with the place and what would be right."""
    process = await start(tmp_path, "--filter", "modle:x", "--upstream", "triton=grpc://127.0.0.1:1")
    async with asyncio.timeout(STARTED):
        _, errors = await process.communicate()
    assert process.returncode == 2
    assert "did you mean 'model'?" in errors.decode()


@pytest.mark.parametrize("taken", ["--web-port", "--listen"])
async def test_a_port_in_use_is_a_failure(tmp_path: Path, taken: str) -> None:
    """The program says which port it could not have, and ends with 1."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        ports = {"--listen": f"127.0.0.1:{free_port()}", "--web-port": str(free_port())}
        ports[taken] = str(port) if taken == "--web-port" else f"127.0.0.1:{port}"
        arguments = [text for pair in ports.items() for text in pair]
        process = await start(tmp_path, *arguments, "--upstream", "triton=grpc://127.0.0.1:1")
        async with asyncio.timeout(STARTED):
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert str(port) in errors.decode()
    assert "Traceback" not in errors.decode()


async def test_memory_is_bounded_over_sockets(tmp_path: Path) -> None:
    """120 MB of streams leave little more behind than the memory that was allowed."""
    async with tgis(*["x" * 65536] * 48, "") as upstream:
        arguments = ("--memory", "16MiB", "--upstream", f"tgis=grpc://127.0.0.1:{upstream}")
        async with inspecting(tmp_path, *arguments) as running:
            await curl("-o", "/dev/null", *call(running.port))
            before = running.resident
            for _ in range(40):
                await curl("-o", "/dev/null", *call(running.port))
            grown = running.resident - before
            flows = await running.flows()
    assert grown < 2 * (16 << 20), f"{grown >> 20} MiB"
    assert 2 <= len(flows) <= 10
