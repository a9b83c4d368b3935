"""Which address a call goes to, with pools that only say how busy they are."""

from collections import Counter

from inferbridge.bridge.values import Headers
from inferbridge.upstream.api import Call, Receiver, UpstreamRequest
from inferbridge.upstream.breaker import FAILURES, Breaker
from inferbridge.upstream.choosing import Member, pick


async def _never() -> bool:
    return False


class Pool:
    """A pool that takes calls and ends none."""

    def __init__(self, url: str, now: float = 0.0) -> None:
        self.url = url
        self.outstanding = 0
        self.connections = 1
        self.breaker = Breaker(url, _never, lambda: now)

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        raise AssertionError("nothing is sent here")

    async def close(self) -> None:
        await self.breaker.close()


def _members(count: int) -> list[Member]:
    return [Member(Pool(f"http://10.0.0.{number}:8000")) for number in range(count)]


def _pool(member: Member | None) -> Pool:
    assert member is not None
    assert isinstance(member.pool, Pool)
    return member.pool


def test_calls_spread_by_how_many_there_are() -> None:
    """Of those with the fewest calls one is next, so that no address ever has two more than another."""
    members = _members(3)
    _pool(members[1]).outstanding = 5
    for turn in range(10):
        _pool(pick(members, turn)).outstanding += 1
    assert [_pool(member).outstanding for member in members] == [5, 5, 5]


def test_equals_take_turns() -> None:
    """Calls that come one after another do not all go to the first."""
    members = _members(3)
    assert Counter(_pool(pick(members, turn)).url for turn in range(30)) == Counter(
        {_pool(member).url: 10 for member in members}
    )


def test_a_key_stays_where_it_is() -> None:
    """Whatever the load; and different keys are spread."""
    members = _members(4)
    chosen = {key: _pool(pick(members, 0, key)) for key in map(str, range(200))}
    for pool in chosen.values():
        pool.outstanding += 1
    assert all(_pool(pick(members, turn, key)) is pool for turn, (key, pool) in enumerate(chosen.items()))
    assert all(30 <= _pool(member).outstanding <= 70 for member in members)


def test_only_the_keys_of_an_address_that_is_gone_move() -> None:
    """All others have their caches where they were, and so has it when it is back."""
    members = _members(4)
    before = {key: pick(members, 0, key) for key in map(str, range(200))}
    members[2].healthy = False
    for key, member in before.items():
        now = pick(members, 0, key)
        assert (now is member) is (member is not members[2])
    members[2].healthy = True
    assert all(pick(members, 0, key) is member for key, member in before.items())


async def test_an_address_whose_breaker_is_open_gets_nothing() -> None:
    """And when all are open there is no address."""
    members = _members(2)
    for _ in range(FAILURES):
        members[0].pool.breaker.failed("connection refused")
    assert {_pool(pick(members, turn, key)).url for turn in range(5) for key in ("", "a", "b")} == {
        _pool(members[1]).url
    }
    for _ in range(FAILURES):
        members[1].pool.breaker.failed("connection refused")
    assert pick(members, 0) is None
    for member in members:
        await member.pool.close()


def test_when_no_address_is_healthy_all_are_asked() -> None:
    """A health check that fails everywhere is no reason to answer nobody."""
    members = _members(2)
    for member in members:
        member.healthy = False
    assert {_pool(pick(members, turn)).url for turn in range(4)} == {_pool(member).url for member in members}


def test_a_key_may_be_any_bytes() -> None:
    """What a client sends in the header is hashed and nothing else."""
    headers: Headers = (("x-session", "\xff\x80 \u00fc"),)
    assert pick(_members(2), 0, headers[0][1]) is not None
