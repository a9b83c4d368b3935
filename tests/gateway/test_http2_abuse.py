"""How many frames of each kind a client may send, by a scripted clock."""

from collections.abc import Callable

import pytest
from hyperframe.frame import DataFrame, Frame, PingFrame, RstStreamFrame, SettingsFrame, WindowUpdateFrame

from inferbridge.gateway.http2_abuse import Abuse, Meter

KINDS: dict[str, tuple[Callable[[], Frame], int]] = {
    "reset": (lambda: RstStreamFrame(1), 200),
    "ping": (lambda: PingFrame(0), 100),
    "settings": (lambda: SettingsFrame(0), 50),
    "empty_data": (lambda: DataFrame(1), 100),
    "window_update": (lambda: WindowUpdateFrame(0, 1), 1000),
}


class Clock:
    """Says what it is told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def count(meter: Meter, make: Callable[[], Frame]) -> int:
    """Frames until it is too much."""
    frame = make()
    for number in range(100_000):
        try:
            meter.frame(frame)
        except Abuse:
            return number
    return 100_000


@pytest.mark.parametrize(("make", "burst"), KINDS.values(), ids=KINDS)
def test_a_burst_is_allowed_and_more_comes_with_time(make: Callable[[], Frame], burst: int) -> None:
    """Just so many at once, and after a long pause as many again, however long it was."""
    clock = Clock()
    meter = Meter(100, clock)
    assert count(meter, make) == burst
    clock.now += 3600
    assert count(meter, make) == burst


def test_data_earns_what_it_is_answered_with() -> None:
    """A client that gets DATA may answer each with a PING and some WINDOW_UPDATE; other kinds are not earned."""
    meter = Meter(100, Clock())
    for make, burst in KINDS.values():
        assert count(meter, make) == burst
    meter.sent += 20
    earned = {kind: count(meter, make) for kind, (make, _) in KINDS.items()}
    assert earned == {"reset": 0, "ping": 20, "settings": 0, "empty_data": 0, "window_update": 200}


def test_data_that_says_something_is_no_abuse() -> None:
    """DATA with content, or that ends a request, may come as often as it likes."""
    meter = Meter(100, Clock())
    assert count(meter, lambda: DataFrame(1, b"x")) == 100_000
    assert count(meter, lambda: DataFrame(1, flags=["END_STREAM"])) == 100_000
