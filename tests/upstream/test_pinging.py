"""Signs of life of a connection, on a clock that the test moves."""

import itertools

import pytest

from inferbridge.upstream import pinging
from inferbridge.upstream.pinging import Watch
from upstream.test_deadlines import Clock


class Bench:
    """A connection that is watched."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.busy = True
        self.pings: list[float] = []
        self.dead: list[str] = []
        self.watch = Watch(
            self.clock,  # type: ignore[arg-type]  # all it needs of a loop
            lambda: self.busy,
            lambda: self.pings.append(self.clock.now),
            self.dead.append,
        )
        self.watch.start()

    def run(self, until: int, *, answers: bool = True, data: range = range(0)) -> None:
        """Let time pass; each PING is answered, and data comes at some seconds."""
        for second in range(int(self.clock.now) + 1, until + 1):
            if second in data or (answers and self.pings and self.pings[-1] == second - 1):
                self.watch.heard = True
            self.clock.advance(second)


@pytest.fixture
def bench() -> Bench:
    """A connection on which a call has just begun."""
    return Bench()


def test_a_connection_that_says_nothing_is_dead(bench: Bench) -> None:
    """Ten seconds after the PING that came with half a minute of silence."""
    bench.run(39, answers=False)
    assert (bench.pings, bench.dead) == ([30.0], [])
    bench.run(40, answers=False)
    assert bench.dead == ["no answer to a PING within 10 s"]


def test_a_runtime_that_works_for_long_is_asked_seldom(bench: Bench) -> None:
    """The second PING of a silence comes more than five minutes after the first, or gRPC servers would hang up."""
    bench.run(3600)
    assert bench.dead == []
    assert len(bench.pings) >= 9
    assert all(after - before >= 300 for before, after in itertools.pairwise(bench.pings))


def test_after_data_a_silence_begins_anew(bench: Bench) -> None:
    """Who has sent something since the last PING is asked after half a minute again."""
    bench.run(180, data=range(100, 101))
    assert [ping < 100 for ping in bench.pings] == [True, False]


def test_data_is_a_sign_of_life(bench: Bench) -> None:
    """Nobody is asked who says something now and then."""
    bench.run(300, answers=False, data=range(10, 300, 20))
    assert (bench.pings, bench.dead) == ([], [])


def test_an_idle_connection_is_not_asked(bench: Bench) -> None:
    """Without a call there is nobody to tell."""
    bench.busy = False
    bench.run(300, answers=False)
    assert (bench.pings, bench.dead) == ([], [])


def test_nothing_is_asked_of_what_is_closed(bench: Bench) -> None:
    """The timer ends with the connection."""
    bench.watch.stop()
    bench.run(100)
    assert bench.pings == []
    assert pinging.NEXT_PING_SECONDS > 300
