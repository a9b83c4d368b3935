"""How many frames of each kind a client may send, by a scripted clock."""

import pytest
from hyperframe.frame import DataFrame

from gateway.http2_client import REQUEST, Client, headers_frame
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.codecs.http2_abuse import Abuse, Meter
from inferbridge.gateway.limits import Limits
from inferbridge.http2 import frames

KINDS = {
    "reset": (frames.RST_STREAM, 200),
    "ping": (frames.PING, 100),
    "settings": (frames.SETTINGS, 50),
    "window_update": (frames.WINDOW_UPDATE, 1000),
    "priority": (frames.PRIORITY, 100),
    "unknown": (0x77, 100),
}


class Clock:
    """Says what it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def count(meter: Meter, kind: int) -> int:
    """Frames until it is too much."""
    for number in range(100_000):
        try:
            meter.frame(kind)
        except Abuse:
            return number
    return 100_000


@pytest.mark.parametrize(("kind", "burst"), KINDS.values(), ids=KINDS)
def test_a_burst_is_allowed_and_more_comes_with_time(kind: int, burst: int) -> None:
    """Just so many at once, and after a long pause as many again, however long it was."""
    clock = Clock()
    meter = Meter(100, clock)
    assert count(meter, kind) == burst
    clock.now += 3600
    assert count(meter, kind) == burst


def test_data_earns_what_it_is_answered_with() -> None:
    """A client that gets DATA may answer each with a PING and some WINDOW_UPDATE; other kinds are not earned."""
    meter = Meter(100, Clock())
    used = {name: KINDS[name] for name in ("reset", "ping", "settings", "window_update")}
    for kind, burst in used.values():
        assert count(meter, kind) == burst
    meter.sent += 20
    earned = {name: count(meter, kind) for name, (kind, _) in used.items()}
    assert earned == {"reset": 0, "ping": 20, "settings": 0, "window_update": 200}


def sent(number: int, frame: DataFrame) -> bool:
    """Whether a client that sends a frame so often is served after it."""
    subject = Client(Http2Codec(Limits()))
    subject.raw(headers_frame(1, [(name.encode(), value.encode()) for name, value in REQUEST], end=False))
    subject.codec.receive(frame.serialize() * number)
    return not subject.codec.closing


def test_data_that_says_nothing_is_counted() -> None:
    """A hundred empty DATA frames are taken, padded or not, and no more."""
    for frame in (DataFrame(1), DataFrame(1, flags=["PADDED"])):
        assert sent(100, frame)
        assert not sent(101, frame)


def test_data_that_says_something_is_no_abuse() -> None:
    """DATA with content may come as often as it likes."""
    assert sent(10_000, DataFrame(1, b"x"))
