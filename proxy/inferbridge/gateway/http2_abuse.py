"""Frames that cost the reader more than the sender: how many of them one client may send.

Each kind has a bucket of tokens, filled at a rate up to a burst. The clock is read only when a bucket runs dry, so what
ordinary clients send costs a subtraction. PING and WINDOW_UPDATE are what clients answer DATA with (bandwidth probes,
credit), so that each DATA frame that was sent earns some of both.

The frames are counted one by one as the library reads them, not afterwards: a read of the socket holds thousands.
What exceeds its bucket ends the connection with GOAWAY (ENHANCE_YOUR_CALM).
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, Literal

import h2.connection
import h2.errors
import h2.exceptions
import h2.frame_buffer
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

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
_CONTINUATIONS = 20
"""Frames that one header block may be cut into."""


class Abuse(h2.exceptions.ProtocolError):
    """More frames of one kind than a client in good faith sends."""

    error_code = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM

    def __init__(self, kind: Kind) -> None:
        super().__init__(f"too many frames: {kind}")
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

    def frame(self, frame: Frame) -> None:
        """One frame, whatever it is."""
        kind = type(frame)
        if isinstance(frame, DataFrame):
            if not frame.data and "END_STREAM" not in frame.flags:
                self.spend("empty_data")
        elif kind is HeadersFrame:
            self.opened()
        elif kind is WindowUpdateFrame:
            self.spend("window_update")
        elif kind is RstStreamFrame:
            self.spend("reset")
        elif kind is PingFrame:
            self.spend("ping")
        elif kind is SettingsFrame:
            self.spend("settings")
        else:
            self.spend("other")


class _HeaderBlocks(h2.frame_buffer.FrameBuffer):
    """Bounds the pieces of a header block as they come; the library puts them together before anybody sees them."""

    def __init__(self, header_bytes: int) -> None:
        super().__init__(server=True)
        self._header_bytes = header_bytes

    @property
    def partial(self) -> bool:
        """A frame, a header block or the preface has begun and is not complete."""
        return bool(self._data or self._headers_buffer or self._preamble_len)

    def _update_header_buffer(self, f: Frame | None) -> Frame | None:
        frame = super()._update_header_buffer(f)
        pieces = self._headers_buffer
        if pieces and (len(pieces) > _CONTINUATIONS or sum(len(piece.data) for piece in pieces) > self._header_bytes):
            raise Abuse("continuation")
        return frame


class MeteredConnection(h2.connection.H2Connection):
    """The library's connection, whose frames are counted as they are read."""

    def __init__(self, config: Any, header_bytes: int, meter: Meter) -> None:
        super().__init__(config)
        self.incoming_buffer = self.blocks = _HeaderBlocks(header_bytes)
        self.frames = 0
        """Frames that were complete."""
        self._meter = meter

    def _receive_frame(self, frame: Frame) -> Any:
        self.frames += 1
        self._meter.frame(frame)
        return super()._receive_frame(frame)

    def release(self) -> None:
        """The library's connection holds itself, by the table of what reads its frames."""
        self._frame_dispatch_table.clear()
