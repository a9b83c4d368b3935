"""`python -m soak.memory SECONDS`: what calls take that are shown and captured, under a load of long streams.

    clients ──▶ inferbridge inspect, its pages open to the last calls ──▶ mocks that stream
            ──▶ inferbridge proxy, which captures every call to a file ──▶

Both have the memory that they have by default (64 MiB). They must never hold more, must take in new calls at the cost
of the oldest or count those that find no room, and their processes must not grow once that memory is in use. Streams
are passed through and translated, fast and slow. Exit code 1 for a violation.
"""

import asyncio
import json
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flows.running import STARTED, free_port
from inferbridge.config.kinds import parse_size
from inferbridge.gateway.limits import MIB
from inferbridge.mock.script import Scenario, Script
from inferbridge.mock.serving import Doors, mocking
from process.running import until
from soak.http1 import Connection
from soak.saying import say, verdict

WORKERS = 20
"""Clients of each process."""
PAUSE = 0.1
"""Seconds of a client between two calls."""
WORD, WORDS = 4000, 60
MEMORY = "64MiB"
GROWTH = 0.05, 8 * MIB
"""What the process may grow once its memory is in use: a share, and bytes."""
LONG = 60
"""Samples, one a second, from which on that can be told: a shorter soak only shows that it works."""
WARM, TIMES = 64 * MIB, 1.5
"""What a process may take on top of what it had before the load: for code and caches, and times the memory."""
SLACK = 1 * MIB
"""What the account may exceed the memory by: small things that are charged without being asked for."""


@dataclass
class Held:
    """What a process said, and what the kernel says of it, at one moment."""

    at: float
    rss: int
    seen: dict[str, int]


@dataclass
class Watched:
    """A process under load."""

    name: str
    process: asyncio.subprocess.Process
    port: int = 0
    lines: list[str] = field(default_factory=list)
    samples: list[Held] = field(default_factory=list)
    calls: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def rss(self) -> int:
        """Bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[0])

    async def read(self) -> None:
        """Its lines, as long as it runs."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode().rstrip("\n")
            if text.startswith("held "):
                self.samples.append(Held(time.monotonic(), self.rss, json.loads(text[5:])))
                continue
            self.lines.append(text)
            if found := re.match(r"listening on http://\S+:(\d+)$", text):
                self.port = int(found[1])

    @property
    def shown(self) -> str:
        """The last sample, on a line."""
        last = self.samples[-1]
        seen = dict(last.seen)
        held = seen.pop("held") / MIB
        more = "   ".join(f"{name} {count}" for name, count in seen.items())
        return f"{self.name:<8} rss {last.rss / MIB:6.1f} MiB   held {held:5.1f} MiB   {more}   calls {self.calls}"


@asynccontextmanager
async def watched(name: str, state: Path, *arguments: str) -> AsyncIterator[Watched]:
    """A process that tells what it holds."""
    command = (sys.executable, "-m", "soak.holding", name, "--listen", "127.0.0.1:0", *arguments)
    environment = {"PYTHONPATH": ":".join(sys.path), "XDG_STATE_HOME": str(state), "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=environment, limit=1 << 20
    )
    made = Watched(name, process)
    reading = asyncio.create_task(made.read())
    try:
        await until(lambda: process.returncode is not None or (made.port and made.samples), STARTED)
        assert process.returncode is None, "\n".join(made.lines)
        yield made
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


def bodies() -> list[tuple[str, bytes]]:
    """The calls: an OpenAI client's streams, to a runtime of its own API and to TGIS, fast and slow."""
    text = " ".join(chr(ord("a") + number % 26) * WORD for number in range(WORDS))
    asked = {"stream": True, "max_tokens": WORDS, "temperature": 0}
    chat = [{"role": "user", "content": text}]
    return [
        ("/v1/completions", json.dumps({"model": "poet-grpc", "prompt": text, **asked}).encode()),
        ("/v1/chat/completions", json.dumps({"model": "poet-rest", "messages": chat, **asked}).encode()),
        ("/v1/completions", json.dumps({"model": "slow-grpc", "prompt": text, **asked}).encode()),
    ]


async def _work(process: Watched, number: int, end: float) -> None:
    calls, connection = bodies(), Connection(process.port)
    while time.monotonic() < end:
        target, body = calls[number % len(calls)]
        number += 1
        try:
            async with asyncio.timeout(STARTED):
                status = await connection.send(target, "none", body)
                answer = await connection.whole()
            if status != 200 or not answer.endswith(b"data: [DONE]\n\n"):
                process.wrong.append(f"{status} {answer[:200]!r}")
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            process.wrong.append(f"{type(error).__name__}: {error}")
            await connection.close()
        process.calls += 1
        await asyncio.sleep(PAUSE)
    await connection.close()


