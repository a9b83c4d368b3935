"""How long a connection waits for its client, by a scripted clock."""

import dataclasses

import pytest

from inferbridge.gateway.clients.patience import RATE, Debt, Kind, Patience
from inferbridge.gateway.limits import Limits

LIMITS = dataclasses.replace(Limits(), header_seconds=3, body_seconds=4, stall_seconds=5)


def looks(patience: Patience, kind: Kind, each_pays: int) -> int:
    """Looks, a second apart, until the debt is overdue; 100 if it never is."""
    for count in range(100):
        if patience.look([Debt(kind, 1, count * each_pays)], 1.0):
            return count
    return 100


@pytest.mark.parametrize(("kind", "seconds"), [("header", 3), ("body", 4), ("stall", 5)])
def test_what_is_not_paid_is_overdue_after_its_time(kind: Kind, seconds: int) -> None:
    """Each kind of debt has its own limit."""
    assert looks(Patience(LIMITS), kind, 0) == seconds


def test_a_trickle_does_not_help() -> None:
    """Half of the rate doubles the time, the rate itself keeps a debt alive."""
    assert looks(Patience(LIMITS), "body", RATE // 2) == 8
    assert looks(Patience(LIMITS), "body", RATE) == 100


def test_a_burst_buys_no_time() -> None:
    """However much was paid at once, the debt is overdue its limit later."""
    patience = Patience(LIMITS)
    patience.look([Debt("body", 1, 0)], 1.0)
    patience.look([Debt("body", 1, 1 << 30)], 1.0)
    found = [bool(patience.look([Debt("body", 1, 1 << 30)], 1.0)) for _ in range(4)]
    assert found == [False, False, False, True]


def test_another_debt_has_its_own_time() -> None:
    """The next head begins anew, and so does one that was gone in between."""
    patience = Patience(LIMITS)
    for number in range(10):
        assert patience.look([Debt("header", number)], 2.0) == []
    for _ in range(10):
        assert patience.look([Debt("header", 99)], 2.0) == []
        assert patience.look([], 2.0) == []
