"""Places of fields in messages, as rules name them.

    rule   = place *( "|" place )        one thing, under the names that it has in different messages
    place  = step *( "." step )          from the top of a message
    step   = name [ "[]" ] | "*"         lists are gone through with or without brackets; `*` is any member

Names match whatever their case and underscores, since protobuf's JSON may be written either way, and `message` stands
for `delta` too, its form in streams.
"""

import re
from functools import lru_cache

type Place = tuple[str, ...]
_STEP = r"(?:\*|[A-Za-z0-9_$-]+(?:\[\])?)"
_GRAMMAR = re.compile(rf"{_STEP}(?:\.{_STEP})*")


def is_place(text: str) -> bool:
    """Whether that is one."""
    return _GRAMMAR.fullmatch(text) is not None


def place(text: str) -> Place:
    """The steps of a place, as they are compared; ValueError for what is none."""
    if not is_place(text):
        raise ValueError("must be places such as messages[].content, names of one thing separated by |")
    return tuple(same(step.removesuffix("[]")) for step in text.split("."))


def rule_of(text: str) -> tuple[Place, ...]:
    """The places of a rule; ValueError for what is none."""
    return tuple(place(part.strip()) for part in text.split("|"))


@lru_cache(10_000)
def same(name: str) -> str:
    """What is the same for all spellings of a name."""
    plain = name.replace("_", "").lower()
    return "message" if plain == "delta" else plain
