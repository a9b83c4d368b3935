"""A receive window of HTTP/2: what the client may still send, and when it may send as much again."""

from typing import Final

from inferbridge.http2.frames import ErrorCode, ProtocolViolation

_STARVED: Final = 1024
"""Bytes that are worth a WINDOW_UPDATE when the client can send nothing more."""


class ReceiveWindow:
    """Of one stream or of the connection. What was consumed is granted again once it is half of the window."""

    __slots__ = ("_consumed", "_size", "left")

    def __init__(self, size: int) -> None:
        self._size = size
        self.left = size
        """Bytes that the client may send."""
        self._consumed = 0
        """Bytes that were consumed and not granted again."""

    @property
    def balanced(self) -> bool:
        """All that has come was consumed."""
        return self.left + self._consumed == self._size

    def take(self, size: int) -> None:
        """`size` bytes have come. ProtocolViolation: more than the client may send."""
        self.left -= size
        if self.left < 0:
            raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than granted")

    def give(self, size: int) -> int:
        """`size` bytes were consumed; what to grant the client now, or 0."""
        consumed = self._consumed + size
        if consumed < self._size >> 1 and (self.left or consumed <= min(_STARVED, self._size >> 2)):
            self._consumed = consumed
            return 0
        self._consumed = 0
        self.left += consumed
        return consumed
