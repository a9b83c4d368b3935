"""Hides fields of decoded messages, on both sides of a translated call.

A place (see `places`) that is that of a field of an operation, in any API, or the name of such a field, stands for the
places of the field on either side (`places.json`): `prompt` hides the text that TGIS is sent as `requests[].text`. A
place inside of one does so where it is not found itself.

What a rule has hidden on one side of a request or an answer and not on the other may stand there under a name that no
rule knows: a prompt that was made of a chat. Then that side is withheld as a whole. Texts that were hidden are hidden
wherever else they are quoted, in an error for instance.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from inferbridge.capture.decoding import RAW_INPUTS, RAW_OUTPUTS
from inferbridge.capture.places import Place, is_place, place, rule_of, same
from inferbridge.capture.settings import Fields
from inferbridge.inspect.translation import SPECIALS, places_tables
from inferbridge.secret import HIDDEN

_TENSORS: Mapping[str, tuple[str, ...]] = {
    "inputs[].data": ("inputs[].contents", "raw_input_contents", RAW_INPUTS),
    "outputs[].data": (
        "outputs[].contents", "raw_output_contents", RAW_OUTPUTS,
        "infer_response.outputs[].contents", "infer_response.raw_output_contents",
    ),
}  # fmt: skip
"""Places of V2's tensors that no mapping names: rules write them."""
_QUOTED, _SHORTEST = 200, 4
"""Texts that are looked for elsewhere, the longest ones, and their least length."""


@dataclass(slots=True)
class Part:
    """One request or answer of one side, and what has become of it."""

    api: str
    values: list[Any]
    unreadable: str = ""
    """Why there are none, although there is a body."""
    hits: set[int] = field(default_factory=set)
    """Rules that have hidden something."""
    kept_out: str = ""
    """Why nothing of it may be seen."""


class Redaction:
    """The rules of one configuration."""

    def __init__(self, fields: Fields) -> None:
        self._hide = [_Rule.of(text) for text in fields.hide]
        self._only = [_Rule.of(text) for text in fields.only]
        self.is_set = bool(self._hide or self._only)

    def redact(self, client: Part, runtimes: Iterable[Part], hidden: list[str]) -> None:
        """Hide what is to be hidden, in place; texts that were hidden are added to `hidden`."""
        parts = [client, *runtimes]
        for part in parts:
            if self._only:
                places = [one for rule in self._only for one in (*rule.own, *rule.places(part.api, inside=False))]
                part.values[:] = [_kept(value, _tree(places)) for value in part.values]
            part.hits = {number for number, rule in enumerate(self._hide) if rule.hide(part, hidden)}
        for part in parts[1:]:
            self._compare(client, part)
            self._compare(part, client)

    def _compare(self, part: Part, other: Part) -> None:
        if self._hide and part.unreadable and other.values:
            other.kept_out = "the other side cannot be read: what of it was to be hidden may stand here"
        for number in sorted(part.hits - other.hits):
            rule = self._hide[number]
            if other.values and not rule.stands_outside(other.api):
                other.kept_out = f"{rule.text!r} was hidden on the other side and not found here"


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    own: tuple[Place, ...]
    fields: frozenset[str]
    """Fields of operations that it stands for."""
    inside: frozenset[str]
    """Fields of which it names a part."""

    @classmethod
    def of(cls, text: str) -> "_Rule":
        own = rule_of(text)
        fields, inside = set(), set()
        for name, steps in _known():
            for one in own:
                if steps[: len(one)] == one or (is_place(name) and place(name) == one):
                    fields.add(name)
                elif one[: len(steps)] == steps:
                    inside.add(name)
        return cls(text, own, frozenset(fields), frozenset(inside))

    def places(self, api: str, *, inside: bool) -> list[Place]:
        """Where its fields stand in an API's messages."""
        fields = self.fields | self.inside if inside else self.fields
        return [steps for name, steps in _of_api(api) if name in fields]

    def hide(self, part: Part, hidden: list[str]) -> bool:
        """Whether it has hidden something."""
        found = _hide_all(part.values, [*self.own, *self.places(part.api, inside=False)], hidden)
        return found or _hide_all(part.values, self.places(part.api, inside=True), hidden)

    def stands_outside(self, api: str) -> bool:
        """Whether that API says it all in the path, the query or headers, which are not written."""
        return bool(self.fields) and self.fields <= _outside(api)


