"""The page of performance, made of what was measured."""

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from inferbridge.event_loop import choose
from perf.cost import QUIET_MS
from perf.rows import (
    AIM_COPIES,
    AIM_MB,
    AIM_SECONDS,
    BULK_REASON,
    MEMORY_REASON,
    REACH_COPIES,
    REACH_MB,
    REACH_SECONDS,
    Bulk,
    Found,
)
from runtimes.environments import REQUIREMENTS

PACKAGES = ("mitmproxy", "hpack", "hyperframe", "httptools", "orjson", "msgspec", "numpy", "uvloop")
HEAD = """# Performance

Written by `make perf` (`tests/perf/table.py`), which measures this; do not edit.

CPU microseconds of the proxy process for one call, medians of {rounds} rounds. Eight connections, one call in flight on
each, HTTP/1.1 with keep-alive or HTTP/2, runtimes that echo. Our proxy has a key for its caller, a rule with rates,
limits, the access log and the admin port with its metrics; Envoy has its router alone, and its transcoder where it
translates.

`here` is as measured. `scaled` divides it by how many times as much Envoy cost here as on the machine of the aims
({by}; a row without such a figure goes by the median), for this machine is shared, and how fast it is
changes by the minute. Two million turns of an empty Python loop, the other measure, took {loop:.0f} ms of CPU here and
{quiet:.0f} ms there; a loop needs no cache and no kernel, so it says less. `of Envoy` compares both in this run. The
figures of others are of the machine of the aims. On a busy machine a row has differed by two
fifths from one run to the next.
"""


@dataclass(frozen=True)
class Start:
    """Of an idle proxy."""

    seconds: float
    resident: float
    """Bytes."""
    cpu: float
    """Seconds, until then."""


def page(found: list[Found], bulk: list[Bulk], loop: float, start: Start, rounds: int) -> str:
    """All of it, as Markdown; `loop` is how many milliseconds the empty loop took."""
    known = [each.envoy / each.row.envoy for each in found if each.envoy and each.row.envoy]
    slower = median(known) if known else loop / QUIET_MS
    by = ", ".join(f"{each:.1f}" for each in known) or "not known here, so the loop is taken"
    head = HEAD.format(rounds=rounds, loop=loop, quiet=QUIET_MS, by=by)
    parts = [head, *_calls(found, slower), "", *_bulk(bulk), "", *_start(start, slower), ""]
    return "\n".join([*parts, *_missed(found, bulk, slower), "", *_machine(), ""])


def _calls(found: list[Found], slower: float) -> Iterator[str]:
    yield "| path | others, there | Envoy, here | here | scaled | of Envoy | reach | aim | |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for each in found:
        assert each.own is not None
        row, scaled = each.row, each.scaled(slower)
        envoy = f"{each.envoy:,.0f}" if each.envoy else ""
        others = ", ".join(filter(None, [f"Envoy {row.envoy:g}" if row.envoy else "", row.others]))
        ratio = f"{each.own / each.envoy:.2f}" if each.envoy else ""
        said = _verdict(scaled, row.reach, row.aim)
        cells = (row.what, others, envoy, f"{each.own:,.0f}", f"{scaled:,.0f}", ratio, row.reach, row.aim, said)
        yield f"| {' | '.join(map(str, cells))} |"


def _verdict(found: float, reach: float, aim: float) -> str:
    return "aim reached" if found <= aim else "reached" if found <= reach else "missed"


def _bulk(bulk: list[Bulk]) -> Iterator[str]:
    yield "Tensors of 40 MB as raw bytes, one call after the other; every call carries one there and one back:"
    yield ""
    yield "| path | CPU of one way, in copies | a relay's | beyond it | held at the peak, in bodies | reach | aim | |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in bulk:
        said = _verdict(each.beyond, REACH_COPIES, AIM_COPIES)
        cells = (each.what, *(f"{figure:.1f}" for figure in (each.copies, each.relay, each.beyond, each.held)))
        yield f"| {' | '.join(cells)} | {REACH_COPIES} | {AIM_COPIES} | {said} |"
    yield ""
    yield "A copy is one of NumPy's from memory to memory, timed in the same rounds. The relay (`tests/perf/relay.py`)"
    yield "stands between the same client and a runtime of the client's protocol, reads from one socket, writes to the"
    yield "other and looks at nothing: the kernel's copies from and to the sockets, and all that TCP does for 40 MB,"
    yield "which any proxy pays. Reach and aim speak of copies that the proxy makes, so what is beyond that is judged."


def _start(start: Start, slower: float) -> Iterator[str]:
    megabytes, scaled = start.resident / 1e6, start.cpu / slower
    yield "| an idle proxy | here | scaled | reach | aim | |"
    yield "|---|---|---|---|---|---|"
    yield (
        f"| resident memory (Envoy: 67 MB) | {megabytes:.0f} MB | | {REACH_MB} MB | {AIM_MB} MB | "
        f"{_verdict(megabytes, REACH_MB, AIM_MB)} |"
    )
    yield (
        f"| CPU from the command to listening | {start.cpu:.1f} s | {scaled:.1f} s | {REACH_SECONDS:g} s | "
        f"{AIM_SECONDS:g} s | {_verdict(scaled, REACH_SECONDS, AIM_SECONDS)} |"
    )
    yield ""
    yield f"It took {start.seconds:.1f} s of the wall clock, with others wanting the same cores."


def _missed(found: list[Found], bulk: list[Bulk], slower: float) -> Iterator[str]:
    missed = [each.row for each in found if each.scaled(slower) > each.row.aim]
    yield "## What misses its aim, and why"
    yield ""
    for row in missed:
        yield f"* {row.what}: {row.reason}"
    if any(each.beyond > AIM_COPIES for each in bulk):
        yield "* " + BULK_REASON
    yield "* " + MEMORY_REASON


def _machine() -> Iterator[str]:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    yield "## Where"
    yield ""
    yield f"* {datetime.now(UTC):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores, load at the end {load}"
    yield f"* {platform.system()} {platform.release()}, Python {sys.version.split()[0]} ({_built()}), {choose('auto')}"
    yield f"* {', '.join(f'{name} {_version(name)}' for name in PACKAGES)}"
    yield f"* peers of this run: {', '.join((REQUIREMENTS / 'envoy.txt').read_text().split())} from PyPI"


def processor() -> str:
    """Its name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _built() -> str:
    """Whether the interpreter is as fast as it can be: those of most distributions are, one from source is not."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"built {'with' if optimised else 'without'} profile-guided optimisation"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(none)"
