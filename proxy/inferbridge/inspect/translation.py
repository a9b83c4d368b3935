"""A translated request, line by line: what the client said, the field of the operation, what the runtime was sent.

Both requests are read as plain values (`asked`) and looked into at the places that the specs name, so a line shows
what stands on either wire and not what a bridge meant to write. What a field's line says of it:

    (nothing)     both sides say the same; the places tell of a rename
    ~ converted   both say it, in other words or another unit
    + written out the client left it out; its API's default, or a rule of the gateway, says it to the runtime
    - not sent    the client says it, and the runtime is sent nothing: its own default, or a rule says it elsewhere
    ! lost        the gateway has told of its loss
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from inferbridge.bridge.values import Buffer, Headers
from inferbridge.inspect.page import Page, shorten
from inferbridge.protos import methods
from inferbridge.secret import HIDDEN, is_credential_header

READ_BYTES = 1024 * 1024
"""Of a body; a larger one is tensors or a long batch, for which lines are the wrong form."""
VALUE_LENGTH = 100
"""Characters of each value."""
MAX_COLUMN = 32
"""Characters of a column; what the client said is cut there, as its body is shown beside."""
_MAX_ITEMS = 16
_ABSENT: Any = object()
SPECIALS = ("path", "query", "header", "metadata")
"""First steps of places that are not in a body."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One side's request as plain values."""

    api: str
    endpoint: str
    way: str
    """`rest`, `grpc`, or `grpc/VARIANT`."""
    body: Any
    specials: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Values in `path`, `query`, `header` and `metadata`, by name."""

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{self.api} {self.endpoint} over {self.way}"


@dataclass(frozen=True, slots=True)
class Row:
    """One field that at least one side says."""

    field: str
    client: str
    """Place and value, empty: it does not say it."""
    runtime: str
    fate: str


def json_body(body: Buffer) -> Any:
    """A REST body as plain values; `BridgeError` or ValueError where it is none, or too large for lines."""
    _refuse_large(body)
    return orjson.loads(bytes(body)) if len(body) else {}


def message_body(api: str, variant: str, rpc: str, message: Buffer) -> Any:
    """A gRPC request as plain values, with the names of the proto; raises as `json_body` does."""
    _refuse_large(message)
    return orjson.loads(methods(api, variant).request_to_json(rpc, message))


def _refuse_large(body: Buffer) -> None:
    if len(body) > READ_BYTES:
        raise ValueError(f"{len(body)} bytes are too many to show field by field")


def header_values(headers: Headers, hidden: Collection[str] = ()) -> Mapping[str, str]:
    """Headers or metadata by name, without credentials; `hidden` are further headers that hold some."""
    names = ((name.lower(), value) for name, value in headers)
    return {name: HIDDEN if is_credential_header(name) or name in hidden else value for name, value in names}


def add_translation(page: Page, client: Asked, runtime: Asked, losses: Collection[str] = ()) -> None:
    """The whole view."""
    page.add(f"{client.name} -> {runtime.name}")
    found = list(rows(client, runtime, losses))
    first, second = (_width([each[at] for each in _cells(found)]) for at in (0, 1))
    for name, said, sent, fate in _cells(found):
        page.add(f"{name:<{first}}  {said:<{second}}  |  {sent}{f'  {fate}' if fate else ''}", 1)
    if not found:
        page.add("no field of the operation is said on either side", 1)


def _cells(found: Collection[Row]) -> list[tuple[str, str, str, str]]:
    head = ("", "the client said", "the runtime was sent", "")
    rows = [(row.field, _cut(row.client or "(not said)"), row.runtime or "(nothing)", row.fate) for row in found]
    return [head, *rows] if rows else []


def _cut(cell: str) -> str:
    return cell if len(cell) <= MAX_COLUMN else f"{cell[: MAX_COLUMN - 1]}…"


def _width(cells: Collection[str]) -> int:
    """Of a column; a name that is longer stands out of it."""
    return min(MAX_COLUMN, max(map(len, cells), default=0))


def rows(client: Asked, runtime: Asked, losses: Collection[str] = ()) -> Iterator[Row]:
    """The fields in the order of the client's spec, then those that only the runtime has, then further losses."""
    here, there = _places(client), _places(runtime)
    fields = list(dict.fromkeys([*here, *there]))
    for name in fields:
        row = _row(name, _said(client, here.get(name, ())), _said(runtime, there.get(name, ())), name in losses)
        if row is not None:
            yield row
    for name in losses:
        if name not in fields:
            yield Row(shorten(name, VALUE_LENGTH), "", "", "! lost")


