"""Rate limits of identities, with a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inferbridge.auth.identity import Identity
from inferbridge.auth.rates import MINUTE, SECOND, Lease, RateLimiter
from inferbridge.auth.settings import Rates
from inferbridge.bridge.errors import BridgeError, Code

ANN, BOB = Identity("ann", method="keys"), Identity("bob", method="keys")


class Clock:
    """Nanoseconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 7 * MINUTE

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of a limiter."""
    return Clock()


def tried(limiter: RateLimiter, rates: Rates, identity: Identity = ANN) -> Lease | BridgeError:
    """The lease of a call, or why it is not let in."""
    try:
        return limiter.lease(identity, rates)
    except BridgeError as error:
        return error


def refused(limiter: RateLimiter, rates: Rates, identity: Identity = ANN) -> BridgeError:
    """Why a call is not let in."""
    with pytest.raises(BridgeError) as caught:
        limiter.lease(identity, rates)
    return caught.value


def test_a_refusal_names_the_limit_and_when_to_try_again(clock: Clock) -> None:
    """The third of two requests a minute is told so, as RESOURCE_EXHAUSTED and 429, with the seconds until one is."""
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=2)
    for _ in range(2):
        limiter.lease(ANN, rates).give_back()
    error = refused(limiter, rates)
    assert (error.code, error.status, error.retry_after) == (Code.RESOURCE_EXHAUSTED, 429, 30)
    assert error.message == "too many requests for this caller: at most 2 a minute; try again in 30 s"
    clock.now += 30 * SECOND - 1
    assert refused(limiter, rates).retry_after == 1
    clock.now += 1
    limiter.lease(ANN, rates)


def test_a_pause_saves_nothing_up(clock: Clock) -> None:
    """After an hour without calls there is one minute's worth of requests, as at the beginning."""
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=2)
    for _ in range(2):
        limiter.lease(ANN, rates).give_back()
        clock.now += 60 * MINUTE
    for _ in range(2):
        limiter.lease(ANN, rates).give_back()
    assert refused(limiter, rates).retry_after == 30


def test_calls_at_one_time_are_bounded_until_one_ends(clock: Clock) -> None:
    """A call waits for another to be given back, and a refused one takes nothing from the minute's requests."""
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=3, concurrent_calls=1)
    first = limiter.lease(ANN, rates)
    for _ in range(5):
        error = refused(limiter, rates)
    assert error.retry_after == 1
    assert error.message.startswith("too many calls at one time for this caller: at most 1;")
    first.give_back()
    second = limiter.lease(ANN, rates)
    first.give_back()  # once more does nothing
    assert "at one time" in refused(limiter, rates).message
    second.give_back()
    limiter.lease(ANN, rates).give_back()
    assert "requests" in refused(limiter, rates).message


def test_tokens_are_owed_when_they_are_known(clock: Clock) -> None:
    """A call is let in while a token is left; what it used beyond that must drip in before the next one is."""
    limiter, rates = RateLimiter(now=clock), Rates(tokens_per_minute=60)
    lease = limiter.lease(ANN, rates)
    lease.book(59)
    limiter.lease(ANN, rates)
    lease.book(30)
    lease.give_back()
    lease.book(1)  # known only after the end
    error = refused(limiter, rates)
    assert error.retry_after == 31
    assert error.message.startswith("too many tokens for this caller: at most 60 a minute;")
    clock.now += 31 * SECOND
    limiter.lease(ANN, rates)


def test_a_further_request_of_a_call_counts_as_any_other(clock: Clock) -> None:
    """What a stream asks for is limited within the call, without another call at one time."""
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=2, concurrent_calls=1)
    lease = limiter.lease(ANN, rates)
    lease.request()
    with pytest.raises(BridgeError, match="too many requests"):
        lease.request()


@pytest.mark.parametrize("other", [BOB, Identity("ann", method="jwt")])
def test_identities_do_not_disturb_each_other(clock: Clock, other: Identity) -> None:
    """Whoever has another name, or the same name by another authenticator, has an account of its own."""
    limiter, rates = RateLimiter(now=clock), Rates(1, 1, 1)
    limiter.lease(ANN, rates).book(5)
    refused(limiter, rates)
    limiter.lease(other, rates)


def test_all_keys_of_a_subject_share_its_account(clock: Clock) -> None:
    """A second credential is no second allowance."""
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=1)
    limiter.lease(Identity("ann", method="keys", key_id="a"), rates)
    refused(limiter, rates, Identity("ann", method="keys", key_id="b"))


def test_rules_are_allowances_of_their_own(clock: Clock) -> None:
    """What one rule allows is not used up by calls that another one does, even where both say the same."""
    limiter = RateLimiter(now=clock)
    first, second = Rates(requests_per_minute=1), Rates(requests_per_minute=1)
    limiter.lease(ANN, first)
    limiter.lease(ANN, second)
    refused(limiter, first)


