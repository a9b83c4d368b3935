"""The circuit breaker, on a clock that the test moves."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.upstream import breaker as breakers
from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.breaker import Breaker
from inferbridge.upstream.call import ActiveCall
from upstream.recorder import Recorder


class Call(ActiveCall):
    """A call that is never sent."""

    def abandon(self) -> None:
        """Nothing to release."""


class Bench:
    """A breaker, its clock, and whether its address can be connected to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.connects = False
        self.tried = asyncio.Event()
        self.breaker = Breaker("grpc://there:1", self.connect, lambda: self.now)

    async def connect(self) -> bool:
        self.tried.set()
        return self.connects

    def fail(self, times: int = breakers.FAILURES) -> None:
        for _ in range(times):
            self.breaker.failed("connection refused")

    def call(self) -> tuple[bool, Recorder, Call]:
        recorder = Recorder()
        call = Call(UpstreamRequest("POST", "/"), recorder, "grpc://there:1", 1000)
        return self.breaker.let_through(call), recorder, call


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A closed breaker."""
    one = Bench()
    yield one
    await one.breaker.close()


async def test_five_failures_in_a_row_open_it(bench: Bench) -> None:
    """Four do not, and an answer between them starts the count anew."""
    bench.fail(4)
    bench.breaker.answered()
    bench.fail(4)
    assert bench.breaker.closed
    bench.fail(1)
    assert (bench.breaker.state, bench.breaker.closed) == ("open", False)


async def test_open_it_refuses_at_once_and_says_when_to_come_back(bench: Bench) -> None:
    """UNAVAILABLE in the next turn of the loop, with the last reason and the seconds that are left."""
    bench.fail()
    bench.now = 2.5
    went, recorder, _ = bench.call()
    assert (went, recorder.error) == (False, None)
    await asyncio.sleep(0)
    error = recorder.error
    assert error is not None
    assert (error.code, error.retry_after) == (Code.UNAVAILABLE, 8)
    assert error.message == (
        "grpc://there:1 is not called for now, because 5 connections in a row failed; the last: connection refused"
    )


async def test_after_ten_seconds_one_call_goes_through_and_its_answer_closes_it(bench: Bench) -> None:
    """Others are refused until then."""
    bench.fail()
    bench.now = 10.0
    went, recorder, call = bench.call()
    assert went
    assert not bench.breaker.admits
    assert not bench.call()[0]
    call.on_head(503, ())
    assert (bench.breaker.state, recorder.status) == ("closed", 503)
    assert bench.call()[0]


async def test_a_failed_trial_opens_it_for_ten_more_seconds(bench: Bench) -> None:
    """One failure is enough then."""
    bench.fail()
    bench.now = 10.0
    bench.call()
    bench.fail(1)
    bench.now = 19.9
    assert not bench.breaker.admits
    bench.now = 20.0
    assert bench.breaker.admits


async def test_a_trial_that_tells_nothing_makes_room_for_another(bench: Bench) -> None:
    """A deadline says nothing of the address; of one that was cancelled nobody hears, so it counts for ten seconds."""
    bench.fail()
    bench.now = 10.0
    _, _, call = bench.call()
    call.fail(BridgeError(Code.DEADLINE_EXCEEDED, "late"))
    assert bench.breaker.admits
    _, _, call = bench.call()
    call.cancel()
    assert not bench.breaker.admits
    bench.now = 20.0
    assert bench.breaker.admits


@pytest.mark.parametrize("connects", [True, False])
async def test_connecting_is_tried_while_it_is_open(
    bench: Bench, connects: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as that works a call may go through, however little of the ten seconds is over."""
    monkeypatch.setattr(breakers, "CONNECT_EACH_SECONDS", 0.0)
    bench.connects = connects
    bench.fail()
    for _ in range(2):
        await bench.tried.wait()
        bench.tried.clear()
        if connects:
            break
    await asyncio.sleep(0)
    assert bench.breaker.state == ("half open" if connects else "open")
    assert bench.breaker.admits is connects
