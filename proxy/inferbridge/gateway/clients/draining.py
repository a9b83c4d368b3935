"""Stopping without cutting anybody off.

    serving ──ask──▶ NOT READY ──delay──▶ CLOSED TO NEW CLIENTS ──grace──▶ LEAVING ──timeout──▶ ENDING ──▶ stopped
                        │                     │                            │                   │
                 who sends traffic     `Connection: close`,         final GOAWAY, idle    what is left gets
                 here looks elsewhere  first GOAWAY                 clients are closed    UNAVAILABLE

The delay is for those who look at readiness: until they have looked, new calls still come and are served. The grace is
for calls that are on their way when the client is told (RFC 9113 §6.8). Each pause ends as soon as there is nothing to
wait for, and all of them when the gateway is asked a second time. `timeout` counts from the end of the delay.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Collection
from signal import SIGINT, Signals
from typing import Protocol

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.gateway.clients.connection import ClientConnection

GRACE_SECONDS = 1.0
FLUSH_SECONDS = 2.5
"""For the last bytes; a client that does not close itself is closed within this time."""
_LOOK_SECONDS = 0.02
_log = logging.getLogger(__name__)

STOPPING = BridgeError(Code.UNAVAILABLE, "the gateway is stopping")


class Gateway(Protocol):
    """What is stopped."""

    @property
    def connections(self) -> Collection[ClientConnection]:
        """Those that are open."""

    async def close_listeners(self) -> None:
        """Accept no connection any more."""

    def drain(self) -> None:
        """Ask the clients to take further calls elsewhere."""

    def leave(self) -> None:
        """Take no further call; connections close when those in flight are answered."""

    def shutdown(self) -> None:
        """Everything is over."""


class Stopper:
    """Stops a gateway when it is asked to."""

    def __init__(
        self,
        delay: float,
        timeout: float,
        unready: Callable[[], None] = lambda: None,
        listeners_closed: Callable[[], None] = lambda: None,
        give_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Seconds; `unready` tells all who look at readiness, `give_up` ends what upstreams still work on."""
        self._delay = delay
        self._timeout = timeout
        self._unready = unready
        self._listeners_closed = listeners_closed
        self._give_up = give_up
        self._now = asyncio.Event()
        self._gateway: Gateway | None = None
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self.cut_short = False
        """It was asked more than once, before it was done."""

    def serve(self, gateway: Gateway) -> None:
        """It is this gateway that is to be stopped; at once if that was asked before."""
        self._gateway = gateway
        if self._asked:
            gateway.shutdown()

    def ask(self, *, delay: bool = True) -> None:
        """Begin, without the delay if nobody looks; asked again, end what is in flight now."""
        if self._asked:
            self.cut_short = True
            self._now.set()
            return
        self._asked = True
        if self._gateway is not None:
            self._task = asyncio.get_running_loop().create_task(self._stop(self._gateway, self._delay if delay else 0))

    async def _stop(self, gateway: Gateway, delay: float) -> None:
        try:
            await self._drain(gateway, delay)
        except Exception:
            _log.exception("draining failed")
        finally:
            gateway.shutdown()

    async def _drain(self, gateway: Gateway, delay: float) -> None:
        self._unready()
        level = logging.INFO if delay or _calls(gateway) else logging.DEBUG  # who has nothing to wait for just stops
        _log.log(level, "stopping: not ready any more; new clients are served for %g s", delay)
        await self._until(lambda: False, delay)
        await gateway.close_listeners()
        self._listeners_closed()
        end = asyncio.get_running_loop().time() + self._timeout
        _log.log(level, "stopping: %d calls in flight have up to %g s", _calls(gateway), self._timeout)
        gateway.drain()
        await self._until(lambda: not gateway.connections, min(GRACE_SECONDS, self._timeout))
        gateway.leave()
        await self._until(lambda: not gateway.connections, end - asyncio.get_running_loop().time())
        await self._end(gateway, level)

    async def _end(self, gateway: Gateway, level: int) -> None:
        if left := _calls(gateway):
            _log.warning("stopping: %d calls are ended with UNAVAILABLE, their time is over", left)
            if self._give_up is not None:
                await self._give_up()
            for connection in list(gateway.connections):
                connection.end(STOPPING)
            self._now.clear()
            await self._until(lambda: not gateway.connections, FLUSH_SECONDS)
        else:
            _log.log(level, "stopping: no call was cut off")

    async def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        """Wait, but not longer than it makes sense."""
        try:
            async with asyncio.timeout(seconds):
                while not reached() and not self._now.is_set():  # noqa: ASYNC110 - mitmproxy tells nobody
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return


def has_time(number: Signals) -> bool:
    """Whether whoever sends this signal waits for the delay: not who presses Ctrl-C at a terminal."""
    return number != SIGINT or sys.stdin is None or not sys.stdin.isatty()


def _calls(gateway: Gateway) -> int:
    return sum(connection.calls for connection in gateway.connections)
