"""Real clients with their own ways to send a credential, through a proxy that asks for one, to real runtimes."""

import base64
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from inferbridge_generated.open_inference import wire
from runtimes.lab import Lab, environment
from runtimes.programs import Client, Proxy, run_client, run_proxy

pytestmark = pytest.mark.runtimes

TENSOR = {"datatype": "FP32", "shape": [3], "raw": base64.b64encode(bytes(12)).decode()}
INPUTS = [TENSOR | {"name": "LEFT"}, TENSOR | {"name": "RIGHT"}]
CURL = """curl -s --max-time 30 http://{host}/v2/models/{model}/infer -d '{{"inputs": [\
{{"name": "LEFT", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]}},\
{{"name": "RIGHT", "shape": [3], "datatype": "FP32", "data": [1, 2, 3]}}]}}' -H 'Authorization: Bearer {key}'"""
BAD = "ib-0000000000000000000_" + "0" * 43


class Keys:
    """A file of keys as `inferbridge keys` makes it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "keys.yaml"

    def new(self, name: str, *options: str) -> str:
        """A new key, as it is shown once."""
        command = [
            sys.executable,
            "-m",
            "inferbridge.cli",
            "keys",
            "new",
            "--file",
            str(self.file),
            "--name",
            name,
            *options,
        ]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """An empty file to be."""
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def good(keys: Keys) -> str:
    """The key of somebody who may call everything."""
    return keys.new("everything")


@pytest.fixture(scope="module")
def limited(keys: Keys, good: str) -> str:
    """The key of somebody who may call one model alone."""
    return keys.new("limited", "--model", "add")


@pytest.fixture(scope="module")
def proxies(lab: Lab, keys: Keys, limited: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxy]]:
    """MLServer behind a proxy that speaks REST to it, and behind one that speaks gRPC."""
    server = lab.server("mlserver")
    configuration = {"auth": {"authenticators": [{"keys": {"file": keys.file}}]}}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                run_proxy(f"mlserver={url}", tmp_path_factory.mktemp("proxy"), configuration=configuration)
            )
            for name, url in (("rest", server.rest_url), ("grpc", server.grpc_url))
        }


@pytest.fixture(scope="module")
def clients(
    proxies: dict[str, Proxy], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Client]]:
    """tritonclient's clients of REST and gRPC, each through both proxies."""
    with ExitStack() as stack:
        yield {
            (program, upstream): stack.enter_context(
                run_client(environment("tritonclient"), program, proxy.address, tmp_path_factory.mktemp("client"))
            )
            for program in ("tritonclient_http", "tritonclient_grpc")
            for upstream, proxy in proxies.items()
        }


def curl(proxy: Proxy, model: str, key: str) -> tuple[int, Any]:
    """Status and JSON of the documented call."""
    command = [*shlex.split(CURL.format(host=proxy.address, model=model, key=key)), "--write-out", "\n%{http_code}"]
    body, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.parametrize("upstream", ["rest", "grpc"])
def test_curl_with_the_documented_header(proxies: dict[str, Proxy], good: str, limited: str, upstream: str) -> None:
    """The key of the documented `Authorization: Bearer` decides: 200, 403 for another model, 401."""
    proxy = proxies[upstream]
    status, reply = curl(proxy, "add", good)
    assert status == 200
    assert next(one for one in reply["outputs"] if one["name"] == "SUM")["data"] == [2, 4, 6]
    assert curl(proxy, "add", limited)[0] == 200
    assert curl(proxy, "echo", limited)[0] == 403
    for key in (BAD, "token", good[:-1] + ("a" if good[-1] != "a" else "b")):
        assert curl(proxy, "add", key) == (401, {"error": "the credential is not accepted"})
    assert good not in proxy.log.read_text()


@pytest.mark.parametrize("upstream", ["rest", "grpc"])
@pytest.mark.parametrize("program", ["tritonclient_http", "tritonclient_grpc"])
def test_tritonclient_with_headers(
    clients: dict[tuple[str, str], Client], good: str, limited: str, program: str, upstream: str
) -> None:
    """`headers=` of an inference carry the key over REST and as gRPC metadata."""
    client = clients[program, upstream]

    def infer(model: str, key: str | None) -> dict[str, Any]:
        headers = (
            {"headers": {"Authorization" if "http" in program else "authorization": f"Bearer {key}"}} if key else {}
        )
        return client.infer(model, INPUTS, options=headers)

    assert "result" in infer("add", good)
    assert "result" in infer("add", limited)
    unknown, forbidden = ("401", "403") if "http" in program else ("UNAUTHENTICATED", "PERMISSION_DENIED")
    for key in (None, BAD):
        assert unknown in infer("add", key)["error"]["status"]
    assert forbidden in infer("echo", limited)["error"]["status"]


def test_grpcio_with_call_credentials(lab: Lab, keys: Keys, good: str, tmp_path: Path) -> None:
    """`access_token_call_credentials` over TLS, as grpcio insists: unary calls and streams."""
    authority = trustme.CA()
    server_certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(server_certificate))
    channel_credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    configuration = {
        "auth": {"authenticators": [{"keys": {"file": keys.file}}]},
        "tls": {"certificate": server_certificate},
    }
    message = b"".join(map(bytes, wire.encode_ModelReadyRequest(wire.ModelReadyRequest(name="add"))))
    asked = b"".join(map(bytes, wire.encode_ModelInferRequest(_inference("echo"))))
    url = lab.server("mlserver").grpc_url
    with run_proxy(f"mlserver={url}", tmp_path, configuration=configuration) as proxy:
        address = f"localhost:{proxy.address.rpartition(':')[2]}"
        for key, code in ((good, grpc.StatusCode.OK), (BAD, grpc.StatusCode.UNAUTHENTICATED)):
            composite = grpc.composite_channel_credentials(channel_credentials, grpc.access_token_call_credentials(key))
            with grpc.secure_channel(address, composite) as channel:
                _, call = _code(channel.unary_unary("/inference.GRPCInferenceService/ModelReady"), message)
                assert call is code
                stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
                answers = stream(iter((asked,)), timeout=30)
                with suppress(grpc.RpcError):
                    list(answers)
                assert answers.code() is code


def _inference(model: str) -> wire.ModelInferRequest:
    tensor = wire.ModelInferRequest_InferInputTensor(name="x", datatype="INT32", shape=[1])
    return wire.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[bytes(4)])


def _code(method: grpc.UnaryUnaryMultiCallable, message: bytes) -> tuple[bytes, grpc.StatusCode]:
    try:
        reply, call = method.with_call(message, timeout=30)
    except grpc.RpcError as error:
        return b"", error.code()
    return reply, call.code()


def test_openai_sdk_with_its_api_key(lab: Lab, keys: Keys, good: str, tmp_path: Path) -> None:
    """`api_key=` is the key; for a wrong one and a forbidden model the SDK raises the errors it has for that."""
    other = keys.new("other model", "--model", "nothing")
    configuration = {"auth": {"authenticators": [{"keys": {"file": keys.file}}]}}
    url = lab.server("caikit-standalone").grpc_url
    with (
        run_proxy(f"caikit-standalone={url}", tmp_path, configuration=configuration) as proxy,
        run_client(environment("openai"), "openai_sdk", proxy.address, tmp_path) as client,
    ):
        asked = {"model": "sparrow", "input": "one"}
        assert "result" in client.call("embed", api_key=good, **asked)
        for key, expected in ((BAD, "401 AuthenticationError"), (other, "403 PermissionDeniedError")):
            assert client.call("embed", api_key=key, **asked)["error"]["status"] == expected
