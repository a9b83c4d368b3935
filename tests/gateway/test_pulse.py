"""Signs of life on a clock of the test's own."""

from collections.abc import Callable
from typing import Any

import pytest

from inferbridge.gateway.calls import pulse
from inferbridge.gateway.calls.pulse import Pulse


class Clock:
    """Takes the place of an event loop: the test says when a time is up."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def call_later(self, seconds: float, call: Callable[[], None]) -> "Clock":
        assert seconds == pulse.SECONDS
        self.waiting.append(call)
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def tick(self) -> None:
        """The time is up."""
        self.waiting.pop()()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The loop that runs."""
    made = Clock()

    def running() -> Any:
        return made

    monkeypatch.setattr("asyncio.get_running_loop", running)
    return made


def test_only_silence_is_broken(clock: Clock) -> None:
    """A beat comes after a whole period in which nothing was sent, and no more once it is over."""
    beats: list[int] = []
    beating = Pulse(lambda: beats.append(1))
    beating.start()
    clock.tick()  # the first message came as it began
    assert beats == []
    clock.tick()
    assert beats == [1]
    beating.heard()
    clock.tick()
    assert beats == [1]
    clock.tick()
    assert beats == [1, 1]
    beating.stop()
    assert clock.waiting == []
