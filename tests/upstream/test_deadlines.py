"""The end of calls whose time is over, on an event loop whose clock the test moves."""

import asyncio
from typing import Any

import pytest

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.call import ActiveCall
from inferbridge.upstream.deadlines import Deadlines


class Call(ActiveCall):
    """A call that only remembers how it ended."""

    def __init__(self) -> None:
        super().__init__(UpstreamRequest("POST", "/"), self, "grpc://there:1", 1000)
        self.error: BridgeError | None = None

    def abandon(self) -> None:
        """Nothing to release."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Not answered in these tests."""

    def on_data(self, data: Buffer) -> None:
        """Not answered in these tests."""

    def on_failure(self, error: BridgeError) -> None:
        self.error = error


class Clock:
    """Stands in for the loop's clock and timers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, asyncio.TimerHandle, Any, tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self)  # type: ignore[arg-type]  # all it needs of a loop
        self.timers.append((when, handle, callback, args))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args)

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked by a handle that is cancelled."""

    def advance(self, now: float) -> None:
        """Run what is due."""
        self.now = now
        due = [timer for timer in self.timers if timer[0] <= now]
        self.timers = [timer for timer in self.timers if timer[0] > now]
        for _, handle, callback, args in due:
            if not handle.cancelled():
                callback(*args)

    @property
    def waiting(self) -> int:
        """Timers that are set."""
        return sum(not handle.cancelled() for _, handle, _, _ in self.timers)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `Deadlines` sees."""
    clock = Clock()
    monkeypatch.setattr("inferbridge.upstream.deadlines.asyncio.get_running_loop", lambda: clock)
    return clock


def begin(deadlines: Deadlines, timeout: float) -> Call:
    """A call with a deadline."""
    call = Call()
    deadlines.watch(call, timeout)
    return call


def test_a_call_expires_when_its_time_is_over(clock: Clock) -> None:
    """A call not answered in time fails with DEADLINE_EXCEEDED, not earlier and not later."""
    call = begin(Deadlines(), 2.0)
    clock.advance(1.9)
    assert call.error is None
    clock.advance(2.0)
    assert call.error is not None
    assert call.error.code is Code.DEADLINE_EXCEEDED


def test_each_call_of_a_timeout_has_its_own_deadline(clock: Clock) -> None:
    """Calls that share a timeout and a timer still expire each at its own time."""
    deadlines = Deadlines()
    first = begin(deadlines, 2.0)
    clock.advance(0.5)
    second = begin(deadlines, 2.0)
    assert clock.waiting == 1
    clock.advance(2.0)
    assert (first.finished, second.finished) == (True, False)
    clock.advance(2.5)
    assert second.finished


def test_an_answered_call_leaves_nothing_behind(clock: Clock) -> None:
    """After the answers and one deadline there is neither a call nor a timer left."""
    deadlines = Deadlines()
    calls = [begin(deadlines, 2.0) for _ in range(100)]
    for call in calls:
        call.cancel()
    clock.advance(2.0)
    assert clock.waiting == 0
    assert not deadlines._groups


def test_many_different_timeouts_share_no_state(clock: Clock) -> None:
    """Timeouts chosen by clients cannot fill memory: beyond a number of them, a call's timer goes with the call."""
    deadlines = Deadlines()
    calls = [begin(deadlines, 10.0 + number) for number in range(1000)]
    assert len(deadlines._groups) == 64
    for call in calls:
        call.cancel()
    assert clock.waiting == 64
    late = begin(deadlines, 5.0)
    clock.advance(5.0)
    assert late.finished


def test_nothing_expires_after_the_end(clock: Clock) -> None:
    """A closed pool's calls are ended by the pool."""
    deadlines = Deadlines()
    call = begin(deadlines, 2.0)
    deadlines.close()
    clock.advance(3.0)
    assert call.error is None
