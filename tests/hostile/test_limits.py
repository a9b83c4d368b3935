"""Limits on everything a stranger can send: the right status, before the runtime hears of it, and memory stays."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from gateway.http2_client import data_frame, headers_frame
from hostile.http2_cases import GET, POST
from hostile.proxy import Proxy, proxy, read_to_end, send_all
from hostile.recorders import Seen, http1_recorder, http2_recorder
from hostile.test_smuggling_http2 import outcomes
from inferbridge.gateway.limits import KIB, MIB, Limits

LIMITS = """limits:
  header_size: 8KiB
  header_fields: 20
  target_size: 1KiB
  body_size: 1MiB
  message_size: 64KiB
  idle_timeout: 2s
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Proxy, Seen, Seen]]:
    """A proxy with small limits before a REST and a gRPC runtime."""
    with (
        http1_recorder() as (rest, rest_port),
        http2_recorder() as (grpc, grpc_port),
        proxy(
            tmp_path_factory.mktemp("limits"),
            f"tgis=grpc://127.0.0.1:{grpc_port}",
            f"triton=http://127.0.0.1:{rest_port}",
            config=LIMITS,
        ) as run,
    ):
        yield run, rest, grpc


HOST = b"Host: a\r\n"
LINE = b"POST /v2/models/m/infer HTTP/1.1\r\n"
CHUNK = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
HTTP1 = {
    "target": (b"GET /" + b"a" * 1100 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "target without an end": (b"GET /" + b"a" * 1_000_000, 414),
    "header size": (LINE + HOST + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "header without an end": (LINE + HOST + b"X: " + b"a" * 1_000_000, 431),
    "header fields": (LINE + HOST + b"X: y\r\n" * 21 + b"\r\n", 431),
    "fields without an end": (LINE + HOST + b"X: y\r\n" * 100_000, 431),
    "declared body": (LINE + HOST + b"Content-Length: 1048577\r\n\r\n", 413),
    "declared body that expects": (LINE + HOST + b"Expect: 100-continue\r\nContent-Length: 1048577\r\n\r\n", 413),
    "declared body beyond all measure": (LINE + HOST + b"Content-Length: 999999999999999999\r\n\r\n", 413),
    "chunked body": (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNK * 400, 413),
    "trailers": (LINE + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000, 431),
}


@pytest.mark.parametrize(("sent", "status"), HTTP1.values(), ids=HTTP1)
def test_what_exceeds_a_limit_gets_its_status(strict: tuple[Proxy, Seen, Seen], sent: bytes, status: int) -> None:
    """The answer comes as soon as it shows, without the rest of the request; nothing reaches the runtime."""
    run, rest, _ = strict
    rest.clear()
    before = run.rss()
    with run.connect() as client:
        send_all(client, sent)
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert run.rss() - before < 16 * MIB
    assert (rest.requests, rest.malformed) == ([], [])


def _with(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    return [(key, value if key == name else other) for key, other in GET]


HTTP2 = {
    "target": ((headers_frame(1, _with(b":path", b"/" + b"a" * 1100)),), 414),
    "header size": ((headers_frame(1, [*GET, (b"x", b"a" * 9000)]),), 431),
    "header fields": ((headers_frame(1, [*GET, *[(b"x", b"y")] * 21]),), 431),
    "declared body": ((headers_frame(1, [*POST, (b"content-length", b"1048577")], end=False),), 413),
}


@pytest.mark.parametrize("name", HTTP2)
def test_the_same_holds_for_http2(strict: tuple[Proxy, Seen, Seen], name: str) -> None:
    """The stream gets its status and the next one is served; nothing reaches the runtime."""
    run, rest, _ = strict
    rest.clear()
    frames, status = HTTP2[name]
    assert outcomes(run, frames, {1, 3}) == {1: status, 3: 404}
    assert rest.requests == []


def test_a_body_over_http2_is_refused_where_it_exceeds_the_limit(strict: tuple[Proxy, Seen, Seen]) -> None:
    """A client that sends what its windows admit, and says no length, gets its status once it has sent too much."""
    run, rest, _ = strict
    rest.clear()
    client = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
    client.initiate_connection()
    client.send_headers(1, POST)
    sent, status = 0, ""
    with run.connect() as connection:
        while not status:
            room = min(client.local_flow_control_window(1), 16000)
            if room:
                client.send_data(1, b" " * room)
                sent += room
            connection.sendall(client.data_to_send())
            if room:
                continue
            for event in client.receive_data(connection.recv(1 << 16)):
                if isinstance(event, h2.events.ResponseReceived):
                    status = dict(event.headers)[":status"]
    assert status == "413"
    assert MIB < sent < 2 * MIB
    assert rest.requests == []


def test_a_grpc_message_over_the_limit_is_refused(strict: tuple[Proxy, Seen, Seen]) -> None:
    """RESOURCE_EXHAUSTED by its prefix or its declared length; nothing reaches the runtime."""
    run, _, grpc = strict
    grpc.clear()
    fields = [*_with(b":path", b"/fmaas.GenerationService/Generate"), (b"content-type", b"application/grpc")]
    fields[0] = (b":method", b"POST")
    frames = (
        headers_frame(1, fields, end=False),
        *[data_frame(1, b"\0\0\1\0\1" + b"a" * 16000)] * 4,
        data_frame(1, b"a" * 9999),
    )
    assert outcomes(run, frames, {1, 3}) == {1: 200, 3: 404}
    assert grpc.requests == []


@pytest.mark.parametrize("limit", ["connections", "connections_per_peer"])
def test_more_connections_than_allowed_are_closed(tmp_path: Path, limit: str) -> None:
    """One more than allowed is closed at once and counted; those that were there are served on."""
    asked = b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n"
    config = f"limits: {{{limit}: 30}}\n"
    with proxy(tmp_path, "triton=http://127.0.0.1:1", config=config) as run, ExitStack() as stack:
        clients = [stack.enter_context(run.connect()) for _ in range(30)]
        for client in clients:
            client.sendall(asked)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        with run.connect() as one_more:
            assert _closed(one_more)
        clients[0].sendall(asked)
        assert clients[0].recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        assert run.count(f'inferbridge_limits_rejected_total{{limit="{limit}"}}') == 1


def _closed(client: socket.socket) -> bool:
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


def test_an_idle_connection_is_closed(strict: tuple[Proxy, Seen, Seen]) -> None:
    """A connection that was served and then says nothing is closed after the time for that."""
    run, _, _ = strict
    with run.connect() as client:
        client.sendall(b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n")
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
        assert _closed(client)


def test_early_401(tmp_path: Path) -> None:
    """A caller who is not known gets 401 before a body of a gigabyte is sent, and the runtime hears nothing."""
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: []\n")
    config = f"auth:\n  authenticators:\n    - keys: {{file: {keys}}}\n"
    with http1_recorder() as (rest, port), proxy(tmp_path, f"triton=http://127.0.0.1:{port}", config=config) as run:
        with run.connect() as client:
            client.sendall(LINE + HOST + b"Content-Length: 30000000\r\n\r\n{")
            assert read_to_end(client).startswith(b"HTTP/1.1 401 ")
        assert rest.requests == []


def test_the_limits_that_hold_unless_set() -> None:
    """The defaults are those that docs/security.md promises."""
    limits = Limits()
    assert (limits.header_bytes, limits.header_fields, limits.target_bytes) == (64 * KIB, 100, 8 * KIB)
    assert (limits.body_bytes, limits.message_bytes, limits.reply_bytes) == (32 * MIB, 4 * MIB, 256 * MIB)
    assert (limits.streams, limits.connections, limits.idle_seconds) == (100, 1000, 600)
