"""Answers about credentials, kept for a while; and one question for however many callers wait for it.

    ask ──▶ fresh? ──yes──▶ the answer, at once
              └─no─▶ being asked? ──yes──▶ wait with the others
                          └─no──▶ ask, keep what comes

A refusal (401 and 403 alike) is an answer too and is kept like one, for its own (shorter) time. A failure to ask is
kept for nobody. An answer that is the same as before is the same object too: callers remember what follows from it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import Identity
from inferbridge.auth.rules import Forbidden

ENTRIES = 10_000

type Key = tuple[bytes, ...]
type Looked = Callable[[bool], None]
"""Is told whether the answer was there."""


class AnswerCache:
    """Identities and refusals by the digest of a credential; the least recently used go first."""

    def __init__(
        self,
        seconds: float,
        refused_seconds: float = 10.0,
        *,
        entries: int = ENTRIES,
        now: Callable[[], float] = time.time,
        looked: Looked = lambda hit: None,
    ) -> None:
        """`now` is seconds since 1970, as in `Identity.expires_at`; `looked` hears of each look into the cache."""
        self._looked = looked
        self._seconds = seconds
        self._refused_seconds = refused_seconds
        self._entries = entries
        self._now = now
        self._kept: OrderedDict[Key, tuple[float, Identity | Unauthenticated | Forbidden]] = OrderedDict()
        self._asking: dict[Key, asyncio.Future[Identity]] = {}

    def find(self, key: Key) -> Identity | None:
        """What is known; None when it must be asked. Raises a refusal that is known."""
        entry = self._kept.get(key)
        if entry is None or entry[0] <= self._now():
            self._looked(False)
            return None
        self._looked(True)
        self._kept.move_to_end(key)
        if not isinstance(entry[1], Identity):
            raise _again(entry[1])
        return entry[1]

    async def ask(self, key: Key, question: Callable[[], Awaitable[Identity]]) -> Identity:
        """The answer to a question that nobody else is asking already; raises what it raises."""
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._put(key, question))
            asking.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(asking)  # one caller that leaves takes the answer from nobody

    def _asked(self, key: Key, done: "asyncio.Future[Identity]") -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # told to whoever still waits

    async def _put(self, key: Key, question: Callable[[], Awaitable[Identity]]) -> Identity:
        try:
            identity = await question()
        except (Unauthenticated, Forbidden) as refusal:
            self._keep(key, self._now() + self._refused_seconds, _again(refusal))
            raise
        before = self._kept.get(key)
        if before is not None and before[1] == identity:
            identity = before[1]
        expires = identity.expires_at
        until = self._now() + self._seconds
        self._keep(key, until if expires is None else min(until, expires), identity)
        return identity

    def _keep(self, key: Key, until: float, outcome: Identity | Unauthenticated | Forbidden) -> None:
        self._kept[key] = (until, outcome)
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)


def _again(refusal: Unauthenticated | Forbidden) -> Unauthenticated | Forbidden:
    """A new one of the same: raising one object over and over would pile up tracebacks in it."""
    if isinstance(refusal, Unauthenticated):
        return Unauthenticated(refusal.reason, refusal.detail)
    return Forbidden(refusal.message)