def _upstreams(urls: Sequence[str]) -> list[str]:
    kinds = (("poet-grpc", "tgis"), ("poet-rest", "vllm-nvidia"), ("slow-grpc", "tgis"))
    return [
        f"  - {{name: {name}, runtime: {kind}, url: '{url}', models: [{name}]}}"
        for (name, kind), url in zip(kinds, urls, strict=True)
    ]


@asynccontextmanager
async def running(folder: Path, memory: str) -> AsyncIterator[list[Watched]]:
    """Both processes."""
    async with AsyncExitStack() as stack:
        (fast,) = await stack.enter_async_context(mocking("tgis", Doors(grpc=0)))
        rest, *_ = await stack.enter_async_context(mocking("vllm-nvidia", Doors(rest=0, grpc=0)))
        slowly = Scenario(Script(delay=0.05))
        (slow,) = await stack.enter_async_context(mocking("tgis", Doors(grpc=0), slowly))
        lines = ["upstreams:", *_upstreams((fast, rest, slow))]
        (folder / "inspect.yaml").write_text("\n".join([*lines, ""]))
        sink = f"{{file: {{path: {folder}/capture.jsonl, max_size: 64MiB, keep: 1}}}}"
        capture = f"capture: {{enabled: true, sample: 1, max_bytes: 1MiB, memory: {memory}, sinks: [{sink}]}}"
        (folder / "proxy.yaml").write_text("\n".join([*lines, capture, "admin: {listen: '127.0.0.1:0'}", ""]))
        pages = ("--web-port", str(free_port()), "--memory", memory)
        shown = watched("inspect", folder, "-c", str(folder / "inspect.yaml"), *pages)
        captured = watched("proxy", folder, "-c", str(folder / "proxy.yaml"))
        yield [await stack.enter_async_context(one) for one in (shown, captured)]


async def soak(seconds: float, memory: str = MEMORY) -> list[str]:
    """Load both, print what they hold, and give what was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        async with running(Path(folder), memory) as processes:
            before = [one.rss for one in processes]
            end = time.monotonic() + seconds
            watching = asyncio.create_task(_watch(processes, seconds))
            await asyncio.gather(*(_work(one, number, end) for one in processes for number in range(WORKERS)))
            watching.cancel()
            for one in processes:
                say(f"{'at the end':>12}   {one.shown}")
            captured = _size(Path(folder))
        say(f"{captured / MIB:.1f} MiB are in the files of captured calls")
        bound = parse_size(memory)
        found = [line for one, rss in zip(processes, before, strict=True) for line in wrong(one, rss, bound)]
        return found if captured else [*found, "nothing was captured"]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("capture.jsonl*"))


async def _watch(processes: Sequence[Watched], seconds: float) -> None:
    began = time.monotonic()
    while True:
        await asyncio.sleep(min(30.0, seconds / 4))
        for one in processes:
            say(f"{time.monotonic() - began:10.0f} s   {one.shown}")


def wrong(one: Watched, before: int, memory: int) -> list[str]:
    """What must not be, in words; `before` is what the process took before the load."""
    most = max(one.samples, key=lambda held: held.seen["held"])
    peak = max(held.rss for held in one.samples)
    say(
        f"{one.name:<8} most held {most.seen['held'] / MIB:.1f} of {memory / MIB:.0f} MiB, rss {before / MIB:.1f} MiB "
        f"before and at most {peak / MIB:.1f}, {one.calls} calls, wrong: {len(one.wrong)}"
    )
    found = [f"{one.name}: {one.wrong[0]}, and {len(one.wrong) - 1} more"] if one.wrong else []
    last = one.samples[-1].seen
    if 0 in (last.get("evicted"), last.get("dropped")):
        found.append(f"{one.name} had room for all calls: the load was too small to show anything")
    if most.seen["held"] > memory + SLACK:
        found.append(f"{one.name} held {most.seen['held']} bytes, {memory} are allowed")
    if most.seen["held"] < memory / 2:
        found.append(f"{one.name} held {most.seen['held']} bytes at most: the load was too small to show anything")
    if peak - before > WARM + TIMES * memory:
        found.append(f"{one.name} took {(peak - before) / MIB:.1f} MiB for {memory / MIB:.0f} MiB of calls")
    if len(one.samples) >= LONG:
        found += _growth(one)
    return [*found, *(f"{one.name} said: {line}" for line in one.lines if "ERROR" in line or "Traceback" in line)]


def _growth(one: Watched) -> list[str]:
    """Between the second and third quarter of the time and the last."""
    full, last = len(one.samples) // 4, 3 * len(one.samples) // 4
    first, second = (max(held.rss for held in part) for part in (one.samples[full:last], one.samples[last:]))
    share, more = GROWTH
    if second <= first * (1 + share) + more:
        return []
    return [f"{one.name} grew from {first / MIB:.1f} to {second / MIB:.1f} MiB while it held no more"]


def main(seconds: float, memory: str = MEMORY) -> int:
    """Exit code."""
    found = asyncio.run(soak(seconds, memory))
    return verdict(found)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 600))
