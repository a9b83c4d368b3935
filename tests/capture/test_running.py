"""A running proxy that captures: a file, stdout and a collector on real sockets."""

import asyncio
import json
from pathlib import Path

import msgspec
import pytest

from gateway.serving import TIMEOUT, curl
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.settings import CaptureSettings, CloudEventsSink, FileSink, StdoutSink
from inferbridge.config import Admin, Listener, Settings, Upstream
from inferbridge.mock.serving import Doors, mocking
from inferbridge.run import serving
from inferbridge.upstream.address import Address, parse_address
from upstream.h1_server import Answer, h1_server

ANY_PORT = Listener("127.0.0.1", 0)
OKAY = Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@pytest.fixture(autouse=True)
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mitmproxy keeps its authority in a folder of the test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def read(text: bytes) -> list[CapturedLine]:
    """Lines that the schema allows; anything else fails."""
    return [msgspec.json.decode(line, type=CapturedLine) for line in text.splitlines()]


async def test_a_running_proxy_captures_to_all_sinks(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A call, a stream and a refused one: each sink has them all, the metrics count them, the file is private."""
    path = tmp_path / "capture.jsonl"
    prompt = json.dumps({"model": "m", "prompt": "a", "max_tokens": 3, "stream": True})
    async with (
        asyncio.timeout(TIMEOUT),
        h1_server(lambda request: OKAY) as collector,
        mocking("tgis", Doors(grpc=0)) as urls,
    ):
        settings = Settings(
            listen=(ANY_PORT,),
            upstreams=(Upstream("one", "tgis", parse_address(urls[0])),),
            admin=Admin(ANY_PORT),
            capture=CaptureSettings(
                enabled=True,
                sample=1.0,
                sinks=(FileSink(path), StdoutSink(), CloudEventsSink(f"{collector.url}/events")),
            ),
        )
        async with serving(settings) as bound:
            url = f"http://{bound.listen[0]}"
            await curl("--json", '{"model": "m", "prompt": "a", "max_tokens": 3}', f"{url}/v1/completions")
            await curl("--json", prompt, f"{url}/v1/completions")
            await curl("--json", "{}", f"{url}/nothing")
            while len(collector.requests) < 6:
                collector.arrived.clear()
                await collector.arrived.wait()
            metrics = (await curl(f"http://{bound.admin}/metrics")).decode()
        lines, printed = read(path.read_bytes()), read(capfdbinary.readouterr().out)
    assert [(line.status, line.reason) for line in lines] == [(200, "sample"), (200, "sample"), (404, "error")]
    assert lines[0].client.request.value["prompt"] == "a" == lines[0].calls[0].request.value["requests"][0]["text"]
    text = lines[0].client.reply.value["choices"][0]["text"]
    assert text
    assert text == lines[1].client.reply.value["choices"][0]["text"]
    assert lines[1].calls[0].reply.form == "stream"
    assert printed == lines
    assert path.stat().st_mode & 0o777 == 0o600
    assert 'inferbridge_captured_total{sink="file"} 3.0' in metrics
    kinds = [dict(request.headers)["ce-type"].rpartition(".")[2] for request in collector.requests]
    assert kinds == ["request", "response"] * 3
    assert json.loads(collector.requests[1].body)["choices"][0]["text"] == text


async def test_what_waits_at_the_end_is_written(tmp_path: Path) -> None:
    """A proxy that stops right after a call has its line in the file."""
    path = tmp_path / "capture.jsonl"
    settings = Settings(
        listen=(ANY_PORT,),
        upstreams=(Upstream("down", "triton", Address("grpc", "127.0.0.1", 9)),),
        capture=CaptureSettings(enabled=True, sample=0.0, sinks=(FileSink(path),)),
    )
    async with asyncio.timeout(TIMEOUT), serving(settings) as bound:
        await curl("--json", '{"inputs": []}', f"http://{bound.listen[0]}/v2/models/m/infer")
    assert [line.status for line in read(path.read_bytes())] == [503]


async def test_a_file_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    """Who asks for a capture is told at once when there can be none."""
    capture = CaptureSettings(enabled=True, sinks=(FileSink(tmp_path / "nowhere" / "capture.jsonl"),))
    upstream = Upstream("down", "triton", Address("grpc", "127.0.0.1", 9))
    with pytest.raises(OSError, match="nowhere"):
        async with serving(Settings(listen=(ANY_PORT,), upstreams=(upstream,), capture=capture)):
            pass


async def test_nothing_is_captured_unless_enabled(tmp_path: Path) -> None:
    """A sink alone turns nothing on: there is not even a file."""
    path = tmp_path / "capture.jsonl"
    upstream = Upstream("down", "triton", Address("grpc", "127.0.0.1", 9))
    capture = CaptureSettings(sample=1.0, sinks=(FileSink(path),))
    async with asyncio.timeout(TIMEOUT), serving(Settings((ANY_PORT,), (upstream,), capture=capture)) as bound:
        await curl("--json", "{}", f"http://{bound.listen[0]}/v2/models/m/infer")
    assert not path.exists()