type _Said = tuple[str, Any]
"""A place and its value."""


def _row(name: str, client: _Said, runtime: _Said, is_lost: bool) -> Row | None:
    if client[1] is _ABSENT and runtime[1] is _ABSENT and not is_lost:
        return None
    return Row(name, _text(client), _text(runtime), "! lost" if is_lost else _fate(client[1], runtime[1]))


def _fate(client: Any, runtime: Any) -> str:
    if client is _ABSENT:
        return "+ written out"
    if runtime is _ABSENT:
        return "- not sent"
    return "" if _same(client, runtime) else "~ converted"


def _same(one: Any, other: Any) -> bool:
    """Whether two values say the same: a list of one item is its item, and a number its text in a path or header."""
    one, other = _only(one), _only(other)
    if isinstance(one, str) != isinstance(other, str):
        one, other = (value if isinstance(value, str) else json.dumps(value) for value in (one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _text(said: _Said) -> str:
    place, value = said
    return "" if value is _ABSENT else f"{place} = {shorten(_json(value), VALUE_LENGTH)}"


def _json(value: Any) -> str:
    if isinstance(value, str):
        value = value[: 2 * VALUE_LENGTH] if len(value) > 2 * VALUE_LENGTH else value
    elif isinstance(value, list) and len(value) > _MAX_ITEMS:
        value = [*value[:_MAX_ITEMS], f"… {len(value)} items"]
    return json.dumps(value, ensure_ascii=False)


@cache
def places_tables() -> Mapping[str, Any]:
    """By API, endpoint and `rest`, `grpc` or `grpc/VARIANT`: the fields of a request, each with its places."""
    tables: Mapping[str, Any] = orjson.loads(files("inferbridge_generated").joinpath("places.json").read_bytes())
    return tables


def _places(asked: Asked) -> Mapping[str, list[str]]:
    """Of an endpoint: as the variant has it, else as the API has; nothing for what no spec knows."""
    ways = places_tables().get(asked.api, {}).get(asked.endpoint, {})
    found: Mapping[str, list[str]] = ways.get(asked.way) or ways.get(asked.way.partition("/")[0], {})
    return found


def known_places(api: str, endpoint: str, way: str) -> tuple[str, ...]:
    """All places of a request that the specs name, of every field; none of an endpoint that they do not have."""
    return tuple(place for places in _places(Asked(api, endpoint, way, None)).values() for place in places)


def _said(asked: Asked, places: Collection[str]) -> _Said:
    """The first place that says something, or none."""
    for place in places:
        first, _, rest = place.partition(".")
        if first in asked.specials and rest in asked.specials[first]:
            return place, asked.specials[first][rest]
        value = _at(asked.body, place)
        if value is not _ABSENT and value is not None:
            return place, value
    return "", _ABSENT


def _at(value: Any, path: str) -> Any:
    """The value at a place such as `requests[].text`: of each item of a list, where it has one."""
    if not path:
        return value
    step, _, rest = path.partition(".")
    name = step.removesuffix("[]")
    if name.endswith("]"):  # one item of a list, the only one that is mapped
        name = name.partition("[")[0]
    inner = value.get(name, _ABSENT) if isinstance(value, dict) else _ABSENT
    if not isinstance(inner, list) or not rest:
        return inner if not rest or inner is _ABSENT else _at(inner, rest)
    found = [_at(item, rest) for item in inner[: 4 * _MAX_ITEMS]]
    kept = [item for item in found if item is not _ABSENT]
    return kept if kept else _ABSENT
