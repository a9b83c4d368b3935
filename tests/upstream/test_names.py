"""Names that are looked up again and again, with a resolver that a test scripts."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from inferbridge.upstream import names
from inferbridge.upstream.address import Address, parse_address
from inferbridge.upstream.names import Names, system_lookup

PLACE = parse_address("grpc://replicas:8001")


class Bench:
    """What the resolver says, and what was heard of it."""

    def __init__(self) -> None:
        self.answer: Sequence[tuple[str, int]] | OSError = ()
        self.hold: asyncio.Event | None = None
        self.lookups = 0
        self.heard: asyncio.Queue[tuple[str, ...] | str] = asyncio.Queue()
        self.names = Names(
            (PLACE,),
            3600,
            lambda found: self.heard.put_nowait(tuple(map(str, found))),
            self.heard.put_nowait,
            self.lookup,
        )

    async def lookup(self, host: str, port: int) -> Sequence[tuple[str, int]]:
        self.lookups += 1
        if self.hold is not None:
            await self.hold.wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer

    async def look(self) -> tuple[str, ...] | str:
        self.names.look()
        return await asyncio.wait_for(self.heard.get(), 10)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """One name."""
    one = Bench()
    yield one
    await one.names.close()


async def test_all_addresses_of_a_name_are_found_and_found_anew(bench: Bench) -> None:
    """As they are at that time; what is said there stays the name's."""
    bench.answer = [("10.0.0.1", 8001), ("fd00::1", 8001)]
    assert await bench.look() == ("grpc://10.0.0.1:8001", "grpc://[fd00::1]:8001")
    bench.answer = [("10.0.0.2", 8001)]
    assert await bench.look() == ("grpc://10.0.0.2:8001",)
    assert Address("grpc", "replicas", 8001, ("10.0.0.2", 8001)).authority == "replicas:8001"


async def test_a_lookup_that_fails_changes_nothing_once_there_are_addresses(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Before, its reason is told; afterwards the addresses stay, and the log says why."""
    bench.answer = socket.gaierror(-2, "Name or service not known")
    assert await bench.look() == "cannot look up replicas: name or service not known"
    bench.answer = [("10.0.0.1", 8001)]
    await bench.look()
    bench.answer = socket.gaierror(-2, "Name or service not known")
    assert await bench.look() == ("grpc://10.0.0.1:8001",)
    assert caplog.messages == ["cannot look up replicas: name or service not known"] * 2


async def test_a_resolver_that_hangs_is_asked_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the time is over, there is one thread that waits; its answer counts when it comes."""
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 0.01)
    bench.hold = asyncio.Event()
    bench.answer = [("10.0.0.1", 8001)]
    for _ in range(3):
        assert await bench.look() == "cannot look up replicas: no answer within 0.01 s"
    assert bench.lookups == 1
    monkeypatch.setattr(names, "LOOKUP_SECONDS", 10.0)
    bench.hold.set()
    assert await bench.look() == ("grpc://10.0.0.1:8001",)


async def test_the_next_lookup_comes_by_itself(bench: Bench) -> None:
    """After the time that is set."""
    bench.names._seconds = 0.01
    bench.answer = [("10.0.0.1", 8001)]
    await bench.look()
    await asyncio.wait_for(bench.heard.get(), 10)
    assert bench.lookups >= 2


async def test_the_system_resolves() -> None:
    """Addresses stand for themselves, once each."""
    assert await system_lookup("127.0.0.1", 80) == [("127.0.0.1", 80)]
