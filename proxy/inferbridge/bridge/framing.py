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
    view, messages, at = memoryview(body), [], 0
    while at < len(view):
        if at + PREFIX_BYTES > len(view):
            raise invalid("the last gRPC message is cut off")
        compressed, length = _PREFIX.unpack_from(view, at)
        at += PREFIX_BYTES + length
        if length > limit:
            raise too_large(length, limit)
        if at > len(view) or compressed > 1:
            raise invalid(
                "the last gRPC message is cut off" if compressed <= 1 else "the gRPC compression flag is not 0 or 1"
            )
        message = view[at - length : at]
        messages.append((inflate(message, encoding, limit) if compressed else message,))
    return tuple(messages)


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
