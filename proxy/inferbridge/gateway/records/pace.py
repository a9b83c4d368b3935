"""Counts the pieces of a streamed answer, and the time between them, many at once.

A token is worth little, so of each piece only the time and the piece itself are kept. A batch is counted when it is
full, when a piece is large, and when whoever reads the record wants to know.
"""

from bisect import bisect_left
from itertools import pairwise

from inferbridge.bridge.values import Buffer
from inferbridge.gateway.record import GAP_SECONDS, CallRecord, clock
from inferbridge.gateway.records.counting import Counter

_BATCH = 64
"""Pieces."""
_LARGE = 4096
"""Bytes of a piece that is not kept."""


class Pace:
    """The pieces of one answer, from the second one on."""

    __slots__ = ("_counter", "_pieces", "_record", "_times")

    def __init__(self, record: CallRecord, counter: Counter | None) -> None:
        """The first piece has just been sent; `counter` knows messages, without one there are none."""
        self._record = record
        self._counter = counter
        self._times = [record.first_byte]
        self._pieces: list[Buffer] = []
        record.gaps = [0] * (len(GAP_SECONDS) + 1)

    def add(self, data: Buffer) -> None:
        """A piece of whole messages is sent now."""
        times, pieces = self._times, self._pieces
        times.append(clock())
        pieces.append(data)
        if len(pieces) >= _BATCH or len(data) > _LARGE:
            self.count()

    def mark(self) -> None:
        """A piece is sent now that is counted by somebody else, who is to know all before it."""
        self._times.append(clock())
        self.count()

    def count(self) -> None:
        """Bring the record up to date."""
        record, times = self._record, self._times
        assert record.gaps is not None
        for before, after in pairwise(times):
            record.gaps[bisect_left(GAP_SECONDS, after - before)] += 1
        record.gap_seconds = times[-1] - record.first_byte
        del times[:-1]
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            record.bytes_out += len(data)
            if self._counter is not None:
                record.messages_out += self._counter.whole(data)
