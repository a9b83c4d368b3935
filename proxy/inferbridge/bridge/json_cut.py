"""Cutting big number arrays out of a JSON body, so that a JSON parser only sees the small rest.

Theory. An array is cut where the bytes `"data"` are followed by a colon, opening brackets and the first character of a
number, `true`, `false`, `null`, `NaN` or `Infinity`. Inside a string every quote has a backslash before it, so in valid
JSON this is a key, or the end of one. In invalid JSON it does not matter, for the rest or the cut array is refused by
its parser. What is cut need not be what it seems: whoever uses it parses all of it as numbers of the shape the tensor
states.

In its place stands a marker, a number that nobody writes (`-0.0E-00001`). Where the client's text has something like
it, nothing is cut, so a marker cannot be forged. A marker that turns up anywhere but as a tensor's data stays unused,
which the owner of the cuts must treat as an error; so does one that a repeated key hides.
"""

import re
from dataclasses import dataclass

MARK = b"-0.0E-"
LEAST = 1024
"""Bytes; a shorter array is left where it is."""
_SPACE = rb"[ \t\r\n]*+"
_ARRAY = re.compile(rb'"data"' + _SPACE + b":" + _SPACE + rb"(\[[\[ \t\r\n]*+)(?=[-0-9tfnNI])")


@dataclass(frozen=True, slots=True)
class Region:
    """An array of numbers within `body`: from its `[` at `start` to behind its `]` at `end`."""

    body: bytes
    start: int
    end: int


def cut(body: bytes, least: int = LEAST) -> tuple[bytes, dict[bytes, Region]]:
    """The body with a marker for each number array of at least `least` bytes, and the arrays by their markers."""
    parts: list[bytes] = []
    regions: dict[bytes, Region] = {}
    kept = 0
    for region in _arrays(body):
        if region.end - region.start >= least:
            marker = b"%s%05d" % (MARK, len(regions) + 1)
            parts += (body[kept : region.start], marker)
            regions[marker] = region
            kept = region.end
    parts.append(body[kept:])
    if not regions or any(MARK in part for part in parts[::2]):
        return body, {}
    return b"".join(parts), regions


def _arrays(body: bytes) -> list[Region]:
    regions: list[Region] = []
    at = body.find(b'"data"')
    while at >= 0:
        found = _ARRAY.match(body, at)
        if found is None:
            at += 6
        else:
            end = _end(body, found.end(), nested=found[1].count(b"[") > 1)
            if end <= 0:
                break
            regions.append(Region(body, found.start(1), end))
            at = end
        at = body.find(b'"data"', at)
    return regions


def _end(body: bytes, start: int, *, nested: bool) -> int:
    """Behind the array's last bracket; 0 when there is none. Every search is bounded by the next, so this is linear."""
    if not nested:
        return body.find(b"]", start) + 1
    limit = body.find(b'"', start)
    limit = len(body) if limit < 0 else limit
    brace = body.find(b"}", start, limit)
    return body.rfind(b"]", start, limit if brace < 0 else brace) + 1
