"""Flow control end to end: what a client does not take is not read from the runtime, and the other way round."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import trustme

from hostile.proxy import TIMEOUT, proxy
from hostile.recorders import Sent, http1_fountain, listening

MIB = 1 << 20
KERNEL = 32 * MIB
"""Bytes that sockets of this machine may hold on the way, both sides together."""
GROWTH = 8 * MIB
FILLING = b"\x01"
"""Read as gRPC, a few messages of 16 MiB; zeros would be millions of empty ones, which are counted."""
SIZES = [pytest.param(64 * MIB), pytest.param(400 * MIB, marks=pytest.mark.heavy)]
GET = b"GET /v2/models/m/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GRPC = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "a"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
CONFIG = "limits: {reply_size: 1GiB, stall_timeout: 60s}\n"


def settled(value: Callable[[], int]) -> int:
    """The value once it has not changed for a third of a second."""
    before = -1
    while before != (now := value()):
        before = now
        time.sleep(0.35)
    return now


@contextmanager
def http2_fountain(total: int) -> Iterator[tuple[Sent, int]]:
    """A gRPC runtime whose every answer, of a thousand at once, has so many bytes; it sends what windows admit."""
    sent = Sent()

    def serve(client: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.local_settings = h2.settings.Settings(
            client=False, initial_values={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1000}
        )
        connection.initiate_connection()
        left: dict[int, int] = {}
        while True:
            for stream, size in list(left.items()):
                room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size, size)
                while room > 0:
                    connection.send_data(stream, FILLING * room, end_stream=room == left[stream])
                    sent.bytes += room
                    left[stream] -= room
                    client.sendall(connection.data_to_send())
                    window = connection.local_flow_control_window(stream) if left[stream] else 0
                    room = min(window, connection.max_outbound_frame_size, left[stream])
                if not left[stream]:
                    del left[stream]
            client.sendall(connection.data_to_send())
            if not (data := client.recv(1 << 16)):
                return
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    connection.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    left[event.stream_id] = total
                elif isinstance(event, h2.events.StreamReset):
                    left.pop(event.stream_id, None)

    with listening(serve) as port:
        yield sent, port


@contextmanager
def http2_sink() -> Iterator[tuple[Sent, threading.Event, int]]:
    """A gRPC runtime that reads nothing of a request until it may, then all; how many bytes of bodies it has had."""
    sent, may = Sent(), threading.Event()

    def serve(client: socket.socket) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        client.sendall(connection.data_to_send())
        while data := client.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    sent.bytes += len(event.data)
                    if not may.is_set():
                        client.sendall(connection.data_to_send())
                        may.wait(TIMEOUT)
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    sent.ended.set()
            client.sendall(connection.data_to_send())

    with listening(serve) as port:
        yield sent, may, port


class Http2Client:
    """A client that takes and gives what it is told to."""

    def __init__(self, connected: socket.socket, window: int = 65535) -> None:
        self.socket = connected
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.h2.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        self.received = 0
        self.ended = False
        self.connection_window = 65535

    def ask(self, path: str, *, ends: bool) -> int:
        """Begin a call."""
        stream = int(self.h2.get_next_available_stream_id())
        self.h2.send_headers(stream, [(":path", path), *GRPC], end_stream=ends)
        self.socket.sendall(self.h2.data_to_send())
        return stream

    def take(self, *, grants: bool) -> None:
        """Read what there is once, and grant it again or not."""
        for event in self.h2.receive_data(self.socket.recv(1 << 18)):
            if isinstance(event, h2.events.DataReceived):
                self.received += len(event.data)
                if grants:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
        self.socket.sendall(self.h2.data_to_send())


@pytest.mark.parametrize("total", SIZES)
def test_an_http1_client_that_does_not_read_pauses_the_runtime(tmp_path: Path, total: int) -> None:
    """The runtime gets rid of no more than sockets hold, memory stays; once the client reads, all of it arrives."""
    with (
        http1_fountain(total) as (sent, port),
        proxy(tmp_path, f"triton=http://127.0.0.1:{port}", config=CONFIG) as run,
    ):
        before = run.rss()
        with closing(run.connect(receive_buffer=65536)) as client:
            client.sendall(GET)
            assert settled(lambda: sent.bytes) < KERNEL
            assert (grown := run.rss() - before) < GROWTH, grown
            assert drained(client) > total
        assert run.rss() - before < GROWTH


def drained(client: socket.socket) -> int:
    """Bytes until the end."""
    total = 0
    while size := len(client.recv(1 << 18)):
        total += size
    return total


def test_a_client_with_tls_pauses_the_runtime_too(tmp_path: Path) -> None:
    """The same where mitmproxy carries the bytes."""
    authority = trustme.CA()
    file = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    config = f"{CONFIG}tls: {{certificate: {file}}}\n"
    total = 64 * MIB
    with (
        http1_fountain(total) as (sent, port),
        proxy(tmp_path, f"triton=http://127.0.0.1:{port}", config=config) as run,
    ):
        client = context.wrap_socket(run.connect(receive_buffer=65536), server_hostname="localhost")
        with closing(client):
            client.sendall(GET)
            before = run.rss()
            assert settled(lambda: sent.bytes) < KERNEL
            assert (grown := run.rss() - before) < GROWTH, grown
            assert drained(client) > total


@pytest.mark.parametrize("total", SIZES)
def test_a_grpc_client_that_grants_64_kib_pauses_the_runtime(tmp_path: Path, total: int) -> None:
    """Its stream stops after its window, the runtime's soon after, memory stays; then all of it arrives."""
    with (
        http2_fountain(total) as (sent, port),
        proxy(tmp_path, f"triton=grpc://127.0.0.1:{port}", config=CONFIG) as run,
    ):
        with closing(run.connect()) as connected:
            client = Http2Client(connected)
            stream = client.ask(STREAM, ends=True)
            before = run.rss()
            while client.received < 65535:
                client.take(grants=False)
            assert settled(lambda: sent.bytes) < KERNEL
            assert (grown := run.rss() - before) < GROWTH, grown
            client.h2.increment_flow_control_window(1 << 24)
            client.h2.increment_flow_control_window(1 << 24, stream)
            connected.sendall(client.h2.data_to_send())
            while client.received < total:
                client.take(grants=True)
            assert (grown := run.rss() - before) < GROWTH, grown
        assert client.received == total


@pytest.mark.parametrize("total", SIZES)
def test_a_runtime_that_does_not_read_pauses_the_client(tmp_path: Path, total: int) -> None:
    """A client that streams requests stops when its runtime does, memory stays; then all of it arrives."""
    with (
        http2_sink() as (got, may, port),
        proxy(tmp_path, f"triton=grpc://127.0.0.1:{port}", config=CONFIG) as run,
        closing(run.connect()) as connected,
    ):
        client = Http2Client(connected)
        stream = client.ask(STREAM, ends=False)
        before, left = run.rss(), total
        connected.settimeout(1)
        paused = False
        while left:
            room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size, left)
            if room:
                client.h2.send_data(stream, FILLING * room, end_stream=room == left)
                left -= room
                connected.sendall(client.h2.data_to_send())
                continue
            try:
                client.take(grants=True)
            except TimeoutError:
                assert not paused, "it does not go on"
                paused = True
                assert total - left < KERNEL
                assert (grown := run.rss() - before) < GROWTH, grown
                connected.settimeout(TIMEOUT)
                may.set()
        assert paused
        assert got.ended.wait(TIMEOUT)
        assert got.bytes == total
        assert run.rss() - before < GROWTH
