"""HPACK with nothing to remember (RFC 7541), so that header blocks can be cached by their bytes.

HPACK's dynamic table makes the meaning of a block depend on all blocks before it. We avoid that in both directions:

* Sending, every field is a literal that is not indexed. A block is then the same bytes at any time on any connection.
* Receiving, we advertise SETTINGS_HEADER_TABLE_SIZE = 0. Until the peer has seen that, it may use a table of 4 096
  bytes and every block goes through the HPACK decoder. Its next block then shrinks the table to nothing, and from
  there on equal bytes mean equal fields: answers of one runtime look alike, so most are found in the cache. A peer
  that keeps its table is decoded correctly too, only never from the cache.
"""

import re
from dataclasses import dataclass
from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError

from inferbridge.bridge.values import HOP_BY_HOP, Headers
from inferbridge.http2.frames import ErrorCode, ProtocolViolation, compression_lost
from inferbridge.http2.literals import encode_fields, hpack_integer, hpack_string

_METHOD_POST: Final = b"\x83"
_SCHEMES: Final = {"http": b"\x86", "https": b"\x87"}
_INDEX_AUTHORITY: Final = 1
_INDEX_METHOD: Final = 2
_INDEX_PATH: Final = 4

_CACHE_ENTRIES: Final = 1024
_CACHE_BLOCK_BYTES: Final = 2048


def encode_route(scheme: str, authority: str, method: str, path: str) -> bytes:
    """The pseudo-header fields, and `te: trailers`, which gRPC requires of a request."""
    verb = (
        _METHOD_POST if method == "POST" else hpack_integer(_INDEX_METHOD, 4, 0) + hpack_string(method.encode("ascii"))
    )
    return b"".join(
        (
            verb,
            _SCHEMES[scheme],
            hpack_integer(_INDEX_PATH, 4, 0) + hpack_string(path.encode("ascii")),
            hpack_integer(_INDEX_AUTHORITY, 4, 0) + hpack_string(authority.encode("ascii")),
            encode_fields([(b"te", b"trailers")]),
        )
    )


@dataclass(frozen=True, slots=True)
class FieldBlock:
    """A decoded block: the head of an answer when it has a status, otherwise trailers."""

    status: int | None
    headers: Headers
    content_length: int | None
    fault: str = ""
    """Why the block is malformed; a matter of its stream alone."""


class BlockDecoder:
    """Decodes the blocks of one connection, in their order of arrival."""

    def __init__(self, header_bytes: int) -> None:
        self._decoder = Decoder(max_header_list_size=header_bytes)
        self._cache: dict[bytes, FieldBlock] = {}
        self._context_free = False

    def decode(self, block: bytes) -> FieldBlock:
        """The fields of `block`; ProtocolViolation when the connection's compression state is lost."""
        if self._context_free:
            known = self._cache.get(block)
            if known is not None:
                return known
        try:
            fields = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError as error:
            raise ProtocolViolation(ErrorCode.ENHANCE_YOUR_CALM, "header fields exceed the limit") from error
        except HPACKError as error:
            raise compression_lost(error) from error
        decoded = _interpret([(bytes(name), bytes(value)) for name, value in fields])
        self._context_free = self._decoder.header_table_size == 0
        if self._context_free and len(block) <= _CACHE_BLOCK_BYTES:
            if len(self._cache) >= _CACHE_ENTRIES:
                self._cache.clear()
            self._cache[block] = decoded
        return decoded


_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]")


def _interpret(fields: list[tuple[bytes, bytes]]) -> FieldBlock:
    status: int | None = None
    length: int | None = None
    headers: list[tuple[str, str]] = []
    for name, value in fields:
        if name == b":status":
            if status is not None or headers or not re.fullmatch(rb"[1-9]\d\d", value):
                return FieldBlock(None, (), None, "malformed :status")
            status = int(value)
            continue
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            return FieldBlock(None, (), None, f"malformed header field {name[:80]!r}")
        if name == b"content-length":
            if not re.fullmatch(rb"\d{1,18}", value) or length not in (None, int(value)):
                return FieldBlock(None, (), None, "malformed content-length")
            length = int(value)
        if name.decode("ascii") not in HOP_BY_HOP:
            headers.append((name.decode("ascii"), value.decode("latin-1")))
    return FieldBlock(status, tuple(headers), length)
