"""The gateway on real sockets with real clients: HTTP/1.1, h2c and TLS on one port."""

import asyncio
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from gateway.applications import Echo, Late, Silent
from gateway.http2_client import Client
from gateway.serving import TIMEOUT, curl, run, serving, talk
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import Application, RequestHead, RequestSink, Responder
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.limits import Limits

PROTOCOLS = {
    "h1": (["--http1.1"], "http", b"1.1"),
    "h1 upgrade offer": (["--http2"], "http", b"1.1"),
    "h2c": (["--http2-prior-knowledge"], "http", b"2"),
    "TLS h1": (["-k", "--http1.1"], "https", b"1.1"),
    "TLS h2": (["-k", "--http2"], "https", b"2"),
    "TLS without ALPN": (["-k", "--no-alpn"], "https", b"1.1"),
}


@pytest.mark.parametrize("application", [Echo, Late])
@pytest.mark.parametrize(("options", "scheme", "version"), PROTOCOLS.values(), ids=PROTOCOLS)
async def test_curl(
    application: type[Echo], options: list[str], scheme: str, version: bytes, confdir: Path, certificate: Path
) -> None:
    """One port serves every protocol curl speaks, whether the answer comes at once or later."""
    async with serving(application(), confdir, certificate=certificate) as port:
        url = f"{scheme}://127.0.0.1:{port}/v2/models/m/infer"
        output = await curl(*options, "-i", "-d", "hello", url)
    head, _, body = output.partition(b"\r\n\r\n")
    assert b"x-version: " + version in head
    assert body == b"hello"


async def test_certificate_is_served(confdir: Path, certificate: Path) -> None:
    """A client that trusts the configured certificate verifies the connection."""
    async with serving(Echo(), confdir, certificate=certificate) as port:
        assert await curl("--cacert", str(certificate), f"https://localhost:{port}/x") == b"/x"


async def test_tls_can_be_required(confdir: Path, certificate: Path) -> None:
    """Where TLS is required plaintext is told so and served nothing, TLS is served."""
    application = Echo()
    async with serving(application, confdir, certificate=certificate, require_tls=True) as port:
        answer = await talk(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"TLS" in answer
        assert not application.sinks
        assert await curl("-k", f"https://127.0.0.1:{port}/x") == b"/x"


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2-prior-knowledge"], ["-k", "--http2"]])
async def test_large_body(options: list[str], confdir: Path, tmp_path: Path) -> None:
    """A body larger than every window arrives whole in both directions."""
    data = bytes(range(256)) * 12_000
    file = tmp_path / "body"
    file.write_bytes(data)
    scheme = "https" if "-k" in options else "http"
    async with serving(Echo(), confdir) as port:
        url = f"{scheme}://127.0.0.1:{port}/x"
        assert await curl(*options, "--data-binary", f"@{file}", url) == data
        chunked = ["-H", "Transfer-Encoding: chunked"] if options == ["--http1.1"] else []
        assert await curl(*options, *chunked, "-X", "POST", "-T", str(file), url) == data


class GrpcEcho(Echo):
    """Answers every gRPC call with its own message and OK."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        sink = super().open(head, responder)
        responder.head(200, (("content-type", "application/grpc"), ("x-path", head.target)))
        return _GrpcSink(sink, responder)


class _GrpcSink:
    def __init__(self, inner: RequestSink, responder: Responder) -> None:
        self._responder = responder
        self.on_cancel = inner.on_cancel

    def on_data(self, data: Buffer) -> None:
        self._responder.data(data)

    def on_end(self) -> None:
        self._responder.end((("grpc-status", "0"),))


@pytest.mark.parametrize("secure", [False, True])
async def test_grpc(secure: bool, confdir: Path, certificate: Path, trusted: bytes) -> None:
    """grpcio's client, plaintext and TLS, makes concurrent unary and streaming calls over one connection."""
    async with serving(GrpcEcho(), confdir, certificate=certificate) as port:
        credentials = grpc.ssl_channel_credentials(trusted)
        target = f"localhost:{port}"
        channel = grpc.aio.secure_channel(target, credentials) if secure else grpc.aio.insecure_channel(target)
        async with channel:
            unary = channel.unary_unary("/package.Service/Method")
            answers = await asyncio.gather(*(unary(b"m%d" % index, timeout=TIMEOUT) for index in range(50)))
            assert answers == [b"m%d" % index for index in range(50)]
            large = b"x" * 2_000_000
            assert await unary(large, timeout=TIMEOUT) == large
            stream = channel.stream_stream("/package.Service/Stream")
            assert [message async for message in stream(iter([b"a", b"b", b"c"]), timeout=TIMEOUT)] == [
                b"a",
                b"b",
                b"c",
            ]


async def test_pipelined_answers_come_in_order(confdir: Path) -> None:
    """Pipelined requests are all answered, in order, though the answers come later."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % index for index in range(20))
    async with serving(Late(), confdir) as port:
        answers = await talk(port, requests + b"GET /20 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    places = [answers.index(b"\r\n/%d\r\n" % index) for index in range(21)]
    assert places == sorted(places)


@pytest.mark.parametrize("options", [["--http1.1"], ["--http2-prior-knowledge"], ["-k", "--http2"]])
async def test_client_that_leaves_cancels(options: list[str], confdir: Path) -> None:
    """When the client goes away its open call is cancelled."""
    application = Silent()
    scheme = "https" if "-k" in options else "http"
    async with serving(application, confdir) as port:
        process = await asyncio.create_subprocess_exec("curl", "-s", *options, f"{scheme}://127.0.0.1:{port}/x")
        await until(lambda: bool(application.sinks))
        assert not application.sinks[0].cancelled
        process.kill()
        await process.wait()
        await until(lambda: application.sinks[0].cancelled)
        application.sinks[0].responder.head(200, ())
        application.sinks[0].responder.end()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another task does."""
    async with asyncio.timeout(TIMEOUT):
        while not condition():  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.01)


