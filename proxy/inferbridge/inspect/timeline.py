"""Where the time of a call went: its phases one below the other, and the gaps of its stream as a line of bars."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from inferbridge.inspect.page import Page

WIDTH = 36
"""Characters of the longest bar."""
SPARKS = 54
_HEIGHTS = "▁▂▃▄▅▆▇█"
_PHASES = (
    ("auth", (), "admitted"),
    ("client's body", ("admitted",), "received"),
    ("map, and choose", ("received",), "asked"),
    ("connect", ("asked",), "connected"),
    ("TLS with runtime", ("connected",), "secured"),
    ("wait for runtime", ("secured", "connected", "asked"), "headed"),
    ("to the first byte", ("headed",), "first"),
    ("the rest", ("first",), "ended"),
)
"""Each from a step, the first that is known of some, to another; the first one from the client's head."""


@dataclass(frozen=True, slots=True)
class Phase:
    """Milliseconds from the client's head."""

    name: str
    start: float
    end: float


def phases(timing: Mapping[str, Any]) -> Iterator[Phase]:
    """Those that both ends are known of; who was asked before the body was complete has phases that overlap."""
    before = 0.0
    for name, firsts, last in _PHASES:
        known = (timing[first] for first in firsts if timing.get(first) is not None)
        start, end = next(known, before), timing.get(last)
        if isinstance(start, int | float) and isinstance(end, int | float):
            yield Phase(name, min(start, end), end)
            before = end


def add_timing(page: Page, timing: Mapping[str, Any], tls_ms: float | None = None, age_ms: float | None = None) -> None:
    """The whole view. `tls_ms` is the handshake of the client's connection, `age_ms` how old that was at the call."""
    found = list(phases(timing))
    total = max((phase.end for phase in found), default=0.0)
    if age_ms is not None:
        page.add(f"{'connection':<18} opened {age_ms:.1f} ms before")
    if tls_ms is not None:
        page.add(f"{'TLS handshake':<18} {tls_ms:9.2f} ms, of that connection")
    if (pooled := timing.get("pooled")) is not None:
        page.add(f"{'to the runtime':<18} over a pooled connection, opened {pooled:.1f} ms before")
    for phase in found:
        took = phase.end - phase.start
        page.add(f"{phase.name:<18} {took:9.2f} ms  {bar(phase, total)}".rstrip())
    ended, first = timing.get("ended"), timing.get("first")
    page.add(f"{'total':<18} {total:9.2f} ms{'' if ended is not None else ', and it goes on'}")
    if first is not None:
        page.add(f"{'TTFT':<18} {first:9.2f} ms")
    _add_gaps(page, timing)


def _add_gaps(page: Page, timing: Mapping[str, Any]) -> None:
    gaps, messages = timing.get("gaps"), timing.get("messages")
    if messages:
        page.add(f"{'messages':<18} {messages:>9}")
    if gaps:
        page.add(f"{'gaps':<18} p50 {gaps['p50']:.2f} ms, p95 {gaps['p95']:.2f} ms, max {gaps['max']:.2f} ms")
        page.add(f"{'':<18} {sparkline(gaps['line'])}")


def bar(phase: Phase, total: float) -> str:
    """Where a phase stands in all of the call."""
    if total <= 0:
        return ""
    start, end = (round(WIDTH * time / total) for time in (phase.start, phase.end))
    return " " * min(start, WIDTH - 1) + "█" * max(1, end - start)


def sparkline(values: list[float], width: int = SPARKS) -> str:
    """A bar for each value, up to the longest; where there are more than `width` the longest of neighbours."""
    step = max(1, -(-len(values) // width))
    shown = [max(values[at : at + step]) for at in range(0, len(values), step)]
    most = max(shown, default=0.0) or 1.0
    return "".join(_HEIGHTS[min(len(_HEIGHTS) - 1, int(len(_HEIGHTS) * value / most))] for value in shown)
