"""Path templates of REST bindings.

Grammar::

    template = { "/" segment }+
    segment  = literal | "{" variable "}"      a variable is a whole segment and occurs once
    literal  = one or more of A-Z a-z 0-9 . _ ~ : @ -    but not "." or ".."

There is no query and no percent-encoding in a template. A problem points at the first character that breaks it.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec.names import wrong_identifier

_NOT_LITERAL = re.compile(r"[^A-Za-z0-9._~:@-]")
_VARIABLE = re.compile(r"\{([^{}]*)\}")


class Segment(NamedTuple):
    """What is between two slashes: a literal, or the name of a variable."""

    text: str
    is_variable: bool


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A parsed template."""

    text: str
    segments: tuple[Segment, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in order."""
        return tuple(segment.text for segment in self.segments if segment.is_variable)

    @property
    def shape(self) -> str:
        """The template without the names of its variables: two of the same shape match the same paths."""
        return "".join("/{}" if segment.is_variable else f"/{segment.text}" for segment in self.segments)


class _RefusedError(Exception):
    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def parse(text: str, mark: Mark, problems: Problems) -> PathTemplate | None:
    """The template, or None after a problem at the offending character (`mark` is where the text's first one is)."""
    try:
        return PathTemplate(text, tuple(_segments(text)))
    except _RefusedError as refused:
        problems.add(mark.after(refused.offset), f"path {text!r}: {refused.reason}")
        return None


def _segments(text: str) -> list[Segment]:
    if not text.startswith("/"):
        raise _RefusedError(0, "must start with '/'")
    segments: list[Segment] = []
    offset = 1
    for part in text[1:].split("/"):
        if not part:
            # of a trailing slash there is no next character to point at
            raise _RefusedError(min(offset, len(text) - 1), "empty segment")
        segment = _segment(part, offset)
        if segment.is_variable and segment in segments:
            raise _RefusedError(offset + 1, f"variable {segment.text!r} occurs twice")
        segments.append(segment)
        offset += len(part) + 1
    return segments


def _segment(part: str, offset: int) -> Segment:
    variable = _VARIABLE.fullmatch(part)
    if variable:
        reason = wrong_identifier(variable[1])
        if reason:
            raise _RefusedError(offset + 1, reason)
        return Segment(variable[1], True)
    if part in {".", ".."}:
        raise _RefusedError(offset, f"segment {part!r} is not allowed")
    wrong = _NOT_LITERAL.search(part)
    if wrong is None:
        return Segment(part, False)
    at = offset + wrong.start()
    if wrong[0] in "{}":
        raise _RefusedError(at, f"segment {part!r} must be a literal or one {{variable}}")
    raise _RefusedError(
        at, f"character {wrong[0]!r} is not allowed" + ("; a template has no query" if wrong[0] == "?" else "")
    )
