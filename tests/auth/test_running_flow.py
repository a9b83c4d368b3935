"""When a running proxy refuses: before a body comes, while somebody is asked, and not in the middle of a stream."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from auth.backends import running_backends
from auth.corners import (
    CORNERS,
    KEYS,
    REST,
    SSE,
    STREAM,
    UNARY,
    Corner,
    Gateway,
    bearer,
    read_reply,
    rest_request,
    running_gateway,
    text_of,
    write_keys,
)
from auth.key_files import KEY
from gateway.serving import TIMEOUT
from inferbridge.bridge.values import Headers

pytestmark = pytest.mark.usefixtures("home")
AUTH = f"authenticators: [{KEYS}]"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
in_rest = pytest.mark.parametrize("corner", [REST, SSE], ids=["REST", "SSE"])
corners = pytest.mark.parametrize("corner", CORNERS, ids=[one.name for one in CORNERS])
in_grpc = pytest.mark.parametrize("corner", [UNARY, STREAM], ids=["unary", "stream"])
upstreams = pytest.mark.parametrize("upstream", ["rest", "grpc"])


def head_and_body(corner: Corner, *headers: tuple[str, str]) -> tuple[bytes, bytes]:
    """A completion in two parts."""
    head, _, body = rest_request(corner, headers).partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


@in_rest
@pytest.mark.parametrize("expect", [(), (("Expect", "100-continue"),)], ids=["", "100-continue"])
async def test_a_refusal_does_not_wait_for_the_body(corner: Corner, expect: Headers, tmp_path: Path) -> None:
    """401 comes though no byte of the body does, and nobody is told to send it."""
    async with running_gateway(tmp_path, "rest", AUTH) as gateway:
        for metadata in ((), bearer("bad")):
            reader, writer = await gateway.connect()
            writer.write(head_and_body(corner, *metadata, *expect)[0])
            assert (await read_reply(reader)).outcome == "unauthenticated"
            writer.close()
        assert gateway.runtime.calls == []


@in_grpc
async def test_a_refusal_does_not_wait_for_messages(corner: Corner, tmp_path: Path) -> None:
    """16 comes to a client that has sent no message, and goes on to say nothing."""

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with running_gateway(tmp_path, "rest", AUTH) as gateway:
        path = "/fmaas.GenerationService/" + ("GenerateStream" if corner.stream else "Generate")
        for metadata in ((), bearer("bad")):
            call: Any = gateway.channel.stream_stream(path)(nothing(), metadata=metadata, timeout=TIMEOUT)
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
        assert gateway.runtime.calls == []


@in_rest
async def test_nobody_sends_a_body_before_it_is_known_who_calls(corner: Corner, tmp_path: Path) -> None:
    """A client that expects 100 Continue gets it when the API server has said yes, and never before a 401."""
    async with running_backends(tmp_path) as backends:
        gateway, api = backends.gateway, backends.api
        for token, known in ((backends.good("kubernetes"), True), ("a-token-of-nobody", False)):
            hold = asyncio.Event()
            api.server.arrived.clear()
            api.server.behave = lambda request, hold=hold: _held(api.answer(request), hold)  # type: ignore[misc]  # bound
            head, body = head_and_body(corner, *bearer(token), ("Expect", "100-continue"))
            reader, writer = await gateway.connect()
            writer.write(head)
            async with asyncio.timeout(TIMEOUT):
                await api.server.arrived.wait()
                hold.set()
                first = await reader.readexactly(len(CONTINUE))
            assert (first == CONTINUE) == known
            if known:
                writer.write(body)
                assert (await read_reply(reader)).outcome == "ok"
            else:
                assert first.startswith(b"HTTP/1.1 401")
            writer.close()
        assert len(gateway.runtime.calls) == 1


def _held(answer: Any, hold: asyncio.Event) -> Any:
    answer.hold = hold
    return answer


@corners
@upstreams
async def test_a_large_body_waits_whole(corner: Corner, upstream: str, tmp_path: Path) -> None:
    """What a client sends while the API server is asked, more than every window holds, reaches the runtime whole."""
    prompt = "x" * 1_000_000
    async with running_backends(tmp_path, upstream) as backends:
        gateway, api, hold = backends.gateway, backends.api, asyncio.Event()
        api.server.behave = lambda request: _held(api.answer(request), hold)
        call = asyncio.ensure_future(gateway.call(corner, bearer(backends.good("kubernetes")), prompt=prompt))
        async with asyncio.timeout(TIMEOUT):
            await api.server.arrived.wait()
            assert gateway.runtime.calls == []
            hold.set()
            reply = await call
        assert reply.outcome == "ok"
        (found,) = gateway.runtime.calls
        assert found.shows(prompt)


@in_rest
async def test_a_revoked_key_is_refused_on_an_open_connection(
    corner: Corner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same head again, on the same connection, is looked at again. (A gRPC channel is one connection anyway.)"""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    again = rest_request(corner, bearer(KEY)).replace(b"Connection: close\r\n", b"")
    async with running_gateway(tmp_path, "rest", AUTH) as gateway, asyncio.timeout(TIMEOUT):
        reader, writer = await gateway.connect()
        for _ in range(3):
            writer.write(again)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await reader.readuntil(b"0\r\n\r\n" if corner.stream else b'"completion_tokens":4}}')
        write_keys(tmp_path, "disabled: true")
        writer.write(again)
        assert (await reader.readline()).startswith(b"HTTP/1.1 401")
        writer.close()
        assert len(gateway.runtime.calls) == 3


async def revoked(gateway: Gateway, tmp_path: Path) -> None:
    """Revoke the key, and see that it counts no more."""
    write_keys(tmp_path, "disabled: true")
    for corner in CORNERS:
        assert (await gateway.call(corner, bearer(KEY))).outcome == "unauthenticated"
    assert len(gateway.runtime.calls) == 1
    assert gateway.runtime.gate is not None
    gateway.runtime.gate.set()


@upstreams
async def test_a_running_stream_outlives_its_key_over_sse(
    upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is let in is decided when a call begins: a stream goes on to its end, and the next call is refused."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:
        gateway.runtime.gate = asyncio.Event()
        reader, writer = await gateway.connect()
        writer.write(rest_request(SSE, bearer(KEY)))
        async with asyncio.timeout(TIMEOUT):
            begun = await reader.readuntil(b"data: ")
            await revoked(gateway, tmp_path)
            rest = await reader.read()
        writer.close()
    assert begun.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" in rest


@upstreams
async def test_a_running_stream_outlives_its_key_over_grpc(
    upstream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same of a gRPC stream: all of its messages come, and OK."""
    monkeypatch.setattr("inferbridge.auth.files.LOOK_SECONDS", 0.0)
    async with running_gateway(tmp_path, upstream, AUTH) as gateway:
        gateway.runtime.gate = asyncio.Event()
        call = gateway.begin(STREAM, bearer(KEY))
        answers = aiter(call)
        async with asyncio.timeout(TIMEOUT):
            begun = await anext(answers)
            await revoked(gateway, tmp_path)
            rest = [message async for message in answers]
        assert await call.code() is grpc.StatusCode.OK
    assert "".join(text_of(message, STREAM) for message in (begun, *rest)) == "a b c"
