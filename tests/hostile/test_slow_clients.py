"""Clients that hold connections by being slow (slowloris), and what is no attack."""

import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from gateway.http2_client import headers_frame
from hostile.http2_cases import POST
from hostile.proxy import Proxy, proxy, read_to_end, send_all
from hostile.recorders import http1_fountain
from hostile.test_smuggling_http2 import PREFACE, outcomes
from inferbridge.gateway.limits import Limits

SECONDS = 1.0
"""Of each limit here."""
CONNECTIONS = 200
ANSWERS = 60
"""A REST runtime gives 64 answers at a time; the clients behind them wait for the runtime and are not slow yet."""
HOST = b"Host: a\r\n"
BODY = b"POST /v2/models/m/infer HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n"
READY = b"GET /v2/models/m/ready HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy with short limits, before a runtime with long answers."""
    limits = f"limits: {{header_timeout: {SECONDS}s, body_timeout: {SECONDS}s, stall_timeout: {SECONDS}s}}\n"
    with (
        http1_fountain(64 << 20) as (_, port),
        proxy(tmp_path_factory.mktemp("slow"), f"triton=http://127.0.0.1:{port}", config=limits) as started,
    ):
        yield started


def trickle(clients: list[socket.socket], drop: bytes, reads: int) -> None:
    """Send and read a few bytes on each connection from time to time, until all are closed or it takes too long."""
    began = time.monotonic()
    waiting = select.poll()
    remaining = {client.fileno(): client for client in clients}
    for number in remaining:
        waiting.register(number, select.POLLRDHUP)
    while remaining and time.monotonic() - began < 15:
        for number, _ in waiting.poll(0):
            waiting.unregister(number)
            del remaining[number]
        for client in remaining.values():
            with suppress(OSError):
                client.send(drop)
            with suppress(OSError):
                client.recv(reads, socket.MSG_DONTWAIT)
        time.sleep(0.1)  # what a slow client does


MODES = {
    "headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: ", b"a", 4096),
    "body": (BODY, b"a", 4096),
    "read": (READY, b"", 1),
    "nothing at all": (b"", b"", 4096),
    "HTTP/2 preface": (PREFACE[:9], b"", 4096),
    "HTTP/2 headers": (PREFACE + HeadersFrame(1, b"\x82").serialize(), b"", 4096),
    "HTTP/2 frame": (PREFACE + headers_frame(1, POST).serialize()[:12], b"", 4096),
    "TLS handshake": (b"\x16\x03\x01\x02\x00\x01", b"", 4096),
}


@pytest.mark.parametrize(("first", "drop", "reads"), MODES.values(), ids=MODES)
def test_slow_clients_are_closed(impatient: Proxy, first: bytes, drop: bytes, reads: int) -> None:
    """Connections that trickle are all closed soon after the limit, and others are served meanwhile."""
    count = ANSWERS if first is READY else CONNECTIONS
    began = time.monotonic()
    clients = [impatient.connect(receive_buffer=2048) for _ in range(count)]
    try:
        for client in clients:
            send_all(client, first)
        with impatient.connect() as other:
            other.sendall(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert read_to_end(other).startswith(b"HTTP/1.1 404 ")
        trickle(clients, drop, reads)
        assert SECONDS / 2 < time.monotonic() - began < 10
    finally:
        for client in clients:
            client.close()


def test_the_limits_that_hold_unless_set() -> None:
    """A head, a body and taking an answer have ten seconds each, so that slow clients are gone after fifteen."""
    limits = Limits()
    assert (limits.header_seconds, limits.body_seconds, limits.stall_seconds) == (10, 10, 10)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost", BODY + b"{"], ids=["head", "body"])
def test_a_slow_request_is_told_why(impatient: Proxy, first: bytes) -> None:
    """A request that does not come on gets 408 and the connection closes; that is counted."""
    kind = "body" if b"{" in first else "header"
    sample = f'inferbridge_limits_rejected_total{{limit="{kind}_timeout"}}'
    before = impatient.count(sample)
    with impatient.connect() as client:
        client.sendall(first)
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too slowly" in answer
    assert impatient.count(sample) == before + 1


def test_a_slow_body_costs_its_stream_alone(impatient: Proxy) -> None:
    """An HTTP/2 call whose body stays away gets 408, and another on the same connection its own answer."""
    slow = (headers_frame(1, POST, end=False), DataFrame(1, b"{"))
    assert outcomes(impatient, slow, {1, 3}) == {1: 408, 3: 404}


def test_a_kept_connection_may_be_silent(impatient: Proxy) -> None:
    """A connection that has had its answer owes nothing: it is served again long after the limit for heads."""
    asked = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
    with impatient.connect() as client:
        for _ in range(2):
            client.sendall(asked)
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 404 ")
            time.sleep(2 * SECONDS)  # it is silence that is tested
