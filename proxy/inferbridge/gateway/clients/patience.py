"""Clients that take their time: how long a connection waits for them.

A client owes the rest of a head, the rest of a body, or that it takes the answer it asked for. Debts are sampled, so
that a call pays nothing for this: at each look a connection says what it is owed, and how many bytes of that were paid.

    look ──▶ debts ──▶ left = min(limit, left - seconds since the last look + bytes paid since then / RATE)
                         └─ left <= 0 ──▶ overdue

A debt that is gone at a look begins anew. A head has its time and no more; a body and an answer get back what they pay,
so that large ones may take long, and bytes that only trickle do not help.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from inferbridge.gateway.limits import Limits

RATE = 500
"""Bytes a second that keep a body or an answer alive."""

type Kind = Literal["header", "body", "stall"]


class Debt(NamedTuple):
    """What a client owes."""

    kind: Kind
    of: int
    """Tells one head or call from the next."""
    paid: int = 0
    """Bytes so far."""


class Patience:
    """With one connection."""

    def __init__(self, limits: Limits) -> None:
        self._limits: dict[Kind, float] = {
            "header": limits.header_seconds,
            "body": limits.body_seconds,
            "stall": limits.stall_seconds,
        }
        self._left: dict[tuple[Kind, int], tuple[float, int]] = {}
        """Seconds left of each debt, and what was paid by the last look."""

    def look(self, debts: Iterable[Debt], elapsed: float) -> list[Debt]:
        """Those that are overdue now, `elapsed` seconds after the last look."""
        before, self._left, overdue = self._left, {}, []
        for debt in debts:
            kind, of, paid = debt
            limit = self._limits[kind]
            known = before.get((kind, of))
            left = limit if known is None else min(limit, known[0] - elapsed + (paid - known[1]) / RATE)
            self._left[kind, of] = left, paid
            if left <= 0:
                overdue.append(debt)
        return overdue
