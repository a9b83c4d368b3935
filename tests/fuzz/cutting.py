"""Input cut into pieces, as sockets cut it."""

from collections.abc import Iterable

from inferbridge.bridge.values import Buffer


def cut(data: bytes) -> tuple[bytes, list[bytes]]:
    """All but the first byte, and the same in pieces of as many bytes as the first byte says."""
    size, whole = (data[0] or 1, data[1:]) if data else (1, b"")
    return whole, [whole[at : at + size] for at in range(0, len(whole), size)]


def joined(pieces: Iterable[Buffer]) -> bytes:
    """Pieces of a body as one."""
    return b"".join(map(bytes, pieces))
