"""Counting a streamed answer in batches."""

from itertools import accumulate

import pytest

from inferbridge.gateway.record import GAP_SECONDS, CallRecord
from inferbridge.gateway.records import pace
from inferbridge.gateway.records.counting import Events
from inferbridge.gateway.records.pace import Pace


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times that the clock says next."""
    times: list[float] = []
    monkeypatch.setattr(pace, "clock", lambda: times.pop(0))
    return times


@pytest.mark.parametrize("pieces", [1, 63, 64, 65, 500])
def test_all_pieces_are_counted_however_many_make_a_batch(ticks: list[float], pieces: int) -> None:
    """Bytes, messages, gaps and their sum are those of all pieces, also of a batch that is not full."""
    record = CallRecord(first_byte=1.0)
    counted = Pace(record, Events())
    gaps = [0.0005 if number % 2 else 0.02 for number in range(pieces)]
    ticks += list(accumulate(gaps, initial=1.0))[1:]
    for _ in gaps:
        counted.add(b"data: a\n\ndata: b\n\n")
    counted.count()
    assert record.gaps is not None
    assert (record.bytes_out, record.messages_out) == (18 * pieces, 2 * pieces)
    assert (record.gaps[0], record.gaps[GAP_SECONDS.index(0.025)]) == (pieces // 2, pieces - pieces // 2)
    assert record.gap_seconds == pytest.approx(sum(gaps))


def test_pieces_of_others_are_counted_in_between(ticks: list[float]) -> None:
    """A piece that somebody else counts has its gap, and all before it are in the record by then."""
    record = CallRecord(first_byte=1.0)
    counted = Pace(record, Events())
    ticks += [1.5, 2.0]
    counted.add(b"data: a\n\n")
    counted.mark()
    assert (record.bytes_out, record.messages_out, record.gap_seconds) == (9, 1, 1.0)


def test_a_large_piece_is_not_kept(ticks: list[float]) -> None:
    """What is large is counted at once, so that a batch holds little memory."""
    record = CallRecord(first_byte=1.0)
    ticks += [1.5]
    Pace(record, Events()).add(b"data: " + b"a" * 5000 + b"\n\n")
    assert record.bytes_out == 5008
