"""The header blocks of a server (RFC 7541): those of requests decoded, those of answers encoded, each once.

A client that sends the same request again sends the same block again, once its HPACK table holds what it wants there.
What a block means depends on the table, so what is known of blocks is forgotten as soon as one of them changes it.
Answers use no table, so that theirs are the same on every connection.
"""

from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from inferbridge.gateway import fields
from inferbridge.gateway.codecs.http2_abuse import Abuse
from inferbridge.gateway.codecs.known_heads import KnownHeads, Ready
from inferbridge.http2.frames import compression_lost
from inferbridge.http2.literals import encode_fields

type RawFields = tuple[tuple[bytes, bytes], ...]

_KNOWN_BYTES: Final = 4096
_MOST_KNOWN: Final = 8
"""Of blocks that are remembered: a hostile client has at most 64 KiB of them for each connection."""
_STATUSES: Final = {200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14}
"""Index of a status in the static table."""
CONTINUE: Final = encode_fields([(b":status", b"100")])
"""The head that lets a client go on."""


class _Table(HeaderTable):
    """A dynamic table that tells whether it was added to."""

    grown = False

    def add(self, name: bytes, value: bytes) -> None:
        """A new entry, for which others may have to go."""
        self.grown = True
        super().add(name, value)


class BlockDecoder:
    """Decodes the blocks of one client, in their order of arrival."""

    def __init__(self, list_bytes: int) -> None:
        """`list_bytes` bounds a decoded list, by the RFC's count of 32 bytes more a field."""
        self._decoder = Decoder(max_header_list_size=list_bytes)
        self._table = self._decoder.header_table = _Table()
        self._known: dict[bytes, RawFields] = {}

    def decode(self, block: bytes) -> RawFields:
        """The fields of `block`; ProtocolViolation when they are too many, or the table is lost."""
        return self._known.get(block) or self._decode(block)

    def _decode(self, block: bytes) -> RawFields:
        table = self._table
        size, entries = table.maxsize, len(table.dynamic_entries)
        try:
            decoded = tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise Abuse("header_list") from error
        except HPACKError as error:
            raise compression_lost(error) from error
        if table.grown or (size, entries) != (table.maxsize, len(table.dynamic_entries)):
            table.grown = False
            self._known.clear()
        else:
            self._remember(block, decoded)
        return decoded

    def _remember(self, block: bytes, decoded: RawFields) -> None:
        if max(len(block), sum(len(name) + len(value) for name, value in decoded)) <= _KNOWN_BYTES:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[block] = decoded


def _block(status: int, ready: Ready) -> bytes:
    if status:
        fields.declared_length(ready)
    return _status(status) + _literals(ready)


def _status(status: int) -> bytes:
    if not status:
        return b""
    index = _STATUSES.get(status)
    return encode_fields([(b":status", b"%d" % status)]) if index is None else bytes([0x80 | index])


def _literals(ready: Ready) -> bytes:
    return encode_fields([(name.encode("ascii"), value.encode("latin-1")) for name, value in ready])


head_block = KnownHeads(_block, _literals).encoded
"""The head of an answer; ValueError for what must not go on a wire. A status of 0 makes trailers."""
