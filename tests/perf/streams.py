"""What a streamed message costs in our proxy, and how much later it arrives.

    python tests/perf/streams.py [--rounds 5] [--check] [--json] [--write docs/streams.md] [--profile grpc-to-rest]

An OpenAI client of an fmaas gRPC runtime (`grpc-to-rest`) and an fmaas gRPC client of an OpenAI REST runtime
(`rest-to-grpc`); runtime, proxy and load each run in a process of their own. Back to back, with 1 and with 32 streams:
CPU microseconds of the proxy process a message, from the scheduler's counters, and messages a second of the wall clock.
At a message every 10 ms a stream: CPU microseconds a message again (each wakes the proxy by itself, and the call it
belongs to is counted in), and how long messages are on their way, beside the same client at the runtime's own door of
its protocol in the same round. A stream falls behind when the messages of its last quarter are later than a pause.
Envoy, where it can be had, stands between the same client and that door in the same round, and passes messages through.
"""

import argparse
import itertools
import json
import math
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from perf import report  # noqa: E402
from perf.contestants import Contestant, cpu_seconds, run_envoy  # noqa: E402
from runtimes.environments import EnvironmentUnavailable  # noqa: E402
from runtimes.programs import run_proxy  # noqa: E402
from runtimes.servers import stop_group  # noqa: E402

WAYS = {"grpc-to-rest": ("tgis=grpc", "rest"), "rest-to-grpc": ("vllm-nvidia=http", "grpc")}
STREAMS = (1, 32)
PAUSE_US = 10_000
BACK_TO_BACK = 20_000  # messages of all streams
PACED = 150  # messages of each stream
CPU_US, ADDED_P50_MS = 20.0, 0.4  # the targets
FALLEN_BEHIND_MS = PAUSE_US / 1000


@dataclass
class Series:
    """The rounds of one case."""

    cpu_us: list[float] = field(default_factory=list)
    paced_cpu_us: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    added_p50_ms: list[float] = field(default_factory=list)
    added_p99_ms: list[float] = field(default_factory=list)
    last_quarter_ms: list[float] = field(default_factory=list)
    envoy_cpu_us: list[float] = field(default_factory=list)
    envoy_p50_ms: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float]:
        """Medians; of the latest stream the worst."""
        return {
            "cpu_us": round(statistics.median(self.cpu_us), 1),
            "paced_cpu_us": round(statistics.median(self.paced_cpu_us), 1),
            "messages_per_s": round(statistics.median(self.rate)),
            "added_p50_ms": round(statistics.median(self.added_p50_ms), 3),
            "added_p99_ms": round(statistics.median(self.added_p99_ms), 3),
            "latest_stream_ms": round(max(self.last_quarter_ms), 3),
            "envoy_cpu_us": round(statistics.median(self.envoy_cpu_us or [math.nan]), 1),
            "envoy_p50_ms": round(statistics.median(self.envoy_p50_ms or [math.nan]), 3),
        }


@contextmanager
def upstream() -> Iterator[tuple[int, int]]:
    """The streaming runtime; gives its REST and its gRPC port."""
    command = [sys.executable, str(Path(__file__).with_name("stream_upstream.py"))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, start_new_session=True, text=True)
    assert process.stdout is not None
    try:
        rest, grpc = map(int, process.stdout.readline().split())
        yield rest, grpc
    finally:
        process.stdout.close()
        stop_group(process)


class Load:
    """The process that reads the streams."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("stream_load.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def read(self, client: str, port: int, streams: int, messages: int, pause_us: int) -> dict[str, Any]:
        """One measurement."""
        asked = {"client": client, "port": port, "streams": streams, "messages": messages, "pause_us": pause_us}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        outcome: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "problem" in outcome:
            raise SystemExit(f"{client}, {streams} streams: {outcome['problem']}")
        return outcome


def percentile(delays: list[list[int]], share: float) -> float:
    """Milliseconds within which this share of all messages arrived."""
    ordered = sorted(itertools.chain.from_iterable(delays))
    return ordered[int(len(ordered) * share)] / 1e6


def read_counted(
    load: Load, proxy: Contestant, client: str, streams: int, messages: int, pause_us: int
) -> tuple[dict[str, Any], float]:
    """A measurement through a proxy, and the CPU microseconds that each message cost it."""
    before = cpu_seconds(proxy.pid)
    outcome = load.read(client, proxy.port, streams, messages, pause_us)
    return outcome, (cpu_seconds(proxy.pid) - before) / outcome["messages"] * 1e6


@dataclass(frozen=True)
class Way:
    """From clients of one protocol to the runtime's other door."""

    client: str
    own: int
    """The port of the runtime's door for the client's protocol."""
    proxy: Contestant
    envoy: Contestant | None
    """Before that door."""


