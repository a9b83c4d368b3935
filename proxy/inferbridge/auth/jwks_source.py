"""Where the keys of an issuer come from, and how long they count.

    none ──fetched──▶ fresh ──SOON──▶ due: fetched again behind the caller's back
     ▲                  ▲               │ fetched: fresh          │ failed
     │                  └───────────────┘                         ▼
     │                                          stale: tried again each PAUSE, behind the caller's back
     └────────────────── STALE after they were fetched ───────────┘

Nobody is let in by keys that were not asked about for CACHE: after a time without callers the first one waits. That
bounds how long a key counts that the issuer has taken back; only while the issuer cannot be asked do the keys it
published last count longer, at most STALE.

A token whose key is not known is a reason to look at once, but anybody can make such tokens: once each PAUSE, or
strangers would drive the issuer. However many callers wait, one question is asked.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.auth.files import WatchedFile
from inferbridge.auth.jwks import KeySet, read_key_set

SOON = 240.0
CACHE = 300.0
PAUSE = 30.0
STALE = 3600.0
RETRY = 1.0
"""Seconds after a failure in which nobody is asked, when no keys are known at all."""

_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """The keys that count now."""

    def known(self) -> KeySet | None:
        """The keys, at once; None when `fetched` must be awaited. The same object while they do not change."""

    def search(self) -> bool:
        """Look again, because a key is missing: await `fetched`. False when that was done a moment ago."""

    async def fetched(self) -> KeySet:
        """The keys, when what is being fetched has come. CannotAuthenticate when they cannot be had."""

    async def close(self) -> None:
        """Let go of connections."""


class FileKeys:
    """Keys in a file that may change. ValueError or OSError when it cannot be read at first."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._file = WatchedFile(path, read_key_set, now=clock)

    def known(self) -> KeySet:
        return self._file.value

    def search(self) -> bool:
        return False

    async def fetched(self) -> KeySet:
        return self._file.value

    async def close(self) -> None:
        pass


class FetchedKeys:
    """Keys that an issuer publishes."""

    def __init__(self, name: str, fetch: Callable[[], Awaitable[KeySet]], clock: Callable[[], float]) -> None:
        """`name` of the issuer, for the log; `fetch` raises CannotAuthenticate; `clock` in seconds, never back."""
        self._name = name
        self._fetch = fetch
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = self._searched_at = self._failed_at = -math.inf
        self._due_at = self._good_until = -math.inf
        self._fetching: asyncio.Task[None] | None = None
        self._failure = self._complaint = ""

    def known(self) -> KeySet | None:
        now = self._clock()
        if now >= self._due_at:
            if now >= self._good_until:
                return None
            self._start()
        return self._keys

    def search(self) -> bool:
        if self._fetching is None:
            now = self._clock()
            if now < self._searched_at + PAUSE:
                return False
            self._searched_at = now
            self._start()
        return True

    async def fetched(self) -> KeySet:
        if self._fetching is not None or self._must_ask():
            await asyncio.shield(self._start())  # one caller that leaves takes the keys from nobody
        if self._keys is None or self._clock() >= self._good_until:
            raise CannotAuthenticate(self._failure)
        return self._keys

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)

    def _must_ask(self) -> bool:
        now = self._clock()
        return now >= self._good_until and (self._keys is not None or now >= self._failed_at + RETRY)

    def _start(self) -> asyncio.Task[None]:
        if self._fetching is None:
            self._fetching = asyncio.ensure_future(self._run())
        return self._fetching

    async def _run(self) -> None:
        try:
            self._keep(await self._fetch())
        except CannotAuthenticate as error:
            self._keep_going(error.detail)
        finally:
            self._fetching = None

    def _keep(self, keys: KeySet) -> None:
        now = self._fetched_at = self._clock()
        self._due_at, self._good_until = now + SOON, now + CACHE
        if keys != self._keys:
            self._keys = keys
            _log.info("%s: %d keys that verify tokens", self._name, len(keys.keys))
        elif self._complaint:
            _log.info("%s: its keys can be fetched again", self._name)
        self._complaint = ""

    def _keep_going(self, failure: str) -> None:
        now = self._failed_at = self._clock()
        if now >= self._fetched_at + STALE:
            self._keys = None
        else:
            self._good_until = min(now + CACHE, self._fetched_at + STALE)
            self._due_at = min(now + PAUSE, self._good_until)
        still = "no token can be verified" if self._keys is None else "those it published last still count"
        complaint = f"its keys cannot be fetched, {still}: {failure}"
        if complaint != self._complaint:
            _log.error("%s: %s", self._name, complaint)
        self._failure, self._complaint = failure, complaint
