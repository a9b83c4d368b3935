"""A circuit breaker: calls to an address that is dead fail at once instead of waiting, and do not hinder its return.

    closed     -- FAILURES connections in a row without an answer --> open
    open       -- after OPEN_SECONDS, or a connection can be opened --> half open
    half open  -- one call is let through: its answer --> closed, its failure --> open

What counts is a connection that cannot be opened, or breaks before it has answered anything: what a client could not
bring about by what it asks for. An answer is a sign of life, 503 too (a model may be loading beside others that
serve), and so is a call that takes too long. Calls that wait for one connection, or share it, fail with it and count
once.

A runtime that has restarted should not wait for ten seconds to pass. So while the breaker is open, connecting is tried
each second, without a call; that it works is reason to let one through, and no more than that.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream.api import Receiver, State
from inferbridge.upstream.call import ActiveCall

FAILURES: Final = 5
OPEN_SECONDS: Final = 10.0
CONNECT_EACH_SECONDS: Final = 1.0


class Breaker:
    """That of one address."""

    def __init__(
        self, url: str, connect: Callable[[], Awaitable[bool]], now: Callable[[], float] = time.monotonic
    ) -> None:
        """`connect` answers whether a connection can be opened now; it may keep it."""
        self._url = url
        self._connect = connect
        self._now = now
        self._opened_at = 0.0
        self._tried_at: float | None = None
        self._reason = ""
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_over = False
        self.failures = 0
        """Connections in a row that have answered nothing."""
        self.state: State = "closed"
        self.closed = True
        """All calls go through; asked for each of them."""

    @property
    def admits(self) -> bool:
        """Whether a call would go through now."""
        if self.state == "open" and self._now() - self._opened_at >= OPEN_SECONDS:
            self._half_open()
        if self.state == "half open":
            # a trial that was cancelled says nothing, and one without an answer for so long stands in nobody's way
            return self._tried_at is None or self._now() - self._tried_at >= OPEN_SECONDS
        return self.closed

    def let_through(self, call: ActiveCall) -> bool:
        """Whether a call may go on; if not, it is told so."""
        if self.closed:
            return True
        if self.admits:
            self._tried_at = self._now()
            call.receiver = Trial(self, call.receiver)
            return True
        asyncio.get_running_loop().call_soon(call.fail, self.refusal())
        return False

    def refusal(self) -> BridgeError:
        """What a call is told that does not go through."""
        since = self._opened_at if self._tried_at is None else self._tried_at
        left = max(1, math.ceil(since + OPEN_SECONDS - self._now()))
        message = f"{self._url} is not called for now, because {self.failures} connections in a row failed; the last: "
        return BridgeError(Code.UNAVAILABLE, message + self._reason, retry_after=left)

    def failed(self, reason: str) -> None:
        """A connection has answered nothing."""
        self.failures += 1
        self._reason = reason
        if self.state == "half open" or (self.closed and self.failures >= FAILURES):
            self._open()

    def answered(self) -> None:
        """A connection has answered something."""
        self.failures = 0
        self.state, self.closed = "closed", True
        self._tried_at = None
        self._stop()

    def inconclusive(self) -> None:
        """The trial has ended without telling anything, so the next call is one."""
        self._tried_at = None

    def _open(self) -> None:
        self.state, self.closed = "open", False
        self._opened_at = self._now()
        self._tried_at = None
        self._plan()

    def _half_open(self) -> None:
        self.state = "half open"
        self._tried_at = None
        self._stop()

    def _plan(self) -> None:
        self._stop()
        if not self._is_over:
            self._timer = asyncio.get_running_loop().call_later(CONNECT_EACH_SECONDS, self._try)

    def _try(self) -> None:
        self._timer = None
        self._connecting = asyncio.get_running_loop().create_task(self._try_to_connect())

    async def _try_to_connect(self) -> None:
        await asyncio.sleep(0)  # under an eager task factory this runs before the task is known
        connects = await self._connect()
        self._connecting = None
        if self.state != "open":
            return
        if connects:
            self._half_open()
        else:
            self._plan()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Try nothing any more."""
        self._is_over = True
        self._stop()
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await connecting


class Trial:
    """The receiver of a trial: hands all on, and tells the breaker how it went."""

    def __init__(self, breaker: Breaker, receiver: Receiver) -> None:
        self._breaker = breaker
        self._receiver = receiver
        self._told = False

    def on_head(self, status: int, headers: Headers) -> None:
        """It answers."""
        self._told = True
        self._breaker.answered()
        self._receiver.on_head(status, headers)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._receiver.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        """The end."""
        self._receiver.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """A connection that failed has told so itself; anything else says nothing of the address."""
        if not self._told and self._breaker.state == "half open":
            self._breaker.inconclusive()
        self._receiver.on_failure(error)
