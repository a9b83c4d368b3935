"""`python -m soak SECONDS`: a proxy under mixed load, and what it holds before and after. Exit code 1 for a violation.

The proxy is a process of its own; runtimes (mocks) and clients are in this one. What is warm before the load counts is
the baseline: pools, caches and code that was used once. Afterwards, with all clients gone, memory, descriptors and
tasks must be back there, nothing in flight, and no call may have ended in any other way than it must.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from inferbridge.auth import key_form
from inferbridge.mock.script import Scenario, Script
from inferbridge.mock.serving import Doors, mocking
from process.running import Process, proxy
from soak.load import Tally, Term, load
from soak.measuring import Sample, excess, sample, settled
from soak.saying import say, verdict

WARM = 0.1
"""What part of the time the warming takes, and its bounds in seconds."""
WARM_BOUNDS = 3.0, 60.0
CALLS_A_SECOND = 200_000 / 600
"""A soak of ten minutes has 200 000 calls; on a busy machine it takes longer, up to twice the time."""
_SLOW = Scenario(Script(delay=0.005))
_DOORS = Doors(rest=0, grpc=0)


def _upstreams(urls: dict[str, list[str]]) -> list[str]:
    def of(name: str, scheme: str) -> str:
        return next(url for url in urls[name] if url.startswith(scheme))

    places = (
        ("echo-grpc", "triton", of("triton", "grpc")),
        ("echo-rest", "triton", of("triton", "http")),
        ("poet-grpc", "tgis", of("tgis", "grpc")),
        ("poet-rest", "vllm-nvidia", of("vllm-nvidia", "http")),
        ("slow-grpc", "tgis", of("tgis slow", "grpc")),
        ("slow-rest", "vllm-nvidia", of("vllm-nvidia slow", "http")),
    )
    return [f"  - {{name: {name}, runtime: {kind}, url: '{url}', models: [{name}]}}" for name, kind, url in places]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[Process, str]]:
    """A proxy before mocks, and the key that it knows."""
    key_id, secret = key_form.new_key()
    digest = key_form.show_digest(key_form.digest_of(key_id, secret))
    (folder / "keys.yaml").write_text(f"keys:\n  - {{id: {key_id}, hash: '{digest}', name: soak}}\n")
    (folder / "keys.yaml").chmod(0o600)
    async with AsyncExitStack() as stack:
        urls = {}
        for name in ("triton", "tgis", "vllm-nvidia"):
            urls[name] = await stack.enter_async_context(mocking(name, _DOORS))
        for name in ("tgis", "vllm-nvidia"):
            urls[f"{name} slow"] = await stack.enter_async_context(mocking(name, _DOORS, _SLOW))
        lines = ["auth: {authenticators: [{keys: {file: keys.yaml}}], failures_per_minute: 1000000}", "upstreams:"]
        (folder / "inferbridge.yaml").write_text("\n".join([*lines, *_upstreams(urls), ""]))
        started = proxy("-c", str(folder / "inferbridge.yaml"), "--access-log")
        yield await stack.enter_async_context(started), key_form.written(key_id, secret)


async def soak(seconds: float) -> list[str]:
    """Load a proxy, print what it held, and give what was wrong."""
    tally, warming = Tally(), Tally()
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder)) as (process, key):
            warm = min(max(seconds * WARM, WARM_BOUNDS[0]), WARM_BOUNDS[1])
            await load(process.port, key, Term(warm), warming, seed=1)
            before = await settled(process)
            _say(f"warm after {warm:.0f} s", before)
            watching = asyncio.create_task(_watch(process, seconds))
            term = Term(seconds, due(seconds))
            await load(process.port, key, term, tally)
            took = time.monotonic() - term.began
            watching.cancel()
            after = await settled(process, before)
            _say("after the load", after)
            said = [line for line in process.lines if "ERROR" in line or "Traceback" in line]
    _report(tally, took, after.cpu - before.cpu)
    return wrong(warming, tally, seconds, before, after, said)


async def _watch(process: Process, seconds: float) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(min(30.0, seconds / 4))
        _say(f"{time.monotonic() - began:.0f} s", await sample(process))


def due(seconds: float) -> int:
    """How many calls a soak of this time has to make; a short one only shows that it works."""
    return int(CALLS_A_SECOND * seconds) if seconds >= 60 else 1


def wrong(warming: Tally, tally: Tally, seconds: float, before: Sample, after: Sample, said: list[str]) -> list[str]:
    """What must not be, in words."""
    found = [
        f"{kind}: {count} unexpected, the first: {some.words[kind]}"
        for some in (warming, tally)
        for kind, count in some.unexpected.items()
    ]
    if tally.calls.total() < due(seconds):
        found.append(f"{tally.calls.total()} calls, where {due(seconds)} are due: the machine is too busy to tell")
    return [*found, *excess(before, after), *(f"the proxy said: {line}" for line in said[:5])]


def _report(tally: Tally, seconds: float, cpu: float) -> None:
    for kind, count in sorted(tally.calls.items()):
        say(f"{count:9} {kind}{f', unexpected: {tally.unexpected[kind]}' if tally.unexpected[kind] else ''}")
    total = tally.calls.total()
    say(f"{total:9} calls, {total / seconds:.0f} a second, unexpected: {tally.unexpected.total()}")
    say(f"{cpu:9.1f} seconds of CPU in the proxy, {cpu / max(total, 1) * 1e6:.0f} µs a call")


def _say(when: str, seen: Sample) -> None:
    say(f"{when:>16}   {seen.shown}")


def main(seconds: float) -> int:
    """Exit code."""
    found = asyncio.run(soak(seconds))
    return verdict(found)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600))
