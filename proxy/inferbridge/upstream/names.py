"""The addresses behind names, looked up again and again.

The system's resolver blocks, so it runs on a thread of its own; each name has one lookup under way at most, however
long that takes. A name that cannot be looked up keeps the addresses that it had.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from inferbridge.upstream.address import Address, describe

log = logging.getLogger("inferbridge.upstream")

LOOKUP_SECONDS = 5.0
MOST = 256
"""Addresses of one upstream."""

type Lookup = Callable[[str, int], Awaitable[Sequence[tuple[str, int]]]]
"""Host and port of each address of a name; OSError when there is none."""
type Found = Callable[[tuple[Address, ...]], None]
type Failed = Callable[[str], None]


class Names:
    """Those of one upstream."""

    def __init__(self, places: Sequence[Address], seconds: float, found: Found, failed: Failed, lookup: Lookup) -> None:
        """`found` hears all addresses each time they were looked up, `failed` the reason when none is known."""
        self._places = places
        self._seconds = seconds
        self._found = found
        self._failed = failed
        self._lookup = lookup
        self._known: dict[Address, tuple[Address, ...]] = {}
        self._lookups: dict[Address, asyncio.Future[Sequence[tuple[str, int]]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look all names up now, unless that is under way, and again after a while."""
        if self._task is None:
            if self._timer is not None:
                self._timer.cancel()
            self._task = asyncio.get_running_loop().create_task(self._look())

    async def _look(self) -> None:
        await asyncio.sleep(0)  # under an eager task factory this runs before the task is known
        problems = await asyncio.gather(*map(self._look_up, self._places))
        self._task = None
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self.look)
        found = dict.fromkeys(address for place in self._places for address in self._known.get(place, ()))
        if found:
            self._found(tuple(found)[:MOST])
        else:
            self._failed("; ".join(filter(None, problems)) or "no address is known")

    async def _look_up(self, place: Address) -> str:
        """What went wrong, if anything did."""
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = await asyncio.shield(self._running(place))
        except (OSError, UnicodeError) as error:  # a name may be one that cannot be said in DNS
            reason = f"no answer within {LOOKUP_SECONDS:g} s" if isinstance(error, TimeoutError) else describe(error)
            log.warning("cannot look up %s: %s", place.endpoint[0], reason)
            return f"cannot look up {place.endpoint[0]}: {reason}"
        self._known[place] = tuple(replace(place, at=endpoint) for endpoint in found)
        return ""

    def _running(self, place: Address) -> asyncio.Future[Sequence[tuple[str, int]]]:
        future = self._lookups.get(place)
        if future is None:
            future = self._lookups[place] = asyncio.ensure_future(self._lookup(*place.endpoint))
            future.add_done_callback(lambda _: self._lookups.pop(place, None))
        return future

    async def close(self) -> None:
        """Look nothing up any more."""
        if self._timer is not None:
            self._timer.cancel()
        for running in (self._task, *self._lookups.values()):
            if running is not None:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await running
        self._task = None


async def system_lookup(host: str, port: int) -> Sequence[tuple[str, int]]:
    """As the system's resolver says."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(entry[4][0]), int(entry[4][1])) for entry in found))
