"""What an event loop still has to do later: no loop tells, so it is noted when it is asked for."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Timers:
    """Those that a loop was asked for since `noted`."""

    _made: dict[asyncio.TimerHandle, Callable[[], object]] = field(default_factory=dict)

    def note(self, ask: Callable[..., asyncio.TimerHandle]) -> Callable[..., asyncio.TimerHandle]:
        """A way to ask for a timer, as one that is noted."""

        def noting(when: float, callback: Callable[..., object], *arguments: Any, **rest: Any) -> asyncio.TimerHandle:
            made = ask(when, callback, *arguments, **rest)
            self._made[made] = lambda: callback(*arguments)
            return made

        return noting

    @property
    def pending(self) -> list[asyncio.TimerHandle]:
        """Those that nobody has cancelled."""
        return [made for made in self._made if not made.cancelled()]

    def fire(self) -> None:
        """The time of the only one has come."""
        (timer,) = self.pending
        timer.cancel()
        self._made[timer]()


def noted(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """The timers of the running loop from now on."""
    timers, loop = Timers(), asyncio.get_running_loop()
    for name in ("call_later", "call_at"):
        monkeypatch.setattr(loop, name, timers.note(getattr(loop, name)))
    return timers
