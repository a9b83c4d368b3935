"""Floods of HTTP/2 frames against a running proxy: it sends the client away, and hardly notices."""

import socket
from collections.abc import Callable, Iterable
from contextlib import closing

import h2.errors
import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from gateway.http2_client import headers_frame, reset_frame
from hostile.calls import best
from hostile.conftest import Scene
from hostile.http2_cases import GET, POST
from hostile.proxy import read_to_end, send_all
from hostile.test_smuggling_http2 import PREFACE

RESETS = 20_000
MANY = 5_000
CPU_SECONDS = 0.3
GET_BLOCK = headers_frame(1, GET).data
POST_BLOCK = headers_frame(1, POST, end=False).data


def get(stream: int) -> Frame:
    """A whole request."""
    return HeadersFrame(stream, GET_BLOCK, flags=["END_HEADERS", "END_STREAM"])


def post(stream: int) -> Frame:
    """A request whose body is to follow."""
    return HeadersFrame(stream, POST_BLOCK, flags=["END_HEADERS"])


def rapid_resets() -> Iterable[Frame]:
    """CVE-2023-44487."""
    for stream in range(1, 2 * RESETS, 2):
        yield post(stream)
        yield reset_frame(stream)


def made_resets() -> Iterable[Frame]:
    """CVE-2025-8671: the server is made to reset what it was asked for."""
    for stream in range(1, 2 * MANY, 2):
        yield get(stream)
        yield DataFrame(stream, b"x")


def refused_streams() -> Iterable[Frame]:
    """More calls than are allowed, and again, without ever acknowledging the limit."""
    return (post(stream) for stream in range(1, 2 * MANY, 2))


def continuations(size: int) -> Iterable[Frame]:
    """A header block without an end."""
    yield HeadersFrame(1, POST_BLOCK)
    yield from (ContinuationFrame(1, b"\0" * size) for _ in range(MANY if not size else 500))


def on_a_stream(frame: Callable[[], Frame]) -> Iterable[Frame]:
    """Frames of a call that does not end."""
    yield post(1)
    yield from (frame() for _ in range(MANY))


FLOODS: dict[str, tuple[str, Callable[[], Iterable[Frame]]]] = {
    "rapid reset": ("reset", rapid_resets),
    "made-you-reset": ("reset", made_resets),
    "streams": ("streams", refused_streams),
    "empty CONTINUATION": ("continuation", lambda: continuations(0)),
    "large CONTINUATION": ("continuation", lambda: continuations(16_000)),
    "PING": ("ping", lambda: (PingFrame(0, b"12345678") for _ in range(MANY))),
    "PING ACK": ("ping", lambda: (PingFrame(0, b"12345678", flags=["ACK"]) for _ in range(MANY))),
    "SETTINGS": ("settings", lambda: (SettingsFrame(0, {1: n % 4096}) for n in range(MANY))),
    "empty SETTINGS": ("settings", lambda: (SettingsFrame(0) for _ in range(MANY))),
    "empty DATA": ("empty_data", lambda: on_a_stream(lambda: DataFrame(1))),
    "empty DATA with padding": (
        "empty_data",
        lambda: on_a_stream(lambda: DataFrame(1, pad_length=1, flags=["PADDED"])),
    ),
    "WINDOW_UPDATE": ("window_update", lambda: (WindowUpdateFrame(0, 1) for _ in range(MANY))),
    "WINDOW_UPDATE of a stream": ("window_update", lambda: on_a_stream(lambda: WindowUpdateFrame(1, 1))),
    "PRIORITY": ("other", lambda: (PriorityFrame(2 * n + 1, depends_on=0, stream_weight=1) for n in range(MANY))),
    "unknown frames": ("other", lambda: (ExtensionFrame(0x77, 0, flag_byte=0, body=b"") for _ in range(MANY))),
}


def goaway_code(answer: bytes) -> int | None:
    """The error code of the GOAWAY in some frames."""
    while len(answer) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(answer[:9]))
        if isinstance(frame, GoAwayFrame) and len(answer) >= 9 + length:
            frame.parse_body(memoryview(answer[9 : 9 + length]))
            return frame.error_code
        answer = answer[9 + length :]
    return None


@pytest.mark.parametrize(("kind", "frames"), FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_the_connection(scene: Scene, kind: str, frames: Callable[[], Iterable[Frame]]) -> None:
    """GOAWAY (ENHANCE_YOUR_CALM) ends a flood of any kind early; it costs little CPU and memory, and is counted."""
    data = PREFACE + b"".join(frame.serialize() for frame in frames())
    proxy = scene.proxy
    sample = f'inferbridge_h2_abuse_total{{kind="{kind}"}}'

    def cost() -> float:
        counted, rss, cpu = proxy.count(sample), proxy.rss(), proxy.cpu()
        with closing(proxy.connect()) as client:
            send_all(client, data)
            answer = read_to_end(client)
        used = proxy.cpu() - cpu
        assert proxy.rss() - rss < 16 << 20
        assert goaway_code(answer) == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
        assert proxy.count(sample) == counted + 1
        return used

    assert best(CPU_SECONDS, cost, attempts=3) <= CPU_SECONDS


def test_others_are_served_meanwhile(scene: Scene) -> None:
    """A client that floods does not keep another from its answer."""
    flood = PREFACE + b"".join(frame.serialize() for frame in rapid_resets())
    with closing(scene.proxy.connect()) as attacker, closing(scene.proxy.connect()) as other:
        send_all(attacker, flood[: 1 << 16])
        other.sendall(b"GET /v2/models/m/ready HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert read_to_end(other).startswith(b"HTTP/1.1 200 ")


def test_what_good_clients_send_is_no_flood(scene: Scene) -> None:
    """Fifty of each kind of frame, as good clients may send them at once, are taken and the next call is served."""
    frames: list[Frame] = []
    for _ in range(20):
        frames += [
            PingFrame(0, b"12345678"),
            SettingsFrame(0),
            WindowUpdateFrame(0, 1),
            PriorityFrame(1, stream_weight=1),
        ]
    frames += [frame for stream in range(1, 101, 2) for frame in (post(stream), reset_frame(stream))]
    with closing(scene.proxy.connect()) as client:
        client.sendall(PREFACE + b"".join(frame.serialize() for frame in (*frames, get(101))))
        assert _answered(client, 101)


def _answered(client: socket.socket, stream: int) -> bool:
    """Whether HEADERS of a stream come before GOAWAY or the end."""
    data = b""
    while piece := client.recv(1 << 16):
        data += piece
        while len(data) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(data[:9]))
            if len(data) < 9 + length:
                break
            if isinstance(frame, GoAwayFrame):
                return False
            if isinstance(frame, HeadersFrame) and frame.stream_id == stream:
                return True
            data = data[9 + length :]
    return False
