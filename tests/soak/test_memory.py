"""The soak of what kept calls take: a short one passes, and what it is to find is found."""

import asyncio

import pytest

from inferbridge.gateway.limits import MIB
from soak.memory import LONG, Held, Watched, main, wrong


@pytest.fixture
async def watched() -> Watched:
    """A process that holds half of what it may."""
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return Watched("proxy", process, samples=[Held(second, 150 * MIB, {"held": 40 * MIB}) for second in range(LONG)])


def test_a_short_soak_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """In some seconds more goes through than may be held: both processes keep within it, and every call succeeds."""
    assert main(8, "8MiB") == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert said.count("wrong: 0") == 2
    assert "of 8 MiB" in said


def test_what_is_as_it_must_be_is_no_finding(watched: Watched) -> None:
    """Half of the memory, no growth and no word of an error."""
    assert wrong(watched, 100 * MIB, 64 * MIB) == []


@pytest.mark.parametrize(
    ("held", "rss", "said"),
    [
        (66 * MIB, 150 * MIB, "proxy held 69206016 bytes, 67108864 are allowed"),
        (20 * MIB, 150 * MIB, "the load was too small"),
        (40 * MIB, 300 * MIB, "proxy took 200.0 MiB for 64 MiB of calls"),
    ],
)
def test_what_is_too_much_is_named(watched: Watched, held: int, rss: int, said: str) -> None:
    """By the account, and by the kernel's; a load that fills nothing proves nothing."""
    watched.samples = [Held(one.at, rss, {"held": held}) for one in watched.samples]
    (found,) = wrong(watched, 100 * MIB, 64 * MIB)
    assert said in found


def test_a_load_that_has_room_proves_nothing(watched: Watched) -> None:
    """Where nothing was dropped, and no flow had to go, the bound was never reached."""
    watched.samples[-1] = Held(LONG, 150 * MIB, {"held": 40 * MIB, "dropped": 0})
    (found,) = wrong(watched, 100 * MIB, 64 * MIB)
    assert "had room for all calls" in found


def test_growth_is_named(watched: Watched) -> None:
    """A process that takes more and more while it holds the same is one that leaks, however slowly."""
    watched.samples = [Held(one.at, int((100 + 2 * one.at) * MIB), one.seen) for one in watched.samples]
    (found,) = wrong(watched, 100 * MIB, 64 * MIB)
    assert "grew from" in found


def test_calls_that_fail_and_errors_are_named(watched: Watched) -> None:
    """The first of each is told."""
    watched.wrong, watched.lines = ["503 b''", "x"], ["ERROR something"]
    assert wrong(watched, 100 * MIB, 64 * MIB) == ["proxy: 503 b'', and 1 more", "proxy said: ERROR something"]
