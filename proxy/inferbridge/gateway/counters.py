"""What the gateway counts. Who keeps the numbers, and who reads them, is not its concern."""

from typing import Protocol


class Counters(Protocol):
    """Takes counts. Every text comes from the specs or the configuration, never from a client."""

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """Fields that one call has lost: what was asked for, the client's API and the runtime that was to answer."""


class NoCounters:
    """Keeps no numbers."""

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """Not counted."""


NO_COUNTERS = NoCounters()
