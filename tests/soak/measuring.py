"""What a proxy holds: memory, descriptors and tasks, and whether it has come back to what it held before."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from inferbridge.gateway.limits import MIB
from process.running import Process

SETTLES = 30
"""Seconds that a proxy has to let go of what it no longer needs."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
MEMORY = 0.15, 16 * MIB
"""What memory may be more: a share of it, and bytes."""
DESCRIPTORS = 4
TASKS = 4


@dataclass(frozen=True)
class Sample:
    """At one moment."""

    at: float
    rss: int
    """Bytes."""
    fds: int
    tasks: int
    in_flight: int
    cpu: float
    """Seconds used since the start."""

    @property
    def shown(self) -> str:
        """On a line."""
        return f"rss {self.rss / MIB:6.1f} MiB   fds {self.fds:4}   tasks {self.tasks:4}   in flight {self.in_flight:3}"


async def sample(proxy: Process) -> Sample:
    """What it holds now."""
    folder = Path(f"/proc/{proxy.process.pid}")
    rss = int((folder / "statm").read_text().split()[1]) * _PAGE
    fds = len(list((folder / "fd").iterdir()))
    times = (folder / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    tasks = int(await proxy.metric("inferbridge_tasks"))
    flying = [await proxy.metric(f'inferbridge_in_flight{{protocol="{one}"}}') for one in ("rest", "grpc")]
    return Sample(time.monotonic(), rss, fds, tasks, int(sum(flying)), cpu)


async def settled(proxy: Process, before: Sample | None = None) -> Sample:
    """What it holds when nothing changes any more, or as soon as that is what it held `before`."""
    last = await sample(proxy)
    until = time.monotonic() + SETTLES
    while time.monotonic() < until:
        await asyncio.sleep(1)
        now = await sample(proxy)
        if before is not None and not excess(before, now):
            return now
        if before is None and (now.fds, now.tasks, now.in_flight) == (last.fds, last.tasks, 0):
            return now
        last = now
    return last


def excess(before: Sample, after: Sample) -> list[str]:
    """What has not come back, in words."""
    share, more = MEMORY
    allowed = before.rss * (1 + share) + more
    found = []
    if after.rss > allowed:
        found.append(f"memory: {after.rss / MIB:.1f} MiB, before {before.rss / MIB:.1f}, allowed {allowed / MIB:.1f}")
    if after.fds > before.fds + DESCRIPTORS:
        found.append(f"file descriptors: {after.fds}, before {before.fds}")
    if after.tasks > before.tasks + TASKS:
        found.append(f"tasks: {after.tasks}, before {before.tasks}")
    if after.in_flight:
        found.append(f"calls in flight that nobody makes: {after.in_flight}")
    return found