async def test_early_answer_reaches_a_client_that_still_sends(confdir: Path) -> None:
    """A client in the middle of a large body gets the refusal, and is not cut off by a reset."""
    async with serving(Refusing(), confdir) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 1_000_000)
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.read()).startswith(b"HTTP/1.1 401")
        writer.close()


class Refusing(Echo):
    """Answers 401 before the body."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        responder.head(401, ())
        responder.end()
        return super().open(head, responder)


async def test_split_preface(confdir: Path) -> None:
    """The HTTP/2 preface is recognised when it comes byte by byte, and POST is not taken for it."""
    client = Client(Http2Codec(Limits()))
    client.send()
    data = client.h2.data_to_send()
    async with serving(Echo(), confdir) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(30):
            writer.write(data[index : index + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(data[30:])
        async with asyncio.timeout(TIMEOUT):
            while not client.ended(1):
                client.seen.extend(client.h2.receive_data(await reader.read(65536)))
        writer.close()
        assert client.body(1) == b"/x?y=1"
        assert await curl("--http1.1", "-X", "P", "-X", "POST", f"http://127.0.0.1:{port}/x") == b"/x"


async def test_connections_are_limited(confdir: Path) -> None:
    """A connection beyond the limit is closed; when one ends another may come."""
    async with serving(Echo(), confdir, limits=replace(Limits(), connections=2)) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await talk(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(TIMEOUT):
            while not await talk(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_port_in_use(confdir: Path) -> None:
    """A listener that cannot be bound is an OSError, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=str(port)):
            await run(Echo(), [("127.0.0.1", port)], Limits(), None, confdir, lambda _: None)


async def test_shutdown(confdir: Path) -> None:
    """SIGTERM ends the run normally, cancels open calls and closes the port."""
    application: Application = (silent := Silent())
    ports: list[int] = []
    running = asyncio.create_task(
        run(
            application,
            [("127.0.0.1", 0)],
            Limits(),
            None,
            confdir,
            lambda addresses: ports.append(addresses[0][1]),
        )
    )
    await until(lambda: bool(ports))
    _reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: bool(silent.sinks))
    signal.raise_signal(signal.SIGTERM)
    async with asyncio.timeout(TIMEOUT):
        await running
    assert silent.sinks[0].cancelled
    writer.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", ports[0])
