"""gRPC framing: each message after five bytes, a compression flag and the length (gRPC over HTTP/2 specification)."""

import re
import struct
import zlib
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Buffer, Chunks, Headers, size

_PREFIX = struct.Struct(">BI")
PREFIX_BYTES = 5
_SMALL = 4096
"""Bytes below which a copy costs less than a view."""
GRPC_HEADERS: Headers = (("content-type", "application/grpc"),)
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def frame(messages: Iterable[Chunks]) -> list[Buffer]:
    """The messages with their prefixes, uncompressed."""
    out: list[Buffer] = []
    for chunks in messages:
        out += (_PREFIX.pack(0, size(chunks)), *chunks)
    return out


def unframe(body: Buffer, encoding: str, limit: int) -> tuple[Chunks, ...]:
    """The messages of a whole body; `encoding` is the call's `grpc-encoding`, `limit` bytes hold for each message."""
    if len(body) < _SMALL and type(body) is bytes and is_whole(body, limit):
        return ((body[PREFIX_BYTES:],),)
    view = memoryview(body)
    found, end, _ = split(view, limit)
    if end < len(view):
        raise invalid("the last gRPC message is cut off")
    return tuple([(plain(flag, message, encoding, limit) if flag else message,) for flag, message in found])


def is_whole(body: bytes, limit: int) -> bool:
    """Whether this is one message, uncompressed and of `limit` bytes at most, with its prefix: as most arrive."""
    length = len(body) - PREFIX_BYTES
    return 0 <= length <= limit and body.startswith(_PREFIX.pack(0, length))


def split[B: Buffer](body: B, limit: int) -> tuple[list[tuple[int, B]], int, int]:
    """Flag and content of each message that is complete, where the rest begins, and how many bytes that will have.

    BridgeError RESOURCE_EXHAUSTED for a message over `limit` bytes, complete or not.
    """
    found: list[tuple[int, B]] = []
    at, end = 0, len(body)
    while end - at >= PREFIX_BYTES:
        flag, length = _PREFIX.unpack_from(body, at)
        if length > limit:
            raise too_large(length, limit)
        stop = at + PREFIX_BYTES + length
        if stop > end:
            return found, at, stop - at
        found.append((flag, body[at + PREFIX_BYTES : stop]))  # type: ignore[arg-type]  # a slice is of the same kind
        at = stop
    return found, at, PREFIX_BYTES


def plain(flag: int, message: Buffer, encoding: str, limit: int) -> Buffer:
    """A message with a flag as it was before compression."""
    if flag != 1:
        raise invalid("the gRPC compression flag is not 0 or 1")
    return inflate(message, encoding, limit)


def too_large(length: int, limit: int) -> BridgeError:
    """The error for a message over the limit."""
    return BridgeError(Code.RESOURCE_EXHAUSTED, f"a message of {length} bytes is over the limit of {limit}", status=413)


def inflate(message: Buffer, encoding: str, limit: int) -> bytes:
    """A compressed message, bounded."""
    if encoding not in {"gzip", "deflate"}:
        raise BridgeError(
            Code.UNIMPLEMENTED, f"grpc-encoding {encoding!r} is not supported; use gzip, deflate or identity"
        )
    inflater = zlib.decompressobj(31 if encoding == "gzip" else 15)
    try:
        plain = inflater.decompress(message, limit + 1)
    except zlib.error as error:
        raise invalid(f"a compressed message is broken: {error}") from None
    if len(plain) > limit:
        raise too_large(len(plain), limit)
    if not inflater.eof or inflater.unused_data:
        raise invalid("a compressed message is cut off or has bytes after its end")
    return plain


def quote_message(text: str) -> str:
    """`grpc-message`: printable ASCII, all else percent-encoded UTF-8."""
    return quote_from_bytes(text.encode(errors="replace"), safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")


def status_trailers(error: BridgeError) -> Headers:
    """The trailers of a call that failed."""
    return ("grpc-status", str(int(error.code))), ("grpc-message", quote_message(error.message)), *retry_after(error)


def retry_after(error: BridgeError) -> Headers:
    """When to try again: seconds in `retry-after`, as in HTTP; nothing where that is not known."""
    return () if error.retry_after is None else (("retry-after", str(error.retry_after)),)


def unquote_message(text: str) -> str:
    """The text of a `grpc-message`."""
    return unquote(text, errors="replace")


def parse_timeout(text: str) -> float:
    """Seconds of a `grpc-timeout`."""
    found = _TIMEOUT.fullmatch(text)
    if found is None:
        raise invalid(f"grpc-timeout {text!r} is not a number of up to 8 digits and one of H M S m u n")
    return int(found[1]) * _UNITS[found[2]]


def timeout_text(seconds: float) -> str:
    """The `grpc-timeout` of some seconds, at least one millisecond."""
    return f"{min(max(1, int(seconds * 1000)), 99_999_999)}m"
