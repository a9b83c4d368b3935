"""The load: workers that make calls of all kinds at random until the time is over, and count what was unexpected."""

import asyncio
import gc
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from soak.calls import MIX, TIMEOUT, Call, Worker

WORKERS = 16
CALLS_A_CONNECTION = 500


@dataclass
class Tally:
    """What has happened."""

    calls: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    words: dict[str, str] = field(default_factory=dict)
    """Of the first unexpected end of each kind."""

    def wrong(self, kind: str, error: BaseException) -> None:
        """A call has not ended as it must."""
        self.unexpected[kind] += 1
        self.words.setdefault(kind, f"{type(error).__name__}: {error}"[:400])


@dataclass(frozen=True)
class Term:
    """When the load is over: after some seconds and so many calls, or after twice the time."""

    seconds: float
    calls: int = 0
    began: float = field(default_factory=time.monotonic)

    def over(self, calls: int) -> bool:
        """Whether it is, after so many calls."""
        spent = time.monotonic() - self.began
        return spent >= 2 * self.seconds or (spent >= self.seconds and calls >= self.calls)


async def load(port: int, key: str, term: Term, tally: Tally, *, seed: int = 0) -> None:
    """Make calls until the end, the same ones in the same order for each worker of a seed."""
    await asyncio.gather(
        *(_work(Worker(port, key), term, tally, random.Random(f"{seed}/{number}")) for number in range(WORKERS))
    )
    gc.collect()  # calls that grpcio has in cycles keep their connections open


async def _work(worker: Worker, term: Term, tally: Tally, chance: random.Random) -> None:
    kinds, weights = list(MIX), [weight for weight, _ in MIX.values()]
    while not term.over(tally.calls.total()):
        worker.connect()
        try:
            for kind in chance.choices(kinds, weights, k=CALLS_A_CONNECTION):
                if term.over(tally.calls.total()):
                    break
                await one(worker, kind, MIX[kind][1], tally)
        finally:
            await worker.close()


async def one(worker: Worker, kind: str, call: Call, tally: Tally) -> None:
    """Make one call and count it."""
    tally.calls[kind] += 1
    try:
        async with asyncio.timeout(TIMEOUT):
            await call(worker)
    except Exception as error:  # whatever it is, it is counted, and the load goes on
        tally.wrong(kind, error)
        await worker.http.close()
