"""Which names generated code can use."""

import keyword
import re

_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "dict", "float", "frozenset", "int", "len", "list", "memoryview", "object", "range",
     "set", "str", "tuple"}
)  # fmt: skip
"""Builtins that generated annotations and expressions use; a field of that name would shadow them in its own class."""
_LOCALS = frozenset({"self", "context", "request", "reply", "call", "body", "message", "source", "sink", "item"})
"""Names that the generated functions use for themselves."""


def wrong_identifier(name: str) -> str:
    """Why generated code cannot use `name`, or an empty string."""
    if not _IDENTIFIER.fullmatch(name):
        return f"name {name!r} must be snake_case: a-z, then a-z, 0-9 and _"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return f"name {name!r} is reserved: it is a keyword of Python; choose another"
    if name in _BUILTINS:
        return f"name {name!r} is reserved: generated code uses the builtin of this name; choose another"
    if name in _LOCALS:
        return f"name {name!r} is reserved: generated code uses it itself; choose another"
    return ""
