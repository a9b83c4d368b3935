"""Deadlines and cancellation through a running proxy, whose runtimes never answer."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import pytest

from hostile.proxy import TIMEOUT, Proxy, proxy, read_to_end
from hostile.recorders import listening

SOON = 1.0
"""Seconds that an end may take to get through on a busy machine; it is some milliseconds otherwise."""
INFER = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
GENERATE = "/fmaas.GenerationService/Generate"
STREAM = "/fmaas.GenerationService/GenerateStream"


@dataclass
class Silent:
    """What a runtime that never answers has seen."""

    fields: dict[str, str] = field(default_factory=dict)
    asked: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """The call was cancelled."""

    def ask(self, fields: dict[str, str]) -> None:
        """A call has come."""
        self.fields = fields
        self.asked.set()


@contextmanager
def rest_runtime() -> Iterator[tuple[Silent, int]]:
    """Speaks HTTP/1.1."""
    seen = Silent()

    def serve(client: socket.socket) -> None:
        head = client.recv(1 << 16).partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        seen.ask(dict(line.split(": ", 1) for line in head))
        while client.recv(1 << 16):
            pass
        seen.left.set()

    with listening(serve) as port:
        yield seen, port


@contextmanager
def grpc_runtime() -> Iterator[tuple[Silent, int]]:
    """Speaks HTTP/2."""
    seen = Silent()

    def serve(client: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        while data := client.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.StreamEnded):
                    seen.asked.set()
                elif isinstance(event, h2.events.RequestReceived):
                    seen.fields = dict(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    seen.left.set()
            client.sendall(connection.data_to_send())

    with listening(serve) as port:
        yield seen, port


@dataclass(frozen=True)
class Scene:
    """A proxy and the two runtimes."""

    proxy: Proxy
    rest: Silent
    grpc: Silent


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A proxy that allows 1.2 seconds for a call."""
    with (
        rest_runtime() as (rest, rest_port),
        grpc_runtime() as (grpc, grpc_port),
        proxy(
            tmp_path_factory.mktemp("deadlines"),
            f"triton=http://127.0.0.1:{rest_port}",
            f"tgis=grpc://127.0.0.1:{grpc_port}",
            config="limits: {call_timeout: 1.2s}\n",
        ) as run,
    ):
        yield Scene(run, rest, grpc)


@pytest.fixture
def scene(started: Scene) -> Scene:
    """The same, with nothing arrived yet."""
    for seen in (started.rest, started.grpc):
        seen.asked.clear()
        seen.left.clear()
    return started


def rest_call(*fields: bytes, body: bytes = INFER) -> bytes:
    """A call that is passed through."""
    lines = (b"POST /v2/models/m/infer HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class GrpcClient:
    """One call."""

    def __init__(self, connected: socket.socket, path: str, *fields: tuple[str, str]) -> None:
        self.socket = connected
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.h2.initiate_connection()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path), ("te", "trailers")]
        self.h2.send_headers(1, [*head, ("content-type", "application/grpc"), *fields])
        self.h2.send_data(1, b"\0\0\0\0\0", end_stream=True)
        connected.sendall(self.h2.data_to_send())

    def status(self) -> str:
        """The outcome, once it is there."""
        while data := self.socket.recv(1 << 16):
            for event in self.h2.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found = dict(event.headers).get("grpc-status")
                    if found is not None:
                        return str(found)
            self.socket.sendall(self.h2.data_to_send())
        return "closed"

    def cancel(self) -> None:
        """Reset the stream."""
        self.h2.reset_stream(1, 8)
        self.socket.sendall(self.h2.data_to_send())


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ((b"X-Request-Timeout: 0.4",), 0.4),
        ((b"X-Request-Timeout: 400ms",), 0.4),
        ((b"Grpc-Timeout: 400m",), 0.4),
        ((b"Grpc-Timeout: 5S", b"X-Request-Timeout: 0.4"), 0.4),
        ((b"Grpc-Timeout: 400m", b"X-Request-Timeout: 5s"), 0.4),
        ((b"X-Request-Timeout: 1m",), 1.2),
        ((), 1.2),
    ],
)
def test_the_smallest_deadline_of_a_rest_call_wins(scene: Scene, fields: tuple[bytes, ...], seconds: float) -> None:
    """Client, by either header, or configuration: 504 when the first is over, the runtime is told and then left."""
    began = time.monotonic()
    with scene.proxy.connect() as client:
        client.sendall(rest_call(b"Connection: close", *fields))
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
    assert seconds <= time.monotonic() - began < seconds + SOON
    assert scene.rest.left.wait(SOON)
    told = scene.rest.fields.get("x-request-timeout")
    assert told is None if not fields else float(told or 0) <= seconds


