"""What a mock is told to do beside answering: wait, fail, or say something else.

A scenario file says it for all endpoints, and for some of them by their name::

    delay: 20ms                          # before each message
    endpoints:
      openai/chat: {error: UNAVAILABLE:2}             # after two messages; without the number at once
      tgis/generate: {answer: {responses: [{text: hi}]}}   # JSON of the reply; a list of messages for a stream
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.config.kinds import OUTSIDE, Field, Record, Schema, SettingsReader, Text, duration
from inferbridge.config.load import SettingsError
from inferbridge.config.sources import merge
from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar, load_yaml

_LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class Failure:
    """An error after some messages of a stream; an answer that is no stream fails only `after` 0."""

    code: Code
    after: int = 0

    @property
    def error(self) -> BridgeError:
        """As the runtime would raise it."""
        return BridgeError(self.code, f"{self.code.name}, as the mock was told")


@dataclass(frozen=True, slots=True)
class Script:
    """For calls of one endpoint."""

    delay: float = 0.0
    """Seconds before each message."""
    error: Failure | None = None
    answer: Any = None
    """JSON to answer instead; a list where the answer is a stream."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """For all calls."""

    default: Script = Script()
    endpoints: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What is different, by `API/endpoint`."""

    def of(self, endpoint: str) -> Script:
        """The script of an endpoint."""
        return replace(self.default, **self.endpoints.get(endpoint, {}))


def parse_failure(text: str) -> Failure:
    """`CODE` or `CODE:N`; ValueError says what is wrong."""
    name, colon, after = text.partition(":")
    if name not in Code.__members__ or name == "OK":
        raise ValueError(f"must begin with a gRPC code{suggestion(name, Code.__members__)}, such as UNAVAILABLE")
    if colon and not (after.isascii() and after.isdigit()):
        raise ValueError(f"must be like {name}:2, an error after two messages")
    return Failure(Code[name], int(after or 0))


class _Json:
    """Any value."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> Any:
        if isinstance(node, MapNode):
            return {name: self.read(reader, child, where) for name, _, child in node.entries}
        if isinstance(node, ListNode):
            return [self.read(reader, child, where) for child in node.items]
        return node.value

    def schema(self) -> Schema:
        return {}


class _Endpoints:
    """A map from endpoints, as `API/endpoint`, to their scripts."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known

    def read(self, reader: SettingsReader, node: Node, where: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, mark, child in reader.entries(node, where):
            if name not in self._known:
                near = suggestion(name, self._known) or f"; it has {', '.join(sorted(self._known))}"
                reader.problems.add(mark, f"the runtime has no endpoint {name!r}{near}")
            found[name] = Record(dict, _SCRIPT, f"the script of {name}").read(reader, child, f"{where}.{name}") or {}
        return found

    def schema(self) -> Schema:
        return {"type": "object"}


_SCRIPT = {
    "delay": Field(duration(_LONGEST), "How long to wait before each message."),
    "error": Field(Text(parse_failure), "CODE or CODE:N: fail, after N messages."),
    "answer": Field(_Json(), "What to answer instead, as JSON."),
}


def scenario_of(file: Path | None, flags: Mapping[str, str], endpoints: Collection[str]) -> Scenario:
    """The scenario of a file and of flags (`delay`, `error`), which count more. Raises `SettingsError`.

    `endpoints` are those that the runtime has.
    """
    problems = Problems()
    node: Node | None = MapNode((), Mark("flags", OUTSIDE, OUTSIDE))
    if file is not None:
        node = load_yaml(file.read_bytes(), str(file), problems)
    for name, text in flags.items():
        mark = Mark(f"flag --{name}", OUTSIDE, OUTSIDE)
        node = merge(node, MapNode(((name, mark, Scalar(text, text, mark)),), mark))
    known = {**_SCRIPT, "endpoints": Field(_Endpoints(endpoints), "Scripts of single endpoints.")}
    reader = SettingsReader(problems, {}, Path())
    values: dict[str, Any] = (
        Record(dict, known, "a scenario").read(reader, node, "") if node is not None else None
    ) or {}
    if len(problems):
        raise SettingsError(problems.sorted())
    return Scenario(endpoints=values.pop("endpoints", {}), default=Script(**values))