def test_who_is_quiet_longest_is_forgotten_and_who_calls_never(clock: Clock) -> None:
    """Memory is bounded by the identities without calls; a call in flight keeps its account whatever comes."""
    limiter, rates = RateLimiter(accounts=2, now=clock), Rates(requests_per_minute=1, concurrent_calls=1)
    busy = limiter.lease(ANN, rates)
    people = [Identity(str(number)) for number in range(4)]
    for person in people:
        limiter.lease(person, rates).give_back()
    assert "at one time" in refused(limiter, rates).message
    for person in people[2:]:
        assert "requests" in refused(limiter, rates, person).message
    for person in people[:2]:
        limiter.lease(person, rates)
    busy.give_back()
    assert "requests" in refused(limiter, rates).message


@given(
    st.integers(1, 20),
    st.lists(st.one_of(st.just(0), st.integers(0, SECOND), st.integers(0, 3 * MINUTE)), min_size=1, max_size=200),
    st.integers(1, 120),
)
def test_never_more_than_the_limit_and_the_burst(limit: int, steps: list[int], seconds: int) -> None:
    """Whatever the times of the calls, any window lets through no more than a full bucket and what drips into it."""
    clock = Clock()
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=limit)
    admitted = []
    for step in steps:
        clock.now += step
        found = tried(limiter, rates)
        if isinstance(found, Lease):
            found.give_back()
            admitted.append(clock.now)
        else:
            assert found.retry_after in range(1, 61)
    window = seconds * SECOND
    for start in admitted:
        count = sum(start <= at <= start + window for at in admitted)
        assert count * MINUTE <= limit * MINUTE + window * limit


@given(st.integers(1, 5000), st.integers(0, MINUTE))
def test_steady_use_at_the_limit_is_never_refused(limit: int, offset: int) -> None:
    """A full minute's requests at once, and one for each share of a minute after that, are all let in."""
    clock = Clock()
    clock.now += offset
    limiter, rates = RateLimiter(now=clock), Rates(requests_per_minute=limit)
    for _ in range(limit):
        limiter.lease(ANN, rates).give_back()
    for _ in range(50):
        clock.now += -(-MINUTE // limit)
        limiter.lease(ANN, rates).give_back()


@given(st.integers(1, 1000), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, MINUTE)), max_size=50))
def test_after_the_time_it_was_told_a_call_is_let_in(limit: int, calls: list[tuple[int, int]]) -> None:
    """`retry_after` is enough, and a second less is not, however deep the debt."""
    clock = Clock()
    limiter, rates = RateLimiter(now=clock), Rates(tokens_per_minute=limit)
    for tokens, step in calls:
        clock.now += step
        found = tried(limiter, rates)
        if isinstance(found, BridgeError):
            assert found.retry_after is not None
            clock.now += (found.retry_after - 1) * SECOND
            assert refused(limiter, rates).retry_after == 1
            clock.now += SECOND
            found = limiter.lease(ANN, rates)
        found.book(tokens)
        found.give_back()


class Accounts(RuleBasedStateMachine):
    """Some identities under one rule, compared with plain counting."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.rates = Rates(requests_per_minute=1000, concurrent_calls=3, tokens_per_minute=600)
        self.limiter = RateLimiter(accounts=2, now=self.clock)
        self.open: list[tuple[str, Lease]] = []
        self.ended: list[Lease] = []

    def calls(self, name: str) -> int:
        return sum(name == owner for owner, _ in self.open)

    @rule(name=st.sampled_from("abcd"))
    def call(self, name: str) -> None:
        """Let in unless there are three, or the tokens are used up."""
        found = tried(self.limiter, self.rates, Identity(name))
        if isinstance(found, Lease):
            assert self.calls(name) < 3
            self.open.append((name, found))
        else:
            assert self.calls(name) == 3 or "tokens" in found.message

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """One of the calls is over."""
        _, lease = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        lease.give_back()
        self.ended.append(lease)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), tokens=st.integers(0, 100))
    def late(self, data: st.DataObject, tokens: int) -> None:
        """What is over ends once more, and says late what it used."""
        lease = self.ended[data.draw(st.integers(0, len(self.ended) - 1))]
        lease.book(tokens)
        lease.give_back()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), tokens=st.integers(0, 400))
    def book(self, data: st.DataObject, tokens: int) -> None:
        """A call says what it used."""
        self.open[data.draw(st.integers(0, len(self.open) - 1))][1].book(tokens)

    @rule(nanoseconds=st.integers(0, MINUTE))
    def wait(self, nanoseconds: int) -> None:
        """Time passes."""
        self.clock.now += nanoseconds

    @invariant()
    def accounts(self) -> None:
        """The busy ones are those with calls, with their number, and few others are kept."""
        busy = {key[1]: account.calls for key, account in self.limiter._busy.items()}
        assert busy == {name: self.calls(name) for name in {owner for owner, _ in self.open}}
        assert len(self.limiter._quiet) <= 2
        assert all(account.calls == 0 for account in self.limiter._quiet.values())


TestAccounts = Accounts.TestCase
TestAccounts.__doc__ = "A lease counts once from the call to its end, whatever the order of calls, ends and bookings."
