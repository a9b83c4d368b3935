"""Path templates of REST bindings.

Grammar::

    template = { "/" segment }+
    segment  = literal | "{" variable "}"      a variable is a whole segment
    literal  = one or more of A-Z a-z 0-9 . _ ~ : @ -    but not "." or ".."
"""

import keyword
import re
from dataclasses import dataclass

from inferbridge_codegen.problems import Mark, Problems

_LITERAL = re.compile(r"[A-Za-z0-9._~:@-]+")
_VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A parsed template; a segment is `(text, is_variable)`."""

    text: str
    segments: tuple[tuple[str, bool], ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, in order."""
        return tuple(text for text, is_variable in self.segments if is_variable)


def parse(text: str, mark: Mark, problems: Problems) -> PathTemplate | None:
    """The template, or None after a problem at the offending character (`mark` is where the text starts)."""
    if not text.startswith("/"):
        problems.add(mark, f"path {text!r} must start with '/'")
        return None
    segments: list[tuple[str, bool]] = []
    at = 1
    for part in text[1:].split("/"):
        message = _wrong(part, [name for name, is_variable in segments if is_variable])
        if message:
            problems.add(mark.after(at), f"path {text!r}: {message}")
            return None
        found = _VARIABLE.fullmatch(part)
        segments.append((found[1], True) if found else (part, False))
        at += len(part) + 1
    return PathTemplate(text, tuple(segments))


def _wrong(part: str, variables: list[str]) -> str:
    if not part:
        return "empty segment"
    if part in {".", ".."}:
        return f"segment {part!r} is not allowed"
    found = _VARIABLE.fullmatch(part)
    if found:
        if found[1] in variables:
            return f"variable {found[1]!r} occurs twice"
        return f"variable {found[1]!r} is a reserved word" if keyword.iskeyword(found[1]) else ""
    if "{" in part or "}" in part:
        return f"segment {part!r} must be a literal or one {{variable}}"
    return "" if _LITERAL.fullmatch(part) else f"segment {part!r} has a character that is not allowed"
