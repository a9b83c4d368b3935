"""What a codec has to send, taken in such pieces that nobody copies what is large."""

from inferbridge.bridge.values import Buffer

_LARGE = 256 << 10
"""Bytes of a piece that is not copied once more to leave with others."""


def take(output: list[Buffer]) -> Buffer:
    """Take the first piece off `output` if it is large, else all those before one that is, joined."""
    if not output:
        return b""
    if max(map(len, output)) < _LARGE:
        joined = b"".join(output)
        output.clear()
        return joined
    place = next(place for place, piece in enumerate(output) if len(piece) >= _LARGE)
    if not place:
        return output.pop(0)
    joined = b"".join(output[:place])
    del output[:place]
    return joined
