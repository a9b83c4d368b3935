"""Paths that two APIs have, and paths that only clients use."""

import json

import pytest

from gateway.test_service import Client, Runtime, call, service, target
from inferbridge.bridge.values import header
from inferbridge.upstream.api import Receiver, UpstreamRequest


def answers(request: UpstreamRequest, receiver: Receiver) -> None:
    """A caikit that knows no /info/runtime, and says OK to the rest."""
    known = request.path != "/info/runtime"
    body = b'{"runtime_version":"1","python_packages":{"caikit":"0.27.7"}}' if "info" in request.path else b""
    receiver.on_head(200 if known else 404, (("content-type", "application/json"),))
    receiver.on_data(body)
    receiver.on_end(())


def get(path: str, *runtimes: str) -> tuple[Client, list[str]]:
    """The answer to a GET in front of some runtimes, and the paths that they were sent."""
    pools = [Runtime(answers) for _ in runtimes]
    targets = [target(pool, name, "rest") for pool, name in zip(pools, runtimes, strict=True)]
    client = call(service(*targets), "GET", path)
    return client, [f"{name}{sent.path}" for pool, name in zip(pools, runtimes, strict=True) for sent in pool.sent]


def test_the_documented_path_of_caikit_works() -> None:
    """`/info/runtime`, which caikit itself does not know, is answered with what `/info/version` says."""
    client, sent = get("/info/runtime", "caikit-standalone")
    assert sent == ["caikit-standalone/info/version"]
    assert client.status == 200
    assert json.loads(client.body) == {"runtime_version": "1", "python_packages": {"caikit": "0.27.7"}}


@pytest.mark.parametrize(
    ("runtimes", "sent"),
    [
        (("caikit-standalone",), "caikit-standalone/health"),
        (("vllm-nvidia",), "vllm-nvidia/health"),
        (("triton",), "triton/v2/health/ready"),
        (("triton", "vllm-nvidia"), "vllm-nvidia/health"),
    ],
)
def test_a_path_of_two_apis_is_the_runtimes_own(runtimes: tuple[str, ...], sent: str) -> None:
    """`/health` of caikit and vLLM goes to the runtime that has it, and else to one that can say as much."""
    client, paths = get("/health", *runtimes)
    assert (client.status, paths) == (200, [sent])


@pytest.mark.parametrize(("runtime", "body"), [("vllm-nvidia", b""), ("triton", b"OK")])
def test_the_answer_has_the_form_of_the_api(runtime: str, body: bytes) -> None:
    """vLLM's answer to `/health` is empty; where no runtime has the path, it is caikit's OK."""
    client, _ = get("/health", runtime)
    assert client.body == body
    assert header(client.headers, "content-type") == ("text/plain; charset=utf-8" if body else "application/json")


def test_documentation_is_nothing_to_translate() -> None:
    """A page of a runtime's own documentation is not asked of another API's runtime."""
    client, sent = get("/docs", "triton")
    assert (client.status, sent) == (404, [])
