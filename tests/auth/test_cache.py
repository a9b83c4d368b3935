"""Answers about credentials are kept for a while, and asked for once."""

import asyncio

import pytest

from inferbridge.auth.authenticator import CannotAuthenticate, Unauthenticated
from inferbridge.auth.cache import AnswerCache
from inferbridge.auth.identity import Identity

KEY = (b"digest",)


class Clock:
    """Time that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_hundred_callers_ask_once() -> None:
    """Single flight: all get the one answer, and a caller that leaves takes it from nobody."""
    cache, asked, answer = AnswerCache(60), 0, asyncio.Event()

    async def question() -> Identity:
        nonlocal asked
        asked += 1
        await answer.wait()
        return Identity("alice")

    callers = [asyncio.ensure_future(cache.ask(KEY, question)) for _ in range(100)]
    await asyncio.sleep(0)
    callers[0].cancel()
    await asyncio.sleep(0)
    answer.set()
    found = await asyncio.gather(*callers[1:])
    assert asked == 1
    assert len({id(identity) for identity in found}) == 1
    assert cache.find(KEY) is found[0]


async def test_an_identity_is_kept_for_its_time_and_never_longer_than_its_credential() -> None:
    """The shorter of the cache's time and the credential's own."""
    clock = Clock()
    cache = AnswerCache(60, now=clock)

    async def lasting(expires: float | None) -> Identity:
        return Identity("alice", expires_at=expires)

    for expires, kept in ((None, 60), (1030.0, 30), (9999.0, 60)):
        clock.now = 1000.0
        await cache.ask(KEY, lambda expires=expires: lasting(expires))  # type: ignore[misc]  # a default binds it
        clock.now = 1000.0 + kept - 0.1
        assert cache.find(KEY) is not None
        clock.now = 1000.0 + kept
        assert cache.find(KEY) is None


async def test_a_refusal_is_kept_for_its_shorter_time_and_raised_anew() -> None:
    """A stranger who repeats a bad token does not make anybody ask each time."""
    clock = Clock()
    cache = AnswerCache(60, 10, now=clock)

    async def refuse() -> Identity:
        raise Unauthenticated("unknown")

    with pytest.raises(Unauthenticated):
        await cache.ask(KEY, refuse)
    with pytest.raises(Unauthenticated) as first:
        cache.find(KEY)
    with pytest.raises(Unauthenticated) as second:
        cache.find(KEY)
    assert first.value is not second.value
    clock.now += 10
    assert cache.find(KEY) is None


async def test_a_failure_to_ask_is_not_kept() -> None:
    """The next caller asks again."""
    cache = AnswerCache(60)

    async def fail() -> Identity:
        raise CannotAuthenticate("down")

    for _ in range(2):
        with pytest.raises(CannotAuthenticate):
            await cache.ask(KEY, fail)
        assert cache.find(KEY) is None


async def test_the_least_recently_used_are_forgotten_first() -> None:
    """However many credentials strangers make up, memory is bounded."""
    cache = AnswerCache(60, entries=2)

    async def somebody() -> Identity:
        return Identity("alice")

    for name in (b"1", b"2"):
        await cache.ask((name,), somebody)
    assert cache.find((b"1",)) is not None
    await cache.ask((b"3",), somebody)
    assert [cache.find((name,)) is not None for name in (b"1", b"2", b"3")] == [True, False, True]
