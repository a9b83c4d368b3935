"""Which of several addresses a call goes to."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Protocol

from inferbridge.upstream.api import Pool
from inferbridge.upstream.breaker import Breaker


class AddressPool(Pool, Protocol):
    """The connections to one address."""

    url: str
    breaker: Breaker

    @property
    def outstanding(self) -> int:
        """Calls in flight and waiting."""

    @property
    def connections(self) -> int:
        """Open connections."""


class Member:
    """One address among others."""

    __slots__ = ("healthy", "misses", "pool")

    def __init__(self, pool: AddressPool) -> None:
        self.pool = pool
        self.healthy = True
        """As health checks say; the breaker has a say of its own."""
        self.misses = 0
        """Health checks in a row that failed."""

    @property
    def admits(self) -> bool:
        """Its breaker lets a call through."""
        breaker = self.pool.breaker
        return breaker.closed or breaker.admits


def pick(members: Sequence[Member], turn: int, key: str = "") -> Member | None:
    """The member for a call, None if there is none that takes one.

    It is that of the `key`, if there is a key, and else the one with the fewest calls; among equals they take turns.
    Members that are not healthy are left out unless that would leave none: what they all have may well be a fault of
    the check.
    """
    able = [member for member in members if member.admits]
    fit = [member for member in able if member.healthy] or able
    if not fit:
        return None
    if key:
        return max(fit, key=lambda member: _weight(key, member.pool.url))
    first = turn % len(fit)
    return min((*fit[first:], *fit[:first]), key=lambda member: member.pool.outstanding)


def _weight(key: str, url: str) -> bytes:
    """Rendezvous hashing: when a member goes, only its own keys move, and come back with it."""
    return blake2b(f"{key}\0{url}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
