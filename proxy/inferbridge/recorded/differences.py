"""Differences of two values of JSON, field by field."""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

ALWAYS_NEW = frozenset({"id", "created", "created_at", "request_id", "timestamp"})
"""Members that are made anew with each answer."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where the values are not the same; a value that is missing has no text."""

    path: str
    recorded: Any
    new: Any


class Missing:
    """Stands for a value that is not there."""

    def __repr__(self) -> str:
        return "(nothing)"


MISSING = Missing()


def differences(
    recorded: Any, new: Any, *, tolerance: float = 0.0, ignored: Collection[str] = ALWAYS_NEW, path: str = ""
) -> Iterator[Difference]:
    """In the order of the recorded value.

    Numbers are the same when they are at most `tolerance` apart, in parts of the larger one. `ignored` are names of
    members, wherever they stand.
    """
    if isinstance(recorded, dict) and isinstance(new, dict):
        for name in [*recorded, *(name for name in new if name not in recorded)]:
            if name not in ignored:
                sides = recorded.get(name, MISSING), new.get(name, MISSING)
                place = f"{path}.{name}" if path else str(name)
                yield from differences(*sides, tolerance=tolerance, ignored=ignored, path=place)
    elif isinstance(recorded, list) and isinstance(new, list):
        for at in range(max(len(recorded), len(new))):
            one, other = (side[at] if at < len(side) else MISSING for side in (recorded, new))
            yield from differences(one, other, tolerance=tolerance, ignored=ignored, path=f"{path}[{at}]")
    elif not _same(recorded, new, tolerance):
        yield Difference(path, recorded, new)


def _same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other or (tolerance > 0 and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance * 1e-6))
    return bool(one == other)
