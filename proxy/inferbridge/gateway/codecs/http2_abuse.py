"""Frames that cost the reader more than the sender: how many of them one client may send.

Each kind has a bucket of tokens, filled at a rate up to a burst. The clock is read only when a bucket runs dry, so what
ordinary clients send costs a subtraction. PING and WINDOW_UPDATE are what clients answer DATA with (bandwidth probes,
credit), so that each DATA frame that was sent earns some of both.

The frames are counted one by one as they are read, before anything is made of them: a read of the socket holds
thousands. What exceeds its bucket ends the connection with GOAWAY (ENHANCE_YOUR_CALM).
"""

from collections.abc import Callable
from time import monotonic
from typing import Literal

from inferbridge.http2 import frames
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

type Kind = Literal[
    "reset", "ping", "settings", "empty_data", "window_update", "streams", "continuation", "header_list", "other"
]

_BUCKETS: dict[Kind, tuple[float, float]] = {
    "reset": (200, 100),
    "ping": (100, 100),
    "settings": (50, 50),
    "empty_data": (100, 100),
    "window_update": (1000, 1000),
    "streams": (1000, 100),
    "other": (100, 100),
}
"""Burst, and frames a second. `streams` are those refused for being too many, `other` is PRIORITY and unknown types."""
_EARNED: dict[Kind, float] = {"ping": 1, "window_update": 10}
"""By each DATA frame that was sent."""
_KINDS: dict[int, Kind] = {
    frames.RST_STREAM: "reset",
    frames.PING: "ping",
    frames.SETTINGS: "settings",
    frames.WINDOW_UPDATE: "window_update",
}


class Abuse(ProtocolViolation):
    """More frames of one kind than a client in good faith sends."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(ErrorCode.ENHANCE_YOUR_CALM, f"too many frames: {kind}")
        self.kind = kind


class Meter:
    """Counts the frames of one connection; raises `Abuse`."""

    def __init__(self, streams: int, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._left: dict[Kind, float] = {kind: burst for kind, (burst, _) in _BUCKETS.items()}
        self._filled = dict.fromkeys(_BUCKETS, (now(), 0))
        """When, and how many DATA frames had been sent by then."""
        self.sent = 0
        """DATA frames."""
        self._streams = streams
        self._opened = 0

    def turn(self) -> None:
        """A new piece of input: what was answered in between has made room for streams."""
        self._opened = 0

    def spend(self, kind: Kind) -> None:
        """One frame of a kind."""
        left = self._left[kind] = self._left[kind] - 1
        if left < 0:
            left = self._left[kind] = self._refill(kind) - 1
            if left < 0:
                raise Abuse(kind)

    def _refill(self, kind: Kind) -> float:
        burst, rate = _BUCKETS[kind]
        before, sent = self._filled[kind]
        now, _ = self._filled[kind] = (self._now(), self.sent)
        return min(burst, (now - before) * rate + (self.sent - sent) * _EARNED.get(kind, 0))

    def opened(self) -> None:
        """A header block. More in one piece of input than a client may have open are refused, and cost all the same."""
        self._opened += 1
        if self._opened > self._streams + _BUCKETS["streams"][0]:
            raise Abuse("streams")

    def data(self, size: int, ends: bool) -> None:
        """A DATA frame: one that says nothing is worth nothing."""
        if not size and not ends:
            self.spend("empty_data")

    def frame(self, kind: int) -> None:
        """A frame of any type but DATA, HEADERS and CONTINUATION."""
        self.spend(_KINDS.get(kind, "other"))
