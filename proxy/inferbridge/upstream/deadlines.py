"""Ends calls whose time is over.

Nearly all calls to a runtime have the same timeout, so the one that began first is the first to end. The calls of one
timeout therefore share a timer, set for the oldest of them, and a call that is answered in time costs an entry in a
dict instead of a timer of its own. Timeouts are the clients' to choose: beyond `_SHARED` different ones at a time, a
call gets its own timer, so that what strangers send leaves nothing behind.
"""

import asyncio
from typing import Final

from inferbridge.upstream.call import ActiveCall

_SHARED: Final = 64
_EARLY_SECONDS: Final = 0.001
"""Timers may fire by the clock's resolution too early."""


class Deadlines:
    """The calls of one pool that have a deadline."""

    def __init__(self) -> None:
        self._groups: dict[float, _Group] = {}

    def watch(self, call: ActiveCall, timeout: float) -> None:
        """Expire `call` in `timeout` seconds unless it is finished by then."""
        loop = asyncio.get_running_loop()
        group = self._groups.get(timeout)
        if group is None:
            if len(self._groups) >= _SHARED:
                call.timer = loop.call_later(timeout, call.expire, timeout)
                return
            group = self._groups[timeout] = _Group(self._groups, timeout)
        calls = call.watched = group.calls
        calls[call] = deadline = loop.time() + timeout
        if group.timer is None:
            group.timer = loop.call_at(deadline, group.sweep, loop)

    def close(self) -> None:
        """Expire nothing any more."""
        for group in self._groups.values():
            if group.timer is not None:
                group.timer.cancel()
        self._groups.clear()


class _Group:
    """The calls of one timeout, oldest first; removes itself when its timer finds none."""

    def __init__(self, groups: "dict[float, _Group]", timeout: float) -> None:
        self._groups = groups
        self._timeout = timeout
        self.calls: dict[ActiveCall, float] = {}
        """The deadline of each on the loop's clock."""
        self.timer: asyncio.TimerHandle | None = None

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        now = loop.time() + _EARLY_SECONDS
        for call in [call for call, deadline in self.calls.items() if deadline <= now]:
            call.expire(self._timeout)
        if self.timer is not None:  # what came free has started a call
            return
        if self.calls:
            self.timer = loop.call_at(next(iter(self.calls.values())), self.sweep, loop)
        else:
            self._groups.pop(self._timeout, None)
