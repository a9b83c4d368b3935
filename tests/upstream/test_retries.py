"""What may be sent again, and how often."""

import pytest

from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.retries import NoRetries, Reason, Retries, counted

ONCE = UpstreamRequest("POST", "/v1/completions")
AGAIN = UpstreamRequest("GET", "/health", idempotent=True)


class Now:
    """A clock."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize("reason", Reason)
def test_what_may_have_been_worked_on_is_repeated_only_if_idempotent(reason: Reason) -> None:
    """Everything may be sent again that no runtime has looked at, and after a reset only what the spec allows."""
    retries = Retries(now=Now())
    assert retries.admit(reason, ONCE, 1, 1) is (reason is not Reason.RESET)
    assert retries.admit(reason, AGAIN, 1, 1)


@pytest.mark.parametrize("reason", Reason)
def test_a_call_is_sent_twice_at_most(reason: Reason) -> None:
    """There is one retry; of a stream that a server at its limit refused there are two."""
    admitted = [Retries(now=Now()).admit(reason, AGAIN, sent, 100) for sent in (1, 2, 3)]
    assert admitted == [True, reason is Reason.REFUSED, False]


def test_retries_are_a_fifth_of_the_calls() -> None:
    """When every call fails, one in five is sent again, after the few that there are at first."""
    retries = Retries(now=Now())
    admitted = sum(retries.admit(Reason.CONNECT, ONCE, 1, calls) for calls in range(1, 1001))
    assert admitted == pytest.approx(10 + 200, abs=1)


def test_a_quiet_upstream_has_retries_too() -> None:
    """A second brings one, whatever the calls; those of an hour do not add up to more than a hundred."""
    now = Now()
    retries = Retries(now=now)
    while retries.admit(Reason.CONNECT, ONCE, 1, 0):
        pass
    now.seconds += 1
    assert [retries.admit(Reason.CONNECT, ONCE, 1, 0) for _ in range(2)] == [True, False]
    now.seconds += 3600
    assert sum(retries.admit(Reason.CONNECT, ONCE, 1, 0) for _ in range(200)) == 100


def test_who_counts_hears_of_each_retry_and_of_no_refusal() -> None:
    """The reason is told once for each call that is sent again."""
    heard: list[Reason] = []
    retries = Retries(heard.append, Now())
    retries.admit(Reason.GOAWAY, ONCE, 1, 1)
    retries.admit(Reason.RESET, ONCE, 1, 1)
    assert heard == [Reason.GOAWAY]


def test_a_pool_among_others_repeats_nothing_itself() -> None:
    """Its owner has better places to send to."""
    assert not any(NoRetries().admit(reason, AGAIN, 1, 1000) for reason in Reason)


def test_servers_are_told_of_earlier_attempts() -> None:
    """The header of gRFC A6 stands behind the call's own."""
    assert counted((("a", "b"),), 1) == (("a", "b"), ("grpc-previous-rpc-attempts", "1"))
