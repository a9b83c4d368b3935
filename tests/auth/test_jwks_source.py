"""How long fetched keys count, with an issuer in memory and a clock that is moved."""

import asyncio
import logging

import pytest

from auth.asking import NOON, Clock
from auth.issuer import signing_key
from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.auth.jwks import KeySet, key_set
from inferbridge.auth.jwks_source import CACHE, PAUSE, RETRY, SOON, STALE, FetchedKeys


class Published:
    """An issuer: what it answers, how often it was asked, and a gate that can be shut."""

    def __init__(self) -> None:
        self.names: list[str] = ["first"]
        self.down = False
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self) -> KeySet:
        """What FetchedKeys asks."""
        self.asked += 1
        await self.gate.wait()
        if self.down:
            raise CannotAuthenticate("issuer.example: connection refused")
        return key_set({"keys": [signing_key(name).public for name in self.names]})


def names(keys: KeySet | None) -> list[str | None] | None:
    """The names of keys."""
    return None if keys is None else [key.key_id for key in keys.keys]


async def settled(keys: FetchedKeys) -> None:
    """What is fetched behind the callers' backs has come."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert keys._fetching is None


async def fetched(published: Published, clock: Clock) -> FetchedKeys:
    """Keys that were fetched at noon."""
    keys = FetchedKeys("issuer.example", published.fetch, clock)
    assert keys.known() is None
    await keys.fetched()
    assert (published.asked, clock.time) == (1, NOON)
    return keys


async def test_nobody_is_asked_before_there_is_a_token() -> None:
    """Opening keys asks nobody; the first caller waits for them."""
    published, clock = Published(), Clock()
    keys = FetchedKeys("issuer.example", published.fetch, clock)
    assert (keys.known(), published.asked) == (None, 0)
    assert names(await keys.fetched()) == ["first"]
    assert names(keys.known()) == ["first"]


async def test_many_callers_ask_once() -> None:
    """A hundred callers wait for one question, and one that leaves takes the answer from nobody."""
    published = Published()
    published.gate.clear()
    keys = FetchedKeys("issuer.example", published.fetch, Clock())
    waiting = [asyncio.ensure_future(keys.fetched()) for _ in range(100)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    published.gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert published.asked == 1
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(each, KeySet) for each in found[1:])


async def test_keys_are_renewed_before_anybody_must_wait() -> None:
    """After four minutes they are fetched again while they still count; callers are answered at once."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.names = ["second"]
    clock.time += SOON - 1
    assert names(keys.known()) == ["first"]
    await settled(keys)
    assert published.asked == 1
    clock.time += 1
    assert names(keys.known()) == ["first"]
    assert names(keys.known()) == ["first"]
    await settled(keys)
    assert (names(keys.known()), published.asked) == (["second"], 2)


async def test_keys_that_were_not_asked_about_do_not_count() -> None:
    """After five minutes without callers the next one waits, so that a key taken back lets nobody in."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.names = ["second"]
    clock.time += CACHE
    assert keys.known() is None
    assert names(await keys.fetched()) == ["second"]


async def test_keys_that_say_the_same_stay_the_same_object() -> None:
    """What was worked out for a set of keys holds as long as nothing changes."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    before = keys.known()
    clock.time += CACHE
    assert await keys.fetched() is before


async def test_keys_outlive_their_issuer_for_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """While the issuer is down the last keys count for an hour; it is tried twice a minute and logged once."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.down = True
    clock.time += CACHE
    assert names(await keys.fetched()) == ["first"]
    while clock.time < NOON + STALE - PAUSE:
        clock.time += PAUSE
        assert names(keys.known()) == ["first"]
        await settled(keys)
    assert published.asked == 2 + (STALE - PAUSE - CACHE) / PAUSE
    clock.time = NOON + STALE
    assert keys.known() is None
    asked = published.asked
    for _ in range(10):
        with pytest.raises(CannotAuthenticate, match="not available"):
            await keys.fetched()
    assert published.asked == asked + 1
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "still count: issuer.example: connection refused" in errors[0]
    assert "no token can be verified: issuer.example: connection refused" in errors[1]


async def test_after_a_quiet_time_an_issuer_is_tried_before_old_keys_count() -> None:
    """An outage that nobody watched is no reason to trust old keys: the first caller waits for one try."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.down = True
    clock.time += CACHE
    await keys.fetched()
    published.down, published.names = False, ["second"]
    clock.time += CACHE
    assert keys.known() is None
    assert names(await keys.fetched()) == ["second"]


async def test_without_any_keys_callers_are_told_to_come_back(caplog: pytest.LogCaptureFixture) -> None:
    """An issuer that was never reached means "not available", without asking it for each caller; then it recovers."""
    published, clock = Published(), Clock()
    published.down = True
    keys = FetchedKeys("issuer.example", published.fetch, clock)
    for _ in range(10):
        with pytest.raises(CannotAuthenticate) as caught:
            await keys.fetched()
        assert "connection refused" in caught.value.detail
    assert published.asked == 1
    assert "no token can be verified" in caplog.text
    published.down = False
    clock.time += RETRY
    assert names(await keys.fetched()) == ["first"]


async def test_a_missing_key_is_looked_for_once_in_a_while() -> None:
    """A thousand unknown keys cause one search in half a minute; those that come while it runs share it."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.names = ["first", "second"]
    published.gate.clear()
    assert all(keys.search() for _ in range(1000))
    waiting = [asyncio.ensure_future(keys.fetched()) for _ in range(1000)]
    await asyncio.sleep(0)
    published.gate.set()
    assert all(names(found) == ["first", "second"] for found in await asyncio.gather(*waiting))
    assert published.asked == 2
    clock.time += PAUSE - 1
    assert not keys.search()
    clock.time += 1
    assert keys.search()
    await keys.fetched()
    assert published.asked == 3


async def test_a_search_may_end_before_anybody_waits_for_it() -> None:
    """Who waits for keys that have come meanwhile gets them without another question."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.names = ["second"]
    assert keys.search()
    await settled(keys)
    assert (names(await keys.fetched()), published.asked) == (["second"], 2)


async def test_a_search_that_fails_takes_no_keys_away() -> None:
    """While the issuer is down, looking for an unknown key leaves the known ones as they are."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.down = True
    assert keys.search()
    assert names(await keys.fetched()) == ["first"]
    assert names(keys.known()) == ["first"]


async def test_an_issuer_that_takes_all_keys_back_is_believed() -> None:
    """An empty key set is an answer, not an outage."""
    published, clock = Published(), Clock()
    keys = await fetched(published, clock)
    published.names = []
    clock.time += CACHE
    assert names(await keys.fetched()) == []


async def test_closing_stops_what_is_being_fetched() -> None:
    """No task outlives the gateway."""
    published = Published()
    published.gate.clear()
    keys = FetchedKeys("issuer.example", published.fetch, Clock())
    waiting = asyncio.ensure_future(keys.fetched())
    await asyncio.sleep(0)
    await keys.close()
    assert asyncio.all_tasks() <= {asyncio.current_task(), waiting}
    with pytest.raises(asyncio.CancelledError):
        await waiting
