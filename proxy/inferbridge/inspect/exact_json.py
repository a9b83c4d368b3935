"""JSON as plain values, if nothing of it gets lost on the way."""

import json
import math
from collections.abc import Iterable
from typing import Any


def exact_json(text: str) -> Any:
    """The value of a JSON text; ValueError for what is none, or has members that no value could keep apart."""
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_real)


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = list(pairs)
    members = dict(found)
    if len(members) < len(found):
        raise ValueError("a member is given twice")
    return members


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _real(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:40]} is larger than any double")
    return number
