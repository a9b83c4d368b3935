"""A spec that is not finished: all that can be read off an interface, to be written with questions for the rest."""

import re
from dataclasses import dataclass, field

from inferbridge_codegen.spec.names import wrong_identifier


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the wire that holds a value, for a mapping line."""

    path: str
    """As in the line, such as `params.stop[]`, `query.top` or `metadata.x-model`."""
    type: str
    enum: str = ""
    """Its table in the skeleton's `enums`."""
    required: bool = False


@dataclass(slots=True)
class Side:
    """A request, an answer, or one message of a stream."""

    schema: str = ""
    """Of REST: what the body is; empty: there is none."""
    places: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class Endpoint:
    """One callable thing. `reply` and `message` are there as its mode wants them."""

    name: str
    mode: str
    rpc: str = ""
    """`package.Service/Method`; empty: it is a REST endpoint."""
    verb: str = ""
    path: str = ""
    request: Side = field(default_factory=Side)
    reply: Side | None = None
    message: Side | None = None
    notes: list[str] = field(default_factory=list)
    """What the spec language cannot say of it."""


@dataclass(slots=True)
class Skeleton:
    """One API and the runtime that speaks it."""

    name: str
    source: str
    """Where it is from, for the reader."""
    protos: tuple[str, ...] = ()
    endpoints: list[Endpoint] = field(default_factory=list)
    schemas: dict[str, dict[str, Place]] = field(default_factory=dict)
    """Fields of the JSON objects, by name."""
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What was left out."""


def snake_case(text: str) -> str:
    """A name for an endpoint or a table of a word such as `GenerateText` or `post /v1/things`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_") or "endpoint"
    name = name if name[0].isalpha() else f"endpoint_{name}"
    return f"{name}_" if wrong_identifier(name) else name


def spec_name(text: str) -> str:
    """A name for an API or a runtime: lower-case words joined by '-'."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return name if name and name[0].isalpha() else f"api-{name}".rstrip("-")


def unique(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where it is taken; then it is."""
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found)
    return found
