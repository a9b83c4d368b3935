"""Bodies that wait for a window of the peer."""

from collections import deque

from inferbridge.bridge.values import Buffer


def take(pending: deque[Buffer], room: int) -> tuple[list[Buffer], int]:
    """The first pieces of a body that fit into `room` bytes, the last one cut where need be, and their size."""
    pieces: list[Buffer] = []
    taken = 0
    while pending and taken < room:
        piece = pending[0]
        if len(piece) > room - taken:
            view = memoryview(piece)
            pending[0] = view[room - taken :]
            piece = view[: room - taken]
        else:
            pending.popleft()
        pieces.append(piece)
        taken += len(piece)
    return pieces, taken
