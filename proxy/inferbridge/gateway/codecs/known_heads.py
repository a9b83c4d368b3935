"""Encoded heads of answers: most have the same few."""

from collections.abc import Callable
from typing import Final

from inferbridge.bridge.values import Headers
from inferbridge.gateway import fields

_KEPT: Final = 256
_HEAD_BYTES: Final = 1024
"""A larger head is not kept."""
type Ready = list[tuple[str, str]]
"""Fields as they go out."""


class KnownHeads[H: (bytes, bytes | None)]:
    """Heads that were encoded before, by status and fields."""

    def __init__(self, encode: Callable[[int, Ready], H], encode_fields: Callable[[Ready], bytes]) -> None:
        """`encode` makes a head, or nothing of one that is not for here; `encode_fields` more fields behind it."""
        self._encode: Callable[[int, Ready], H] = encode
        self._encode_fields = encode_fields
        self._known: dict[tuple[int, Headers], bytes] = {}

    def encoded(self, status: int, headers: Headers) -> H:
        """A head as it is on the wire; ValueError for what must not go there.

        The id of a call is encoded apart: no other answer has the same.
        """
        if headers and headers[-1][0] == fields.REQUEST_ID:
            known = self.encoded(status, headers[:-1])
            return None if known is None else known + self._encode_fields(fields.outgoing(headers[-1:]))
        key = (status, headers)
        kept = self._known.get(key)
        if kept is not None:
            return kept
        head = self._encode(status, fields.outgoing(headers))
        if head is not None and len(head) <= _HEAD_BYTES:
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = head
        return head
