"""What a call costs, for reports that run in one process."""

import time
from collections.abc import Callable


def cost(call: Callable[[], object]) -> float:
    """CPU microseconds of one call: the best of several rounds of about 50 ms."""
    started = time.process_time()
    call()
    rounds = max(1, int(0.05 / max(1e-6, time.process_time() - started)))
    best = float("inf")
    for _ in range(7):
        started = time.process_time()
        for _ in range(rounds):
            call()
        best = min(best, (time.process_time() - started) / rounds)
    return best * 1e6


QUIET_MS = 76.0
"""CPU milliseconds of `loop_ms` on the machine that the targets were set for (67 to 85 there)."""


def loop_ms() -> float:
    """CPU milliseconds of two million turns of an empty loop: how fast this machine is at this moment."""
    started = time.process_time()
    for _ in range(2_000_000):
        pass
    return (time.process_time() - started) * 1e3
