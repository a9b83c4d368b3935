"""The times of a call as people see them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.inspect.page import Page
from inferbridge.inspect.timeline import SPARKS, WIDTH, add_timing, phases, sparkline

STREAM = {
    "admitted": 1.0,
    "received": 2.0,
    "asked": 4.0,
    "headed": 54.0,
    "first": 60.0,
    "answered": 99.0,
    "ended": 100.0,
    "messages": 3,
    "gaps": {"count": 2, "p50": 10.0, "p95": 30.0, "max": 30.0, "line": [10.0, 30.0]},
}


def lines(timing: dict[str, object], **connection: float) -> list[str]:
    """The view, with single spaces but for bars."""
    page = Page()
    add_timing(page, timing, **connection)
    return page.text().splitlines()


def test_a_stream_is_shown_phase_by_phase() -> None:
    """Each phase has its time and stands where it was; then TTFT and the gaps."""
    assert lines(STREAM, tls_ms=3.0, age_ms=5.0) == [
        "connection         opened 5.0 ms before",
        "TLS handshake           3.00 ms, of that connection",
        "auth                    1.00 ms  █",
        "client's body           1.00 ms  █",
        "map, and choose         2.00 ms   █",
        "wait for runtime       50.00 ms   ██████████████████",
        "to the first byte       6.00 ms                     ███",
        "the rest               40.00 ms                        ██████████████",
        "total                 100.00 ms",
        "TTFT                   60.00 ms",
        "messages                   3",
        "gaps               p50 10.00 ms, p95 30.00 ms, max 30.00 ms",
        "                   ▃█",
    ]


def test_a_call_that_waited_for_a_connection_shows_what_it_waited_for() -> None:
    """TCP and TLS to the runtime are phases of their own, and the wait for the runtime begins behind them."""
    assert lines({**STREAM, "connected": 14.0, "secured": 34.0})[2:6] == [
        "map, and choose         2.00 ms   █",
        "connect                10.00 ms   ████",
        "TLS with runtime       20.00 ms       ███████",
        "wait for runtime       20.00 ms              ███████",
    ]
    plain = {**STREAM, "connected": 14.0, "secured": None}
    assert [line.split("  ")[0] for line in lines(plain)[3:5]] == ["connect", "wait for runtime"]
    assert "40.00 ms" in lines(plain)[4]


def test_a_call_on_a_pooled_connection_says_so() -> None:
    """How long before the call it was open; there is no phase for it."""
    found = lines({**STREAM, "pooled": 812.34})
    assert found[0] == "to the runtime     over a pooled connection, opened 812.3 ms before"
    assert found[1:] == lines(STREAM)


def test_a_call_under_way_is_shown_as_far_as_it_is() -> None:
    """Steps that were not taken have no phase."""
    running = {name: value for name, value in STREAM.items() if name in ("admitted", "received", "asked")}
    assert [phase.name for phase in phases(running)] == ["auth", "client's body", "map, and choose"]
    assert "and it goes on" in lines(running)[-1]


def test_phases_may_overlap() -> None:
    """Who is asked while the client still sends has no phase that ends before it begins."""
    duplex = {"admitted": 1.0, "received": 90.0, "asked": 4.0, "headed": 5.0, "first": 6.0, "ended": 100.0}
    assert all(phase.start <= phase.end for phase in phases(duplex))


@pytest.mark.parametrize(("values", "expected"), [([], ""), ([0.0, 0.0], "▁▁"), ([1.0, 8.0, 4.0], "▂█▅")])
def test_gaps_are_bars(values: list[float], expected: str) -> None:
    """The longest is the highest; nothing is divided by nothing."""
    assert sparkline(values) == expected


STEPS = st.none() | st.floats(0, 1e7)


@given(
    st.fixed_dictionaries(
        {name: STEPS for name in (*STREAM, "connected", "secured") if name not in ("messages", "gaps")}
    ),
    st.lists(STEPS),
)
def test_any_times_have_a_form(timing: dict[str, object], line: list[float | None]) -> None:
    """Lines keep their width, whatever the clock said."""
    assert all(len(each) < WIDTH + 60 for each in lines(timing))
    assert len(sparkline([value or 0.0 for value in line])) <= SPARKS
