"""The application that settings make."""

import asyncio
import json
from pathlib import Path

import pytest

from gateway.local_calls import GRPC, Recorder, framed, head_of
from gateway.test_local_health import CHECK, RESPONSE, request
from inferbridge.bridge.errors import Code
from inferbridge.gateway import build


def made(tmp_path: Path, runtime: str, url: str = "grpc://127.0.0.1:1") -> Path:
    """A settings file with one upstream."""
    file = tmp_path / "inferbridge.yaml"
    file.write_text(json.dumps({"upstreams": [{"name": "one", "runtime": runtime, "url": url}]}))
    return file


async def checked(file: Path, service: str) -> Recorder:
    """The answer to a health check."""
    application = build.application(build.settings(file))
    recorder = Recorder()
    sink = application.open(head_of(CHECK, GRPC), recorder)
    sink.on_data(framed(request(service)))
    sink.on_end()
    async with asyncio.timeout(10):
        while not recorder.ended:  # noqa: ASYNC110 - an answer comes from another task, which tells nobody
            await asyncio.sleep(0.01)
    await application.close()
    return recorder


def test_an_upstream_that_does_not_run_is_not_serving(tmp_path: Path) -> None:
    """Nobody listens there, so the service of the upstream is NOT_SERVING."""
    recorder = asyncio.run(checked(made(tmp_path, "triton"), "inference.GRPCInferenceService"))
    assert [message.status for message in recorder.messages(RESPONSE)] == [2]


@pytest.mark.parametrize(
    ("runtime", "url", "service"),
    [
        ("triton", "grpc://127.0.0.1:1", "fmaas.GenerationService"),
        ("triton", "grpc://127.0.0.1:1", "caikit.runtime.Nlp.NlpService"),
        ("caikit-tgis", "http://127.0.0.1:1", "grpc.health.v1.Health"),
        ("caikit-tgis", "http://127.0.0.1:1", "no.Such"),
    ],
)
def test_only_what_upstreams_serve_has_a_state(tmp_path: Path, runtime: str, url: str, service: str) -> None:
    """A service for which no upstream can do more than list its models is unknown; so are the gateway's own."""
    recorder = asyncio.run(checked(made(tmp_path, runtime, url), service))
    assert recorder.status()[0] == Code.NOT_FOUND