def measure(load: Load, way: Way, streams: int, series: Series) -> None:
    """One round of one case."""
    client, proxy = way.client, way.proxy
    flood, cpu_us = read_counted(load, proxy, client, streams, BACK_TO_BACK // streams, 0)
    series.cpu_us.append(cpu_us)
    series.rate.append(flood["messages"] / flood["seconds"])
    direct = load.read(client, way.own, streams, PACED, PAUSE_US)["delays"]
    paced, cpu_us = read_counted(load, proxy, client, streams, PACED, PAUSE_US)
    series.paced_cpu_us.append(cpu_us)
    through = paced["delays"]
    series.added_p50_ms.append(percentile(through, 0.5) - percentile(direct, 0.5))
    series.added_p99_ms.append(percentile(through, 0.99) - percentile(direct, 0.99))
    series.last_quarter_ms.append(max(statistics.median(each[-PACED // 4 :]) for each in through) / 1e6)
    if way.envoy is not None:
        paced, cpu_us = read_counted(load, way.envoy, client, streams, PACED, PAUSE_US)
        series.envoy_cpu_us.append(cpu_us)
        series.envoy_p50_ms.append(percentile(paced["delays"], 0.5) - percentile(direct, 0.5))


def started(stack: ExitStack) -> dict[str, Way]:
    """The runtime, and the proxies before it."""
    ports = dict(zip(("rest", "grpc"), stack.enter_context(upstream()), strict=True))
    ways = {}
    for name, (runtime, client) in WAYS.items():
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        other = "grpc" if client == "rest" else "rest"
        ours = stack.enter_context(run_proxy(f"{runtime}://127.0.0.1:{ports[other]}", folder))
        proxy = Contestant("inferbridge", int(ours.address.rpartition(":")[2]), ours.pid)
        ways[name] = Way(client, ports[client], proxy, envoy(stack, ports[client], client))
    return ways


def envoy(stack: ExitStack, port: int, client: str) -> Contestant | None:
    """Envoy before a door, where it can be had."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    try:
        return stack.enter_context(run_envoy(port, folder, "rest" if client == "rest" else "grpc"))
    except EnvironmentUnavailable as problem:
        sys.stderr.write(f"without Envoy: {problem}\n")
        return None


def run(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """All rounds of all cases; the first round warms up and is not counted."""
    results = {f"{way} {streams}": Series() for way in WAYS for streams in STREAMS}
    with ExitStack() as stack:
        ways, load = started(stack), stack.enter_context(Load())
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                for streams in STREAMS:
                    measure(load, way, streams, results[f"{name} {streams}"] if number else Series())
            sys.stderr.write(f"round {number} of {options.rounds}\n")
    return {case: series.row() for case, series in results.items()}


def profile(way: str) -> None:
    """Print in which functions the proxy spends its time back to back; the profiler's own cost is in the figures."""
    runtime, client = WAYS[way]
    with tempfile.TemporaryDirectory() as folder, upstream() as (rest, grpc), Load() as load:
        statistics_file = Path(folder, "profile")
        url = f"{runtime}://127.0.0.1:{grpc if client == 'rest' else rest}"
        with run_proxy(url, Path(folder), profile=statistics_file) as proxy:
            load.read(client, int(proxy.address.rpartition(":")[2]), 1, BACK_TO_BACK, 0)
        pstats.Stats(str(statistics_file)).sort_stats("tottime").print_stats(40)


COLUMNS = {
    "cpu_us": "CPU µs a message, back to back",
    "paced_cpu_us": "one every 10 ms",
    "envoy_cpu_us": "Envoy's",
    "messages_per_s": "messages a second",
    "added_p50_ms": "added ms, median",
    "envoy_p50_ms": "Envoy's",
    "added_p99_ms": "99th percentile",
    "latest_stream_ms": "latest stream, ms",
}


def table(rows: dict[str, dict[str, float]]) -> str:
    """The report as Markdown."""
    lines = [f"| way, streams | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {case} | {' | '.join(f'{row[key]:,}' for key in COLUMNS)} |" for case, row in rows.items()]
    return "\n".join(lines)


PAGE = """# What a streamed message costs

Written by `make perf` (`tests/perf/streams.py`), which measures this; do not edit. What whole calls cost is on the page
about [performance](performance.md).

Streams between an fmaas gRPC runtime and an OpenAI client (gRPC to REST), and between an OpenAI REST runtime and an
fmaas client (REST to gRPC), medians of {rounds} rounds. *Back to back* a runtime sends as fast as it is read; else each
stream has a message every 10 ms, all of them at the same moments, as a runtime that generates in batches sends them.
*Added* is how much later messages arrive than at the runtime's own door of the client's protocol, in the same round.
Envoy stands before that door and passes the same messages through untranslated, so it has less to do.

{table}

Our aims are 20 µs back to back, 0.4 ms added at the median, and no stream more than 10 ms behind. {missed}

A message that comes alone costs many times one of a burst: the machine has to wake up for it, and finds its caches
cold. Of 32 messages that come at once each has to wait for those before it, and each is a packet of its own to a client
of its own, which the kernel charges 20 to 30 µs for. Client, proxy and runtime share two cores here, so which of them
has to wait for which changes from run to run, and the medians of 32 streams with it, Envoy's as well.

{when}, {processor}, {cores} cores, load at the end {load}.
"""


def page(rows: dict[str, dict[str, float]], rounds: int) -> str:
    """The page for docs/."""
    late = [case for case, row in rows.items() if missed(row)]
    said = f"Missed: {'; '.join(late)}." if late else "All are reached."
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    facts = {"processor": report.processor(), "cores": os.cpu_count(), "load": load}
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    return PAGE.format(rounds=rounds, table=table(rows), missed=said, when=when, **facts)


def missed(row: dict[str, float]) -> bool:
    """Whether a case misses a target."""
    late = row["added_p50_ms"] > ADDED_P50_MS or row["latest_stream_ms"] > FALLEN_BEHIND_MS
    return row["cpu_us"] > CPU_US or late


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", type=Path, help="where the page goes")
    parser.add_argument("--profile", choices=WAYS, help="show where the time of one way goes instead")
    options = parser.parse_args()
    if options.profile:
        profile(options.profile)
        return 0
    rows = run(options)
    sys.stdout.write((json.dumps(rows, indent=1) if options.json else table(rows)) + "\n")
    if options.write:
        options.write.write_text(page(rows, options.rounds))
    return int(options.check and any(map(missed, rows.values())))


if __name__ == "__main__":
    raise SystemExit(main())