@pytest.mark.parametrize(("timeout", "seconds"), [("400m", 0.4), ("1H", 1.2), ("", 1.2)])
def test_the_smaller_deadline_of_a_grpc_call_wins(scene: Scene, timeout: str, seconds: float) -> None:
    """DEADLINE_EXCEEDED when it is over, the runtime is told at most that, and its stream is reset."""
    began = time.monotonic()
    with closing(scene.proxy.connect()) as connected:
        client = GrpcClient(connected, GENERATE, *([("grpc-timeout", timeout)] if timeout else []))
        assert client.status() == "4"
    assert seconds <= time.monotonic() - began + 0.01 < seconds + SOON
    assert scene.grpc.left.wait(SOON)
    if timeout:
        assert int(scene.grpc.fields["grpc-timeout"].removesuffix("m")) <= seconds * 1000


def test_time_that_the_body_took_is_taken_off(scene: Scene) -> None:
    """Of 1 s a body that takes 0.5 leaves the runtime less than 0.6, and the client has its 504 after 1."""
    whole = rest_call(b"X-Request-Timeout: 1", b"Connection: close")
    began = time.monotonic()
    with scene.proxy.connect() as client:
        client.sendall(whole[:-5])
        time.sleep(0.5)  # the body's way
        client.sendall(whole[-5:])
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
    assert 1 <= time.monotonic() - began < 1 + SOON
    assert 0 < float(scene.rest.fields["x-request-timeout"]) < 0.6


def test_a_body_may_use_up_the_deadline(scene: Scene) -> None:
    """A body that does not come within the deadline is answered 504 then, and the runtime hears nothing."""
    with scene.proxy.connect() as client:
        client.sendall(rest_call(b"X-Request-Timeout: 0.3")[:-1])
        assert read_to_end(client).startswith(b"HTTP/1.1 504 ")
    assert not scene.rest.asked.is_set()


@pytest.mark.parametrize("value", [b"soon", b"-1", b"1h", b"1e3", b"0x1", b"1,5", b"", b"999999999"])
def test_what_is_no_time_is_refused(scene: Scene, value: bytes) -> None:
    """A deadline that cannot be read is the client's mistake (400), and the runtime hears nothing."""
    with scene.proxy.connect() as client:
        client.sendall(rest_call(b"X-Request-Timeout: " + value, b"Connection: close"))
        assert read_to_end(client).startswith(b"HTTP/1.1 400 ")
    assert not scene.rest.asked.is_set()


def test_a_rest_client_that_leaves_cancels_the_runtime(scene: Scene) -> None:
    """The runtime's connection is closed at once, not at the deadline."""
    with scene.proxy.connect() as client:
        client.sendall(rest_call())
        assert scene.rest.asked.wait(TIMEOUT)
    assert scene.rest.left.wait(SOON)


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
@pytest.mark.parametrize("how", ["reset", "disconnect"])
def test_a_grpc_client_that_leaves_cancels_the_runtime(scene: Scene, path: str, how: str) -> None:
    """The runtime's stream is reset at once, whether the client resets its own or hangs up."""
    with closing(scene.proxy.connect()) as connected:
        client = GrpcClient(connected, path)
        assert scene.grpc.asked.wait(TIMEOUT)
        if how == "reset":
            client.cancel()
            assert scene.grpc.left.wait(SOON)
    assert scene.grpc.left.wait(SOON)
