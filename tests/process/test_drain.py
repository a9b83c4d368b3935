"""How a running proxy stops: nobody is cut off who finishes in time, and who does not is told."""

import asyncio
import signal
import ssl
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.serving import curl
from gateway.test_listener_files import peer_serial, publish
from gateway.tls_clients import server_certificate
from process.running import Process, config, grpc_stream, grpc_unary, http_call, proxy, runtime

VERSIONS = ("--http1.1", "--http2")


def stream_over_tls(running: Process) -> tuple[str, ...]:
    """Arguments of curl for a stream of events."""
    body = '{"model": "m", "prompt": "a", "stream": true, "max_tokens": 3}'
    return "--max-time", "120", "--json", body, f"https://127.0.0.1:{running.port}/v1/completions"


async def serial(running: Process) -> int:
    """The serial number of the certificate that a new client is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
    found = peer_serial(writer)
    writer.close()
    return found


async def refused(running: Process) -> None:
    """Wait until the proxy takes no new clients."""
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", running.port)
                writer.close()
            except OSError:
                return
            await asyncio.sleep(0.01)


async def test_calls_in_flight_finish(tmp_path: Path) -> None:
    """50 calls and 20 streams, half over HTTP/1.1 and half gRPC, all end well after SIGTERM; the proxy exits with 0."""
    async with runtime() as backend:
        settings = config(tmp_path, backend.url, "drain: {delay: 300ms, timeout: 30s}")
        async with proxy("-c", str(settings)) as running, running.channel() as channel:
            unary = [asyncio.ensure_future(grpc_unary(channel)) for _ in range(25)]
            streams = [asyncio.ensure_future(grpc_stream(channel)) for _ in range(10)]
            plain = [asyncio.ensure_future(http_call(running.port)) for _ in range(25)]
            events = [asyncio.ensure_future(http_call(running.port, stream=True)) for _ in range(10)]
            await backend.has(70)
            running.send(signal.SIGTERM)
            await running.says("stopping: 70 calls in flight")
            await refused(running)
            assert (await running.page("readyz"))[0] == 503
            backend.gate.set()
            assert set(await asyncio.gather(*unary)) == {grpc.StatusCode.OK}
            assert set(await asyncio.gather(*streams)) == {(2, grpc.StatusCode.OK)}
            for head, body in await asyncio.gather(*plain):
                assert head.startswith("HTTP/1.1 200")
                assert "connection: close" in head
                assert "Hello" in body
            for head, body in await asyncio.gather(*events):
                assert head.startswith("HTTP/1.1 200")
                assert "data: [DONE]" in body
            assert await running.ended() == 0
            await running.says("no call was cut off")


async def test_readiness_falls_first(tmp_path: Path) -> None:
    """At once /readyz is 503 and health's watchers hear NOT_SERVING, while new calls are served for the delay."""
    async with runtime() as backend:
        backend.gate.set()
        settings = config(tmp_path, backend.url, "drain: {delay: 1h, timeout: 10s}")
        async with proxy("-c", str(settings)) as running, running.channel() as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            statuses = aiter(watch)
            assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.SERVING
            running.send(signal.SIGTERM)
            assert (await anext(statuses)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            status, page = await running.page("readyz")
            assert (status, page["stopping"]) == (503, True)
            assert (await running.page("healthz"))[0] == 200
            assert await grpc_unary(channel) is grpc.StatusCode.OK
            running.send(signal.SIGTERM)
            assert await running.ended() == 143
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await anext(statuses)
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_who_takes_too_long_is_told(tmp_path: Path) -> None:
    """Beyond the timeout gRPC calls end with UNAVAILABLE, events with an error and without [DONE]; the exit is 0."""
    async with runtime() as backend:
        settings = config(tmp_path, backend.url, "drain: {delay: 0s, timeout: 200ms}")
        async with proxy("-c", str(settings)) as running, running.channel() as channel:
            unary, stream = asyncio.ensure_future(grpc_unary(channel)), asyncio.ensure_future(grpc_stream(channel))
            plain = asyncio.ensure_future(http_call(running.port))
            events = asyncio.ensure_future(http_call(running.port, stream=True))
            await backend.has(4)
            running.send(signal.SIGTERM)
            assert await unary is grpc.StatusCode.UNAVAILABLE
            assert await stream == (1, grpc.StatusCode.UNAVAILABLE)
            head, body = await plain
            assert head.startswith("HTTP/1.1 503")
            assert "the gateway is stopping" in body
            head, body = await events
            assert head.startswith("HTTP/1.1 200")
            assert '"error"' in body
            assert "[DONE]" not in body
            assert await running.ended() == 0
            await running.says("4 calls are ended with UNAVAILABLE")


async def test_a_client_that_sends_no_end_is_answered(tmp_path: Path) -> None:
    """A body that never comes to its end does not keep the proxy: its client gets 503 when time is over."""
    async with runtime() as backend:
        settings = config(tmp_path, backend.url, "drain: {delay: 0s, timeout: 200ms}")
        async with proxy("-c", str(settings)) as running:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(
                b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n"
            )
            assert b"100 Continue" in await reader.readuntil(b"\r\n\r\n")
            running.send(signal.SIGTERM)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"connection: close" in answer
            assert await running.ended() == 0
            writer.close()


async def test_clients_over_tls_finish_and_see_a_renewed_certificate(tmp_path: Path) -> None:
    """A pair swapped by its link is shown to new clients while streams of before go on; these finish after SIGTERM."""
    pairs = [server_certificate(), server_certificate()]
    tls = publish(tmp_path, "1", pairs[0], pairs[0])
    async with runtime() as backend:
        lines = f"tls: {{certificate: '{tls.certificate}', key: '{tls.key}'}}", "drain: {delay: 0s}"
        async with proxy("-c", str(config(tmp_path, backend.url, *lines))) as running:
            streams = [asyncio.create_task(curl("-kN", version, *stream_over_tls(running))) for version in VERSIONS]
            await backend.has(2)
            assert await serial(running) == pairs[0].certificate.serial_number
            publish(tmp_path, "2", pairs[1], pairs[1])
            async with asyncio.timeout(60):
                while await serial(running) != pairs[1].certificate.serial_number:  # noqa: ASYNC110 - nothing to wait for
                    await asyncio.sleep(0.05)
            left = await running.metric('inferbridge_tls_cert_expiry_seconds{listener="127.0.0.1:0"}')
            assert 0 < left <= 86400
            running.send(signal.SIGTERM)
            await running.says("stopping: 2 calls in flight")
            backend.gate.set()
            assert [b"data: [DONE]" in await stream for stream in streams] == [True, True]
            assert await running.ended() == 0


async def test_idle_clients_do_not_hold_it(tmp_path: Path) -> None:
    """Open connections without calls, also such as never said anything, end soon; Ctrl-C without an admin port too."""
    async with runtime() as backend:
        settings = config(tmp_path, backend.url)
        async with proxy("-c", str(settings), admin=False) as running, running.channel() as channel:
            backend.gate.set()
            assert await grpc_unary(channel) is grpc.StatusCode.OK
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            running.send(signal.SIGINT)
            assert await reader.read() == b""
            assert await running.ended() == 0
            writer.close()
            assert not [line for line in running.lines if "stopping" in line], "there was nothing to say"