def _hide_all(values: list[Any], places: list[Place], hidden: list[str]) -> bool:
    found = [_hide(value, steps, hidden) for value in values for steps in places]  # all of them: not only up to a hit
    return any(found)


def _hide(value: Any, steps: Place, hidden: list[str]) -> bool:
    if isinstance(value, list):
        return _hide_all(value, [steps], hidden)
    if not isinstance(value, dict):
        return False
    found = False
    for name in [name for name in value if steps[0] in ("*", same(name))]:
        if len(steps) > 1:
            found = _hide(value[name], steps[1:], hidden) or found
        elif value[name] is not None:
            _note(value[name], hidden)
            value[name], found = HIDDEN, True
    return found


def _note(value: Any, hidden: list[str]) -> None:
    """The texts in a value that is hidden."""
    if isinstance(value, str) and len(value) >= _SHORTEST and value != HIDDEN:
        hidden.append(value)
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _note(item, hidden)


type _Tree = dict[str, "_Tree | None"]
"""Members that are kept; None: with all that is in them."""


def _tree(places: Iterable[Place]) -> _Tree:
    root: _Tree = {}
    for steps in places:
        at: _Tree | None = root
        for step in steps[:-1]:
            at = at.setdefault(step, {}) if at is not None else None
        if at is not None:
            at[steps[-1]] = None
    return root


def _kept(value: Any, wanted: _Tree) -> Any:
    if isinstance(value, list):
        return [_kept(item, wanted) for item in value]
    if not isinstance(value, dict):
        return HIDDEN
    kept = {}
    for name, item in value.items():
        key = same(name) if same(name) in wanted else "*"
        if key in wanted:
            inner = wanted[key]
            kept[name] = item if inner is None else _kept(item, inner)
    return kept


def scrubber(hidden: Iterable[str]) -> Callable[[Any], Any]:
    """Hides texts wherever they are quoted in a value, in names of members too."""
    texts = sorted(set(hidden), key=len, reverse=True)[:_QUOTED]
    if not texts:
        return lambda value: value
    pattern = re.compile("|".join(map(re.escape, texts)))

    def scrub(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(HIDDEN, value)
        if isinstance(value, list):
            return [scrub(item) for item in value]
        if isinstance(value, dict):
            return {scrub(name): scrub(item) for name, item in value.items()}
        return value

    return scrub


@cache
def _of_api(api: str) -> tuple[tuple[str, Place], ...]:
    """Fields of an API's endpoints, and their places in bodies."""
    tensors = _TENSORS if api == "open-inference" else {}
    further = ((name, text) for name, texts in tensors.items() for text in (name, *texts))
    listed = ((name, text) for name, text in _listed(api) if not _is_outside(text))
    return tuple(dict.fromkeys((name, _steps(text)) for name, text in (*listed, *further)))


def _steps(text: str) -> Place:
    # `choices[0]` is the only item that is mapped; all are hidden
    return tuple(same(step.partition("[")[0]) for step in text.split("."))


@cache
def _outside(api: str) -> frozenset[str]:
    return frozenset(name for name, text in _listed(api) if _is_outside(text))


def _is_outside(text: str) -> bool:
    return text.partition(".")[0] in SPECIALS


def _listed(api: str) -> Iterable[tuple[str, str]]:
    for ways in places_tables().get(api, {}).values():
        for fields in ways.values():
            yield from ((name, text) for name, texts in fields.items() for text in texts)


@cache
def _known() -> tuple[tuple[str, Place], ...]:
    return tuple(dict.fromkeys(pair for api in places_tables() for pair in _of_api(api)))
