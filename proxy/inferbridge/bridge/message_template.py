"""The messages of a text stream as bytes: nearly all of one stream differ in their text alone.

A message like the one before it, its text apart, is not encoded again: what stood around the text is kept, and only the
new text is written between.

    data: {"id":"cmpl-1","choices":[{"index":0,"text":  "token"  }]}\\n\\n
    └──────────────────── before ─────────────────────┘         └─ after ─┘

Where the text stands is found by encoding the message once more, with a text that occurs nowhere else. An API that
writes the text changed, twice or not at all has every message encoded in full.
"""

from collections.abc import Callable
from typing import Any

import msgspec

_MARK = "\ue000 text of a message \ue000"
_encode_text = msgspec.json.Encoder().encode
_ENCODED_MARK = _encode_text(_MARK)


class MessageTemplate:
    """Encodes the messages of one stream by `encode`, which must depend on the message alone."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        self._encode = encode
        self._last: Any = None
        """The last message with a text, without it."""
        self._around: tuple[bytes, bytes] | None = None
        """Of messages like the last."""

    def encode(self, message: Any) -> bytes:
        """The bytes of a message, which is used up by it; it need not have a `text`."""
        text = getattr(message, "text", "")
        if not text:
            return self._encode(message)
        message.text = ""
        if message != self._last:
            self._last, self._around = message, None
        elif self._around is None:
            self._around = self._learn(message)
        if self._around:
            before, after = self._around
            return b"%b%b%b" % (before, _encode_text(text), after)
        message.text = text
        data = self._encode(message)
        message.text = ""
        return data

    def _learn(self, message: Any) -> tuple[bytes, bytes] | None:
        message.text = _MARK
        before, *rest = self._encode(message).split(_ENCODED_MARK)
        message.text = ""
        return (before, rest[0]) if len(rest) == 1 else None
