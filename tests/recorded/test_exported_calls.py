"""Exported commands and scripts, run as they stand against a gateway in front of mocks: answered as recorded."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mitmproxy import http

from inferbridge.cli import main
from inferbridge.recorded.bodies import reply_body
from recorded_flows import GRPC, JSON, exchange, recorded, recorded_rpc, written
from recorded_gateway import gateway
from runtimes import grpcurl

PROMPT = {"model": "m", "prompt": 'it\'s "to be" or $(not) é'}
TGIS = "/fmaas.GenerationService/Generate"
HEALTH = "/grpc.health.v1.Health/Check"
TGIS_STREAM = "/fmaas.GenerationService/GenerateStream"


async def exported(*arguments: str) -> Result:
    """What `inferbridge export` prints; it must succeed."""
    result = await asyncio.to_thread(CliRunner().invoke, main, ["export", *arguments])
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result


async def ran(*command: str, stdin: bytes = b"") -> bytes:
    """What a program prints; it must succeed. It finds nothing of this project."""
    environment = {"PATH": os.environ["PATH"], "TOKEN": "t"}
    process = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, stderr=-1, env=environment)
    async with asyncio.timeout(60):
        output, errors = await process.communicate(stdin)
    assert process.returncode == 0, errors.decode()
    return output


def told(flow: http.HTTPFlow, body: bytes | None = None) -> Any:
    """An answer without what is new each time."""
    if body is not None:
        assert flow.response is not None
        flow = flow.copy()
        assert flow.response is not None
        flow.response.content = body
    return steady(reply_body(exchange(flow).client).value)


def steady(value: Any) -> Any:
    """A value without ids and times, and messages as values."""
    if isinstance(value, dict):
        return {name: steady(each) for name, each in value.items() if name not in ("id", "created")}
    if isinstance(value, list):
        return [steady(json.loads(each) if isinstance(each, str) and each[:1] == "{" else each) for each in value]
    return value


async def test_curl_is_answered_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole answer, a stream of events, and gRPC byte for byte; both out of a file beside and out of printf."""
    async with gateway(tmp_path, monkeypatch) as address:
        flows = [
            await recorded(f"http://{address}", "POST", "/v1/completions", json.dumps(PROMPT).encode()),
            await recorded(
                f"http://{address}", "POST", "/v1/completions", json.dumps({**PROMPT, "stream": True}).encode(),
                (*JSON, ("authorization", "Bearer ***")),
            ),
            await recorded_rpc(f"grpc://{address}", "tgis", TGIS_STREAM, '{"model_id":"m","request":{"text":"a b"}}'),
        ]  # fmt: skip
        for number, flow in enumerate(flows):
            file = written(tmp_path / f"{number}.flows", [flow])
            script = tmp_path / f"{number}.sh"
            await exported("curl", str(file), "-o", str(script))
            assert told(flow, await ran("sh", str(script))) == told(flow)
            command = (await exported("curl", str(file))).stdout
            assert told(flow, await ran("sh", "-c", command)) == told(flow)
        assert (tmp_path / "2.sh.1.body").is_file()
    assert [len(told(flow)) for flow in flows][1] > 3


async def test_python_is_answered_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REST and gRPC in one script, which runs without this project; each answer comes as it did."""
    async with gateway(tmp_path, monkeypatch) as address:
        flows = [
            await recorded(
                f"http://{address}", "POST", "/v1/completions", json.dumps({**PROMPT, "stream": True}).encode(),
                (*JSON, ("authorization", "Bearer ***")),
            ),
            await recorded_rpc(f"grpc://{address}", "tgis", TGIS, '{"model_id":"m","requests":[{"text":"$(a) \'b"}]}'),
            await recorded_rpc(f"grpc://{address}", "tgis", TGIS_STREAM, '{"model_id":"m","request":{"text":"a b"}}'),
        ]  # fmt: skip
        outputs = []
        for number, flow in enumerate(flows):
            script = tmp_path / f"{number}.py"
            await exported("python", str(written(tmp_path / f"{number}.flows", [flow])), "-o", str(script))
            outputs.append(await ran(sys.executable, "-I", str(script)))
        all_of_them = tmp_path / "all.py"
        await exported("python", str(written(tmp_path / "all.flows", flows)), "-o", str(all_of_them))
        together = await ran(sys.executable, "-I", str(all_of_them))
    assert told(flows[0], outputs[0]) == told(flows[0])
    for flow, output in zip(flows[1:], outputs[1:], strict=True):
        assert as_protobuf_has_it([json.loads(line) for line in output.splitlines()]) == as_protobuf_has_it(told(flow))
    assert together.count(b"\n") == sum(output.count(b"\n") for output in outputs)


def as_protobuf_has_it(value: Any) -> Any:
    """64-bit integers are text in protobuf's own JSON."""
    if isinstance(value, dict):
        return {name: as_protobuf_has_it(each) for name, each in value.items()}
    if isinstance(value, list):
        return [as_protobuf_has_it(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


async def test_grpcurl_is_answered_as_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as its stand-in of the tests takes it."""
    async with gateway(tmp_path, monkeypatch) as address:
        flow = await recorded_rpc(f"grpc://{address}", "tgis", TGIS, '{"model_id":"m","requests":[{"text":"it\'s"}]}')
        script = tmp_path / "x.sh"
        await exported("grpcurl", str(written(tmp_path / "x.flows", [flow])), "-o", str(script))
        command = script.read_text().partition("\ngrpcurl")[2].replace("\\\n", "")
        answer = await asyncio.to_thread(grpcurl.run, f"grpcurl {command}", tmp_path)
    assert [each["responses"][0]["text"] for each in answer] == [told(flow)[0]["responses"][0]["text"]]


async def test_a_failed_call_makes_the_script_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and why on stderr, for REST and gRPC."""
    async with gateway(tmp_path, monkeypatch) as address:
        for flow in (
            await recorded(f"http://{address}", "POST", "/v1/completions", b'{"prompt":1e9}'),
            await recorded(f"grpc://{address}", "POST", HEALTH, b"\0\0\0\0\x03\x0a\x01x", GRPC),
        ):
            script = tmp_path / "failing.py"
            file = written(tmp_path / "failing.flows", [flow])
            await exported("python", str(file), "-o", str(script), "--force")
            process = await asyncio.create_subprocess_exec(sys.executable, "-I", str(script), stdout=-1, stderr=-1)
            _, errors = await process.communicate()
            assert process.returncode == 1
            assert errors.startswith((b"HTTP 4", b"NOT_FOUND"))
