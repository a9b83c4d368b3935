"""What the gateway counts. Who keeps the numbers, and who reads them, is not its concern."""

from typing import Literal, Protocol

from inferbridge.upstream.api import WatchedPool

type AuthResult = Literal["allowed", "denied", "error"]


class Counters(Protocol):
    """Takes counts. Every text comes from the specs or the configuration, never from a client."""

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """Fields that one call has lost: what was asked for, the client's API and the runtime that was to answer."""

    def auth(self, method: str, result: AuthResult, reason: str) -> None:
        """A client was authenticated by a method of ours, or not: `reason` is one of a few words, "" for none.

        `error` is when nobody could tell, because what had to be asked did not answer.
        """

    def auth_cache(self, cache: str, hit: bool) -> None:
        """A known answer about a credential was looked for; `cache` is the method of who would have to ask."""

    def retried(self, upstream: str, reason: str) -> None:
        """A call was sent to an upstream again; `reason` is one of a few words."""

    def watch(self, upstream: str, pool: WatchedPool) -> None:
        """There is an upstream, whose connections tell how they are when somebody wants to know."""

    def rejected(self, limit: str) -> None:
        """A client came up against a limit that is not one of a call: named as in the configuration."""

    def abused(self, kind: str) -> None:
        """A client's HTTP/2 connection was ended because it sent too much that costs more to read than to send."""


class NoCounters:
    """Keeps no numbers."""

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """Not counted."""

    def auth(self, method: str, result: AuthResult, reason: str) -> None:
        """Not counted."""

    def auth_cache(self, cache: str, hit: bool) -> None:
        """Not counted."""

    def retried(self, upstream: str, reason: str) -> None:
        """Not counted."""

    def watch(self, upstream: str, pool: WatchedPool) -> None:
        """Nobody wants to know."""

    def rejected(self, limit: str) -> None:
        """Not counted."""

    def abused(self, kind: str) -> None:
        """Not counted."""


NO_COUNTERS = NoCounters()
