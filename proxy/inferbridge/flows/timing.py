"""When what happened in a call: plain values, made while the call is there to be asked."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Any

from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import Leg

LINE = 240
"""Points at most that a line of gaps has; each is the longest of those it stands for."""


def since(began: float, time: float) -> float | None:
    """Milliseconds; None for what has not happened."""
    return round(1000 * (time - began), 3) if time else None


def of_call(record: CallRecord, times: Sequence[float], legs: Sequence[Leg] = ()) -> dict[str, Any]:
    """Milliseconds from the client's head to each step, None for those not taken, and the gaps between `times`.

    `admitted` the caller is known, `received` the client's body is there, `asked` the first runtime is asked,
    `connected` and `secured` the connection that it waits for is open, and has TLS, `headed` it answers, `first` the
    client is sent the first byte, `answered` the last runtime is done, `ended`. Where nobody waited for a connection
    `pooled` is how long before that it was open.
    """
    steps = {
        "admitted": record.admitted,
        "received": record.received,
        "asked": record.upstream_began,
        "headed": record.upstream_head,
        "first": record.first_byte,
        "answered": record.upstream_ended,
        "ended": record.ended,
    }
    found: dict[str, Any] = {name: since(record.began, time) for name, time in steps.items()}
    return {**found, **connection(record.began, legs), "messages": record.messages_out, "gaps": gaps(times)}


def connection(began: float, legs: Sequence[Leg]) -> dict[str, float | None]:
    """Of the first runtime that had to be connected to; else of the first that answered."""
    leg = next((leg for leg in legs if leg.connected), None) or next((leg for leg in legs if leg.opening), None)
    if leg is None or leg.opening is None:
        return {}
    asked, opening = leg.asked.began, leg.opening
    if not leg.connected:
        return {"pooled": since(max(opening.connected, opening.secured), asked)}
    return {"connected": since(began, max(asked, opening.connected)), "secured": since(began, opening.secured)}


def gaps(times: Sequence[float]) -> dict[str, Any] | None:
    """Milliseconds between the pieces of an answer; None where there are fewer than two."""
    between = [1000 * (later - earlier) for earlier, later in pairwise(times)]
    if not between:
        return None
    ordered = sorted(between)
    line = [round(value, 3) for value in _longest(between)]
    at = {name: round(ordered[ceil(share * len(ordered)) - 1], 3) for name, share in (("p50", 0.5), ("p95", 0.95))}
    return {"count": len(between), **at, "max": round(ordered[-1], 3), "line": line}


def _longest(values: Sequence[float]) -> list[float]:
    """At most `LINE` of them, each the longest of its neighbours."""
    step = -(-len(values) // LINE)
    return [max(values[at : at + step]) for at in range(0, len(values), step)]
