"""The application in force, which another may replace while calls are in flight.

A call belongs to the application that it began with, to its end; only then are that one's connections to runtimes
closed. What a head remembers (`RequestHead.memo`) is of one application, so another one finds it empty.
"""

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from inferbridge.bridge.errors import BridgeError
from inferbridge.config import Settings
from inferbridge.gateway.application import Application, RequestHead, RequestSink, Responder
from inferbridge.gateway.calls.guard import Guard
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.local.services import HEALTH, REFLECTIONS
from inferbridge.gateway.service import GatewayService

_LOOK_SECONDS = 0.2
_LOCAL = tuple(f"/{service}/" for service in (HEALTH, *REFLECTIONS))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What was built of some settings."""

    settings: Settings
    service: GatewayService
    guard: Guard
    application: Application
    """What clients reach: the guard, and whoever records its calls."""

    async def close(self) -> None:
        """Calls in flight fail with UNAVAILABLE, and who watches health is told that it ends."""
        await self.guard.close()

    async def close_connections(self) -> None:
        """Let go of runtimes and issuers; who watches health watches that of the successor."""
        await self.guard.access.chain.close()
        await self.service.close_pools()


class Live:
    """The `Application` of a process."""

    def __init__(self, generation: Generation) -> None:
        self._current = generation
        self._application = generation.application
        self._before: dict[Generation, asyncio.Task[None]] = {}

    @property
    def current(self) -> Generation:
        """What new calls go to."""
        return self._current

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        memo = head.memo
        if memo.get("application") is not self._application:
            memo.clear()
            memo["application"] = self._application
        return self._application.open(head, responder)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer a request that could not be accepted."""
        self._application.refuse(error, head, responder)

    def replace(self, generation: Generation, connections: Collection[ClientConnection]) -> None:
        """New calls go to `generation` from now on; `connections` are those that may have calls in flight."""
        before, self._current, self._application = self._current, generation, generation.application
        if generation.service.local is not None and before.service.local is not None:
            generation.service.local.succeed(before.service.local)
        self._before[before] = asyncio.get_running_loop().create_task(self._retire(before, list(connections)))

    async def _retire(self, generation: Generation, connections: list[ClientConnection]) -> None:
        marks = [connection.marked(_needs_runtimes) for connection in connections]
        while any(in_flight() for in_flight in marks):  # noqa: ASYNC110 - a call tells nobody, which is cheaper
            await asyncio.sleep(_LOOK_SECONDS)
        await generation.close_connections()
        del self._before[generation]
        _log.debug("the calls of the settings before have ended")

    def stopping(self) -> None:
        """Health says that nothing is ready any more."""
        if self._current.service.local is not None:
            self._current.service.local.stopping()

    def stop_watching(self) -> None:
        """End the calls that would go on for ever: those that watch health."""
        if self._current.service.local is not None:
            self._current.service.local.close()

    async def close(self) -> None:
        """Calls in flight fail with UNAVAILABLE."""
        before, self._before = self._before, {}
        for generation, task in before.items():
            task.cancel()
            await generation.close_connections()
        await self._current.close()


def _needs_runtimes(head: RequestHead | None) -> bool:
    return head is not None and not head.target.startswith(_LOCAL)
