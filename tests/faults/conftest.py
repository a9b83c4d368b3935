"""One gateway for all cells, before a runtime of each wire, with and without TLS; they share a loop."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio

from faults.clients import Client, tensor_model
from faults.faults import LIMIT, MESSAGE_LIMIT
from faults.runtime import Runtime
from gateway.serving import serving
from inferbridge.gateway import build
from upstream.certificates import Certificates, make_certificates

_SCHEMES = {"h1": "http", "h1 TLS": "https", "h2c": "grpc", "h2 TLS": "grpcs"}
TRANSPORTS = tuple(_SCHEMES)


@dataclass(frozen=True)
class Scene:
    """What is running. The name of a transport is also the model that its runtime serves."""

    runtimes: dict[str, Runtime]
    client: Client


def _tls(certificates: Certificates, transport: str) -> ssl.SSLContext | None:
    if not transport.endswith("TLS"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path("server.crt"), certificates.path("server.key"))
    context.set_alpn_protocols(["h2" if transport.startswith("h2") else "http/1.1"])
    return context


def _config(runtimes: dict[str, Runtime], authority: str, seconds: float, message_limit: int) -> bytes:
    lines = [
        f"limits: {{reply_size: {LIMIT}B, message_size: {message_limit}B, call_timeout: {seconds}s}}",
        "upstreams:",
    ]
    for transport, runtime in runtimes.items():
        kind = "vllm-nvidia" if runtime.wire == "rest" else "tgis"
        tls = f", tls: {{ca: {authority}}}" if transport.endswith("TLS") else ""
        url = f"{_SCHEMES[transport]}://localhost:{runtime.port}"
        name = transport.replace(" ", "-").lower()
        lines.append(f"  - {{name: {name}, runtime: {kind}, url: '{url}', models: ['{transport}']{tls}}}")
        tensors = tensor_model(transport)
        lines.append(f"  - {{name: {tensors}, runtime: triton, url: '{url}', models: ['{tensors}']{tls}}}")
    return "\n".join(lines).encode()


@asynccontextmanager
async def _client(text: bytes, confdir: Path, seconds: float) -> AsyncIterator[Client]:
    settings = build.settings(Path("inferbridge.yaml"), text=text)
    application = build.application(settings)
    options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
    async with (
        serving(application, confdir, limits=settings.limits) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        yield Client(port, channel, seconds)
    await application.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """Running for a module, whose DEADLINE are the seconds that a runtime has: mitmproxy runs once in a process.

    MESSAGES of the module are the bytes that a message may have, if not as many as the table says.
    """
    folder = tmp_path_factory.mktemp("faults")
    certificates = make_certificates(folder)
    messages = getattr(request.module, "MESSAGES", MESSAGE_LIMIT)
    async with AsyncExitStack() as stack:
        runtimes = {
            transport: Runtime("rest" if transport.startswith("h1") else "grpc", _tls(certificates, transport))
            for transport in TRANSPORTS
        }
        for runtime in runtimes.values():
            await runtime.listen()
            stack.push_async_callback(runtime.close)
        text = _config(runtimes, certificates.path("ca.crt"), request.module.DEADLINE, messages)
        yield Scene(runtimes, await stack.enter_async_context(_client(text, folder, request.module.DEADLINE)))
