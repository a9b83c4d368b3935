"""Notices that the runtime at the other end of an HTTP/2 connection hangs, or that its machine is gone.

Such a peer says nothing, and neither does one that works on an answer. So a connection with calls on which nothing has
come for `PING_SECONDS` is asked for a sign of life, and is dead when none comes. gRPC servers close connections that
ask more than three times without data of theirs in between, unless five minutes pass each time (grpc-go: MinTime,
C-core: min_recv_ping_interval_without_data_ms). So within one silence a second PING comes that much later.

    listening -- something came ----------------> listening
    listening -- silence, calls are running ----> asked        a PING is sent
    asked     -- something came ----------------> listening    with no PING for `NEXT_PING_SECONDS` of the same silence
    asked     -- nothing in PING_ANSWER_SECONDS -> dead
"""

import asyncio
from collections.abc import Callable
from typing import Final

PING_SECONDS: Final = 30.0
PING_ANSWER_SECONDS: Final = 10.0
NEXT_PING_SECONDS: Final = 330.0


class Watch:
    """That over one connection."""

    __slots__ = ("_ask", "_asked", "_dead", "_is_busy", "_loop", "_next_ping", "_timer", "heard")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        is_busy: Callable[[], bool],
        ask: Callable[[], None],
        dead: Callable[[str], None],
    ) -> None:
        """`is_busy`: calls are running; `ask` sends a PING; `dead` hears why the connection is of no more use."""
        self._loop = loop
        self._is_busy = is_busy
        self._ask = ask
        self._dead = dead
        self.heard = False
        """Something has come since this was last looked at; set by the connection for all that comes."""
        self._asked = False
        self._next_ping = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look from now on."""
        self._timer = self._loop.call_later(PING_SECONDS, self.look)

    def stop(self) -> None:
        """The connection is no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self) -> None:
        """Whether there was a sign of life; if not, ask for one."""
        heard, self.heard = self.heard, False
        now = self._loop.time()
        if self._asked and not heard:
            self._dead(f"no answer to a PING within {PING_ANSWER_SECONDS:g} s")
            return
        if self._asked:
            self._next_ping = now + NEXT_PING_SECONDS
        elif heard:
            self._next_ping = 0.0
        self._asked = not heard and now >= self._next_ping and self._is_busy()
        if self._asked:
            self._ask()
        self._timer = self._loop.call_later(PING_ANSWER_SECONDS if self._asked else PING_SECONDS, self.look)
