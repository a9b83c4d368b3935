"""The soak itself: a short one passes, and what it is to find is found."""

import asyncio
import time
from dataclasses import replace

import pytest

from inferbridge.gateway.limits import MIB
from soak.__main__ import main, wrong
from soak.calls import MIX, Unexpected, Worker
from soak.load import Tally, Term, load, one
from soak.measuring import Sample, excess

QUIET = Sample(at=0, rss=100 * MIB, fds=20, tasks=3, in_flight=0, cpu=1)


def test_a_short_soak_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Some seconds of every kind of call end as they must, and the proxy holds afterwards what it held before."""
    assert main(6) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "unexpected: 0" in said
    assert all(kind in said for kind in MIX)


def test_there_are_a_hundred_calls_in_the_mix() -> None:
    """The numbers of the mix are percents."""
    assert sum(weight for weight, _ in MIX.values()) == 100


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (replace(QUIET, rss=140 * MIB), "memory: 140.0 MiB, before 100.0, allowed 131.0"),
        (replace(QUIET, fds=25), "file descriptors: 25, before 20"),
        (replace(QUIET, tasks=8), "tasks: 8, before 3"),
        (replace(QUIET, in_flight=1), "calls in flight that nobody makes: 1"),
    ],
)
def test_what_has_not_come_back_is_named(after: Sample, said: str) -> None:
    """Each of the measures is a violation of its own; what is a little more is none."""
    assert excess(QUIET, after) == [said]
    assert excess(QUIET, replace(QUIET, rss=120 * MIB, fds=22, tasks=5)) == []


async def test_an_unexpected_end_is_counted() -> None:
    """A call that ends otherwise is a violation with its words, and the load goes on with a new connection."""

    async def call(worker: Worker) -> None:
        raise Unexpected("503")

    tally, worker = Tally(), Worker(1, "key")
    worker.connect()
    for _ in range(2):
        await one(worker, "V2", call, tally)
    await worker.close()
    assert (tally.calls.total(), tally.unexpected["V2"]) == (2, 2)
    found = wrong(Tally(), tally, 1, QUIET, QUIET, [])
    assert found == ["V2: 2 unexpected, the first: Unexpected: 503"]


def test_a_soak_makes_its_calls_on_a_slow_machine_too() -> None:
    """It goes on after its time until its calls are made, but not for more than twice the time."""
    now = time.monotonic()
    assert not Term(10, 100, began=now - 11).over(99)
    assert Term(10, 100, began=now - 11).over(100)
    assert not Term(10, 100, began=now - 9).over(1000)
    assert Term(10, 100, began=now - 20).over(0)


async def test_a_proxy_that_is_not_there_is_noticed() -> None:
    """With nobody listening every call of the load is unexpected."""
    tally = Tally()
    async with asyncio.timeout(60):
        await load(1, "key", Term(0.2), tally)
    assert tally.unexpected == tally.calls
    assert tally.calls.total() > 0
