"""Texts of a recorded call in which a credential may be missing: `***` becomes a variable of who runs the command.

Names of variables come from headers that strangers chose. All but `TOKEN` therefore begin with `TOKEN_`: a header named
`path` or `aws-secret` must not make a command send what the environment holds under that name.
"""

import re
from dataclasses import dataclass

from inferbridge.bridge.values import Headers
from inferbridge.secret import HIDDEN, shown_target, shown_value


@dataclass(frozen=True, slots=True)
class Variable:
    """A credential that is not known."""

    name: str


type Text = tuple[str | Variable, ...]
"""Pieces in their order."""


def header_text(name: str, value: str, *, reveal: bool) -> Text:
    """The value of a header; `reveal` keeps credentials that the recording holds."""
    shown = value if reveal else shown_value(name, value)
    scheme, space, rest = shown.partition(" ")
    if shown == HIDDEN:
        return (_variable(name),)
    if space and rest == HIDDEN:
        return (f"{scheme} ", Variable("TOKEN") if scheme.lower() == "bearer" else _variable(name))
    return (shown,)


def target_text(target: str, *, reveal: bool) -> Text:
    """Path and query."""
    shown = target if reveal or "?" not in target else shown_target(target)
    path, mark, query = shown.partition("?")
    pieces: list[str | Variable] = [path + mark]
    for number, pair in enumerate(query.split("&") if mark else ()):
        name, equals, value = pair.partition("=")
        pieces.append(("&" if number else "") + name + equals + ("" if value == HIDDEN else value))
        if value == HIDDEN:
            pieces.append(_variable(name))
    return tuple(pieces)


def hidden_headers(headers: Headers, *, reveal: bool) -> Headers:
    """Headers as an export shows them, with `***` for credentials."""
    return headers if reveal else tuple((name, shown_value(name, value)) for name, value in headers)


def hidden_target(target: str, *, reveal: bool) -> str:
    """As `hidden_headers`."""
    return target if reveal or "?" not in target else shown_target(target)


def merged(text: Text) -> Text:
    """The same text in as few pieces as it has; none is empty."""
    found: list[str | Variable] = []
    for piece in text:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece:
            found.append(piece)
    return tuple(found)


def _variable(name: str) -> Variable:
    word = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_")
    return Variable("TOKEN" if word in ("", "AUTHORIZATION") else f"TOKEN_{word}")
