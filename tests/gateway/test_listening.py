"""An application on a socket of its own: every version of HTTP, limits, and an end that leaves nothing behind."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest

from gateway.applications import Echo, Late, Silent
from gateway.serving import TIMEOUT, curl, talk
from inferbridge.gateway.clients.listening import listening
from inferbridge.gateway.limits import Limits

POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize("application", [Echo, Late])
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_both_versions_are_served(application: type[Echo], version: str) -> None:
    """HTTP/1.1 and HTTP/2 answer whether the application does so at once or later, also a large body."""
    data = "x" * 100_000
    async with listening(application(), Limits(), "127.0.0.1", 0) as port:
        assert await curl(version, "-d", data, f"http://127.0.0.1:{port}/x") == data.encode()


async def test_the_application_knows_who_calls() -> None:
    """The head of a call holds the client's address."""
    application = Echo()
    async with listening(application, Limits(), "127.0.0.1", 0) as port:
        await curl(f"http://127.0.0.1:{port}/x")
    assert application.sinks[0].head.peer.startswith("127.0.0.1:")


async def test_connections_are_limited() -> None:
    """One connection too many is closed unread, and there is room again when another ends."""
    application = Echo()
    async with (
        asyncio.timeout(TIMEOUT),
        listening(application, replace(Limits(), connections=1), "127.0.0.1", 0) as port,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST)
        await reader.readuntil(b"hello")
        assert await talk(port, POST) == b""
        assert len(application.sinks) == 1
        writer.write(POST.replace(b"Host: a", b"Host: a\r\nConnection: close"))
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        while not (await talk(port, POST.replace(b"Host: a", b"Host: a\r\nConnection: close"))).endswith(b"hello"):
            pass


async def test_idle_connections_are_closed() -> None:
    """A connection over which nothing comes is closed after its time, and its call is cancelled."""
    application = Silent()
    async with (
        asyncio.timeout(TIMEOUT),
        listening(application, replace(Limits(), idle_seconds=0.05), "127.0.0.1", 0) as port,
    ):
        assert await talk(port, POST) == b""
        assert application.sinks[0].cancelled


async def test_the_end_closes_what_is_open() -> None:
    """When serving ends the open connections end with it, and their calls are cancelled."""
    application = Silent()
    async with asyncio.timeout(TIMEOUT):
        async with listening(application, Limits(), "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(POST)
            while not application.sinks:  # noqa: ASYNC110 - the toy application tells nobody
                await asyncio.sleep(0.01)
        assert await reader.read() == b""
        writer.close()
    assert application.sinks[0].cancelled


async def test_a_client_that_takes_nothing_does_not_keep_it_from_ending() -> None:
    """At the end what was written has a moment to leave; then the connection is cut."""
    body = b"x" * (16 << 20)
    async with asyncio.timeout(TIMEOUT):
        async with listening(Echo(), Limits(), "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
            writer.write(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            assert len(await reader.read()) < len(body)
        writer.close()
