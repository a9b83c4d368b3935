"""Large bodies whose length is known beforehand: each piece is copied to its place as it comes.

Collected in a list and joined at the end, a body of 40 MB is held twice, and much of the time goes into memory that
the kernel has to find for it. Room that nothing was written to takes no memory, so that a length which is only claimed
costs none.
"""

import numpy as np

from inferbridge.bridge.framing import PREFIX_BYTES
from inferbridge.bridge.values import Buffer

LARGE = 1 << 20
"""Bytes of a body that is worth it."""
FIRST = 4096
"""Bytes of the first piece of such a body, at least: it comes in pieces as large as can be."""


class Gathered(list[Buffer]):
    """Chunks of a body of which there is only one, as long as the body is not longer than was said."""

    def __init__(self, length: int) -> None:
        """`length` in bytes."""
        super().__init__()
        self._room = memoryview(np.empty(length, "u1"))
        self._filled = 0

    def append(self, data: Buffer) -> None:
        """One more piece."""
        end = self._filled + len(data)
        if self._filled < 0 or end > len(self._room):
            self._filled = -1  # from here on as a list does it
            super().append(data)
        else:
            self._room[self._filled : end] = data
            self._filled = end
            self[:] = [self._room[:end]]


def room_for(length: int, limit: int) -> list[Buffer]:
    """What a body of this length is best collected in; one that exceeds its limit will not be read to its end."""
    return Gathered(length) if LARGE <= length <= limit else []


def room_behind(first: Buffer, limit: int) -> list[Buffer]:
    """The same for the body of a gRPC call whose first piece this is: the prefix says how long its message is."""
    return room_for(PREFIX_BYTES + int.from_bytes(first[1:PREFIX_BYTES]), limit)
