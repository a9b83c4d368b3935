"""Header blocks that need no table (RFC 7541): every field is a literal that is not indexed.

A block is then the same bytes at any time on any connection, so that it can be kept by what it says.
"""

from typing import Final

_SECRET: Final = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"})


def hpack_integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """An HPACK integer (section 5.1) under the bits of `pattern`."""
    limit = (1 << prefix_bits) - 1
    if value < limit:
        return bytes([pattern | value])
    out = bytearray([pattern | limit])
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS = tuple(hpack_integer(length, 7, 0) for length in range(128))


def hpack_string(value: bytes) -> bytes:
    """An HPACK string (section 5.2), not compressed."""
    size = len(value)
    return (_LENGTHS[size] if size < 128 else hpack_integer(size, 7, 0)) + value


def encode_fields(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Fields as literals with literal names; secrets are marked never to be indexed by anyone on the way."""
    return b"".join(
        [(b"\x10" if name in _SECRET else b"\x00") + hpack_string(name) + hpack_string(value) for name, value in fields]
    )
