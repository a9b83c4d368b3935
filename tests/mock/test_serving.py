"""Mocked runtimes on real sockets, called with clients of other makers."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from inferbridge.mock.serving import Doors, mocking
from inferbridge_generated.tgis import wire
from packaging_sources import ROOT, SOURCE_ROOTS

ANY = Doors(rest=0, grpc=0)
PATH = ":".join(str(ROOT / folder) for folder in SOURCE_ROOTS)


def streamed(target: str) -> list[str]:
    """The texts of a stream, of grpcio."""
    message = wire.SingleGenerationRequest(model_id="m", request=wire.GenerationRequest(text="a b c"))
    with grpc.insecure_channel(target) as channel:
        stub = channel.unary_stream("/fmaas.GenerationService/GenerateStream")
        replies = stub(b"".join(wire.encode_SingleGenerationRequest(message)), timeout=10)
        return [wire.decode_GenerationResponse(reply, []).text for reply in replies]


def told(target: str) -> tuple[list[str], int]:
    """The services that reflection lists, and the health of the first API."""
    with grpc.insecure_channel(target) as channel:
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        asked = health_pb2.HealthCheckRequest(service="fmaas.GenerationService")
        return list(services), health_pb2_grpc.HealthStub(channel).Check(asked).status


async def test_each_protocol_has_its_port() -> None:
    """A runtime of two APIs is served over REST for curl and over gRPC for grpcio, with reflection and health."""
    async with mocking("vllm-nvidia", ANY) as urls:
        rest, rpc = urls
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", f"{rest}/v1/completions", "-d", '{"model":"m","prompt":"a b"}', stdout=-1
        )
        output, _ = await process.communicate()
        texts = await asyncio.to_thread(streamed, rpc.removeprefix("grpc://"))
        services, health = await asyncio.to_thread(told, rpc.removeprefix("grpc://"))
    assert json.loads(output)["choices"][0]["text"] == "a b"
    assert texts == ["", "a", " b", " c", ""]
    assert "fmaas.GenerationService" in services
    assert health == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """It prints where, as other commands take it, follows its scenario, and ends without a word."""
    (tmp_path / "scenario.yaml").write_text("endpoints: {tgis/generate_stream: {error: UNAVAILABLE:2}}\n")
    command = [sys.executable, "-c", "from inferbridge.cli import main; main()", "mock", "tgis", "--grpc", "0"]
    command += ["--scenario", "scenario.yaml"]
    environment = {"PYTHONPATH": PATH, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        runtime, _, url = process.stdout.readline().strip().partition("=")
        assert (runtime, url[:7]) == ("tgis", "grpc://")
        with pytest.raises(grpc.RpcError) as caught:
            streamed(url.removeprefix("grpc://"))
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (process.returncode, errors) == (0, "")
