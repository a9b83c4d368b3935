"""DATA frames that are handed on as they arrive: none is collected, however large its sender makes it."""

from typing import Final

from inferbridge.bridge.values import Buffer
from inferbridge.http2 import frames
from inferbridge.http2.frames import ErrorCode, ProtocolViolation

FRAME_SIZE: Final = 1 << 20
"""The largest DATA frame that we let a peer send. It costs no memory; fewer frames cost less time."""
_SMALL: Final = 4096
"""Bytes that are copied: a view would keep all that was read with them."""
_SHARE: Final = 16
"""A view is at least such a part of what it keeps."""


class OpenFrame:
    """The DATA frame that is arriving on a connection; there is one at most."""

    __slots__ = ("ends", "left", "padding", "stream")

    def __init__(self) -> None:
        self.stream = 0
        """The last one's, once it is through."""
        self.ends = False
        """It has END_STREAM."""
        self.left = 0
        """Bytes of content still to come."""
        self.padding = 0
        """Bytes behind them."""

    @property
    def open(self) -> bool:
        """More of the frame is to come."""
        return bool(self.left or self.padding)

    def begin(self, data: bytes, position: int, length: int, flags: int, stream: int) -> int:
        """A frame with `length` bytes of payload, which begins at `position`; where its content begins.

        The first byte must be there if the frame is padded. ProtocolViolation: the padding exceeds the frame.
        """
        self.stream, self.ends = stream, bool(flags & frames.END_STREAM)
        self.left, self.padding = length, 0
        if not flags & frames.PADDED:
            return position
        if not length or data[position] >= length:
            raise ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "padding exceeds its frame")
        self.padding = data[position]
        self.left = length - 1 - self.padding
        return position + 1

    def take(self, data: bytes, position: int) -> tuple[int, int]:
        """Pass over what has arrived; where its content ends, and where it ends with padding."""
        stop = min(position + self.left, len(data))
        after = min(stop + self.padding, len(data))
        self.left -= stop - position
        self.padding -= after - stop
        return stop, after


def cut(data: bytes, start: int, stop: int) -> Buffer:
    """A piece of what was read: a view, where that keeps not much more than itself in memory."""
    size = stop - start
    if size <= _SMALL or size * _SHARE < len(data):
        return data[start:stop]
    return memoryview(data)[start:stop]
