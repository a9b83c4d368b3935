"""Nested JSON arrays of numbers or booleans to flat ones, by their text alone.

Theory. Three facts together prove that a text is the nested array of one shape. First, its brackets and commas, all
else left out, are those of that shape. Second, every `[` is followed by `[` or the start of an element, and every `]`
by `,`, `]` or the end. Third, with blanks for the brackets it is a valid flat array (which the caller finds out by
parsing it), so that between two commas stands exactly one element. The text may come in pieces, cut at commas that are
left out.
"""

import re

_BLANK = bytes.maketrans(b"[]", b"  ")
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[],"))
_OPENS_NOTHING = re.compile(rb"\[[ \t\r\n]*+(?![-\[0-9tfnNI])")
_GOES_ON = re.compile(rb"\][ \t\r\n]*+[^\],]")


class Nesting:
    """Checks the pieces of one nested array; `limit` is its length in bytes."""

    def __init__(self, shape: list[int], limit: int) -> None:
        self._structure = _structure(shape, limit)
        self._at = 0

    def flat(self, piece: bytes) -> bytes | None:
        """The piece with blanks for brackets; None when its nesting is wrong."""
        brackets = piece.translate(None, _NOT_STRUCTURE)
        if not self._structure.startswith(brackets, self._at):
            return None
        if _OPENS_NOTHING.search(piece) or _GOES_ON.search(piece):
            return None
        self._at += len(brackets) + 1  # with the comma behind the piece
        return piece.translate(_BLANK)

    @property
    def complete(self) -> bool:
        """Whether all of the array has passed."""
        return self._at - 1 == len(self._structure) > 0


def flattened(text: bytes, shape: list[int]) -> bytes:
    """A small nested array as a flat one; unchanged when its nesting is wrong."""
    nesting = Nesting(shape, len(text))
    flat = nesting.flat(text)
    return text if flat is None or not nesting.complete else b"[%b]" % flat


def _structure(shape: list[int], limit: int) -> bytes:
    """The brackets and commas of a nested array of this shape, which has elements; empty when longer than `limit`."""
    size, rows = 0, 1
    for dimension in shape:
        size += rows * (dimension + 1)
        rows *= dimension
        if size > limit:
            return b""
    structure = b""
    for dimension in reversed(shape):
        structure = b"[%b]" % b",".join([structure] * dimension)
    return structure
