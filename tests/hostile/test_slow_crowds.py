"""Two hundred slow clients at once, with the limits that hold unless set: gone within 15 s, and nobody else notices."""

import select
import socket
import statistics
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hyperframe.frame import HeadersFrame

from gateway.http2_client import data_frame, headers_frame
from hostile.calls import CALLS, GRPC_TENSORS, best
from hostile.proxy import TIMEOUT, Proxy, proxy, read_to_end, send_all
from hostile.recorders import http1_fountain, http1_recorder
from hostile.test_flow_control import GRPC, STREAM, http2_fountain
from hostile.test_smuggling_http2 import PREFACE
from inferbridge.bridge.framing import frame

CLIENTS = 200
SECONDS = 15
GROWTH = CLIENTS * (3 << 18)
"""Bytes that the memory of the proxy may grow by: three quarters of a mebibyte for each client."""
NOTICED = 0.5
"""Seconds that most calls of others may take, on a machine that plays all the clients and runtimes as well."""
ANSWER = 16 << 20
"""More than may be held of it, and than the sockets of this machine take."""
REPLICAS = 4
"""REST runtimes, each of which gives 64 answers at a time."""
HOST = b"Host: a\r\n"
HTTP2_CALL = headers_frame(
    1, [(name.encode(), value.encode()) for name, value in [(":path", STREAM), *GRPC]], end=False
)
REQUESTS = {
    "headers": (b"GET / HTTP/1.1\r\n" + HOST + b"X: ", b"a"),
    "body": (b"POST /v2/models/rest/infer HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n", b"a"),
    "HTTP/2 headers": (PREFACE + HeadersFrame(1, b"\x82").serialize(), b""),
}
READERS = {
    "HTTP/1.1": b"GET /v2/models/rest/ready HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2": PREFACE
    + HTTP2_CALL.serialize()
    + data_frame(1, b"".join(frame(((CALLS["ModelStreamInfer"].body,),))), end=True).serialize(),
}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Proxy]:
    """A proxy before runtimes with long answers; no limit is set."""
    with ExitStack() as stack:
        ports = [stack.enter_context(http1_fountain(ANSWER))[1] for _ in range(REPLICAS)]
        _, grpc = stack.enter_context(http2_fountain(ANSWER))
        places = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        _, other = stack.enter_context(http1_recorder())
        lines = (
            f"  - {{name: other, runtime: triton, url: 'http://127.0.0.1:{other}', models: [other]}}",
            f"  - {{name: rest, runtime: triton, url: 'http://a', addresses: [{places}], models: [rest]}}",
            f"  - {{name: grpc, runtime: triton, url: 'grpc://127.0.0.1:{grpc}', models: [{GRPC_TENSORS}]}}",
        )
        yield stack.enter_context(proxy(tmp_path, config="\n".join(lines) + "\n"))


@contextmanager
def others(run: Proxy) -> Iterator[list[float]]:
    """Somebody else calls all the while; the seconds that each call takes."""
    took: list[float] = []
    over = threading.Event()

    def call() -> None:
        while not over.wait(0.1):
            began = time.monotonic()
            with run.connect() as client:
                client.sendall(b"GET /v2/models/other/ready HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
                answer = read_to_end(client)
            took.append(time.monotonic() - began if answer.startswith(b"HTTP/1.1 200 ") else TIMEOUT)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


@dataclass
class Crowd:
    """Clients that have begun, and what became of them."""

    run: Proxy
    left: dict[int, tuple[socket.socket, bytes, float]]
    """Each that is open with what it sends from time to time, and when it began."""
    before: int
    """Bytes of memory that the proxy held."""
    stayed: list[float] = field(default_factory=list)
    """Seconds."""
    growth: int = 0
    """Bytes."""

    def wait(self) -> None:
        """Until all are closed, or it takes too long."""
        poll = select.poll()
        for number in self.left:
            poll.register(number, select.POLLRDHUP)
        until = time.monotonic() + 2 * SECONDS
        while self.left and time.monotonic() < until:
            for number, _ in poll.poll(200):
                poll.unregister(number)
                self.stayed.append(time.monotonic() - self.left.pop(number)[2])
            for client, drop, _ in self.left.values():
                with suppress(OSError):
                    client.send(drop)
            self.growth = max(self.growth, self.run.rss() - self.before)
            time.sleep(0.2)  # what slow clients do


@contextmanager
def crowd(run: Proxy, said: Iterable[tuple[bytes, bytes]]) -> Iterator[Crowd]:
    """Clients that each say something first, and something else from time to time."""
    made = Crowd(run, {}, run.rss())
    with ExitStack() as stack:
        for first, drop in said:
            client = stack.enter_context(run.connect(receive_buffer=1 << 16))
            send_all(client, first)
            made.left[client.fileno()] = client, drop, time.monotonic()
        yield made


def check(crowd: Crowd, took: list[float], seconds: float) -> None:
    """All are gone in time, memory was flat, and the calls of others went on."""
    assert not crowd.left
    assert max(crowd.stayed) < seconds
    assert crowd.growth < GROWTH
    assert len(took) > 20
    assert statistics.median(took) < NOTICED
    assert max(took) < TIMEOUT, "a call failed"


def test_slow_requests(run: Proxy) -> None:
    """Two hundred clients for each way to send a request slowly, all at once."""
    with others(run) as took, crowd(run, [said for said in REQUESTS.values() for _ in range(CLIENTS)]) as slow:
        slow.wait()
    check(slow, took, SECONDS)


@pytest.mark.parametrize("first", READERS.values(), ids=READERS)
def test_slow_readers(run: Proxy, first: bytes) -> None:
    """Two hundred clients that ask for large answers and take nothing of them, all at once."""
    with others(run) as took, crowd(run, [(first, b"")] * CLIENTS) as slow:
        slow.wait()
    check(slow, took, 2 * SECONDS)  # what they take at first has to be made by this machine, too


def test_a_burst_of_clients_finds_room(run: Proxy) -> None:
    """Six hundred clients connect at once without one that has to try again, which takes a second at least."""

    def connect() -> float:
        began = time.monotonic()
        with ExitStack() as stack:
            for _ in range(3 * CLIENTS):
                stack.enter_context(run.connect())
            return time.monotonic() - began

    assert best(0.9, connect, attempts=3) <= 0.9
