"""Kinds of settings: each knows how to read a node of the configuration and how to describe itself as JSON Schema.

The one declaration of the settings (`table`) is built of these, so what the reader accepts, what the schema says and
which environment variables exist cannot drift apart.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.shape import Reader
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar, named_key

type Schema = dict[str, object]
_SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_DURATIONS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(rf"([0-9]{{1,15}}) ?({'|'.join(_SIZES)})")
_DURATION = re.compile(rf"([0-9]{{1,12}}(?:\.[0-9]{{1,6}})?) ?({'|'.join(_DURATIONS)})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
OUTSIDE = 0
"""Line number of a mark that is in no file: an environment variable or a flag."""


class SettingsReader(Reader):
    """A reader that also knows which runtimes exist and where relative paths start.

    Its problems say where a wrong value stands and what belongs there, and never repeat the value: `${env:…}` or a slip
    may have put a secret anywhere.
    """

    def __init__(self, problems: Problems, runtimes: Mapping[str, Collection[str]], folder: Path) -> None:
        super().__init__(problems)
        self.runtimes = runtimes
        """Runtime to the protocols it speaks, `rest` and `grpc`."""
        self._folder = folder

    def text(self, node: Node, where: str) -> str | None:
        """A scalar as written; control characters (CR, LF and NUL among them) are refused."""
        if not isinstance(node, Scalar) or node.value is None:
            self.problems.add(node.mark, f"{where} must be a string")
            return None
        if found := _CONTROL.search(node.text):
            self.problems.add(node.mark, f"{where} must not contain the control character U+{ord(found[0]):04X}")
            return None
        return node.text

    def choice(self, node: Node | None, where: str, options: Sequence[str]) -> str | None:
        """One of some words."""
        text = node.text if isinstance(node, Scalar) else ""
        if node is None or text in options:
            return text or None
        self.problems.add(node.mark, f"{where} must be one of {', '.join(options)}{suggestion(text, options)}")
        return None

    def unknown_key(self, mark: Mark, where: str, key: str, known: Collection[str]) -> None:
        """A key that is none of `known`; it is repeated only where it could be one."""
        self.problems.add(mark, f"{where} has no {named_key(key, 'such key')}{suggestion(key, known)}")

    def resolve(self, path: str, mark: Mark) -> Path:
        """A path: relative to the folder of the file it is written in, else to the working directory."""
        return Path(path).expanduser() if mark.line == OUTSIDE else self._folder / Path(path).expanduser()


def scalar(schema: Schema) -> Schema:
    """The schema of a scalar in a file, where `${VARIABLE}` may stand for any value."""
    return {"anyOf": [schema, {"type": "string", "pattern": r"\$\{"}]}


class Kind[T](Protocol):
    """A kind of setting; `read` answers None after a problem."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> T | None:
        """The value of a node."""

    def schema(self) -> Schema:
        """What a node may be, as JSON Schema 2020-12."""


@dataclass(frozen=True, slots=True)
class Text[T]:
    """A scalar that `parse` turns into a value; it raises ValueError with what is wrong."""

    parse: Callable[[str], T]
    pattern: str = ""
    """For the schema."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> T | None:
        text = reader.text(node, where)
        if text is None:
            return None
        try:
            return self.parse(text)
        except ValueError as error:
            reader.problems.add(node.mark, f"{where} {error}")
            return None

    def schema(self) -> Schema:
        return (
            scalar({"type": "string", "pattern": self.pattern}) if self.pattern else {"type": "string", "minLength": 1}
        )


def name(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise ValueError("must not be empty")
    return text


@dataclass(frozen=True, slots=True)
class FilePath:
    """A file that can be read."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> Path | None:
        text = reader.text(node, where)
        if text is None:
            return None
        path = reader.resolve(text, node.mark)
        try:
            with path.open("rb"):
                return path
        except OSError as error:
            reader.problems.add(node.mark, f"{where}: cannot read the file that it names: {error.strerror}")
            return None

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True, slots=True)
class Measure:
    """A number with a unit, positive (or `zero`) and at most `maximum`, counted in the first unit of its kind."""

    maximum: float
    grammar: re.Pattern[str]
    units: Mapping[str, float]
    example: str
    zero: bool = False

    def read(self, reader: SettingsReader, node: Node, where: str) -> float | None:
        found = self.grammar.fullmatch(node.text if isinstance(node, Scalar) else "")
        value = float(found[1]) * self.units[found[2]] if found else 0.0
        if 0 < value <= self.maximum or (found and self.zero and value == 0):
            return self._exact(value)
        units = ", ".join(filter(None, self.units))
        wrong = (
            f"must be {'' if self.zero else 'more than 0 and '}at most {self.maximum:.0f}"
            if found
            else f"must be like {self.example} (units: {units})"
        )
        reader.problems.add(node.mark, f"{where} {wrong}")
        return None

    def written(self, value: float) -> str | int:
        """A value as a configuration says it."""
        return int(value) if self.units is _SIZES else f"{value:.6f}".rstrip("0").rstrip(".") + "s"

    def _exact(self, value: float) -> float:
        return int(value) if self.units is _SIZES else value

    def schema(self) -> Schema:
        text: Schema = {"type": "string", "pattern": f"^{self.grammar.pattern}$"}
        return {"anyOf": [scalar(text), {"type": "integer", "minimum": 1}]} if self.units is _SIZES else scalar(text)


def size(maximum: int) -> Measure:
    """A number of bytes such as 4MiB; a bare number is bytes."""
    return Measure(maximum, _SIZE, _SIZES, "4MiB")


def parse_size(text: str) -> int:
    """Bytes of a size such as 4MiB; 0 for what is none."""
    found = _SIZE.fullmatch(text)
    return int(found[1]) * _SIZES[found[2]] if found else 0


def duration(maximum: float, *, zero: bool = False) -> Measure:
    """A time in seconds such as 30s or 500ms; 0s only with `zero`."""
    return Measure(maximum, _DURATION, _DURATIONS, "30s", zero)


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number."""

    minimum: int
    maximum: int

    def read(self, reader: SettingsReader, node: Node, where: str) -> int | None:
        text = node.text if isinstance(node, Scalar) else ""
        if re.fullmatch(r"[0-9]{1,18}", text) and self.minimum <= int(text) <= self.maximum:
            return int(text)
        reader.problems.add(node.mark, f"{where} must be a whole number from {self.minimum} to {self.maximum}")
        return None

    def schema(self) -> Schema:
        return scalar({"type": "integer", "minimum": self.minimum, "maximum": self.maximum})


@dataclass(frozen=True, slots=True)
class Share:
    """A number from 0 to 1."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> float | None:
        text = node.text if isinstance(node, Scalar) else ""
        if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})?", text) and float(text) <= 1:
            return float(text)
        reader.problems.add(node.mark, f"{where} must be a number from 0 to 1, such as 0.01")
        return None

    def schema(self) -> Schema:
        return scalar({"type": "number", "minimum": 0, "maximum": 1})


@dataclass(frozen=True, slots=True)
class Switch:
    """true or false."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> bool | None:
        # by its text, so that a value from the environment counts like one from the file
        if isinstance(node, Scalar) and node.text in ("true", "false"):
            return node.text == "true"
        reader.problems.add(node.mark, f"{where} must be true or false")
        return None

    def schema(self) -> Schema:
        return scalar({"type": "boolean"})


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    options: tuple[str, ...]

    def read(self, reader: SettingsReader, node: Node, where: str) -> str | None:
        return reader.choice(node, where, self.options)

    def schema(self) -> Schema:
        return scalar({"enum": list(self.options)})


@dataclass(frozen=True, slots=True)
class ListOf[T]:
    """A list, or one item standing for a list of one."""

    item: Kind[T]

    def read(self, reader: SettingsReader, node: Node, where: str) -> tuple[T, ...] | None:
        nodes = node.items if isinstance(node, ListNode) else (node,)
        if not nodes:
            reader.problems.add(node.mark, f"{where} must not be empty")
        found = [self.item.read(reader, child, where) for child in nodes]
        values = tuple(value for value in found if value is not None)
        return values if nodes and len(values) == len(nodes) else None

    def schema(self) -> Schema:
        item = self.item.schema()
        return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


@dataclass(frozen=True, slots=True)
class Names:
    """A map from names to names; one without a value means the same name."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> dict[str, str] | None:
        before, read = len(reader.problems), Text(name).read
        found: dict[str, str] = {}
        for key, mark, child in reader.entries(node, where):
            same = isinstance(child, Scalar) and child.value is None
            meant = read(reader, Scalar(key, key, mark) if same else child, f"{where}.{key}")
            found[key] = meant or ""
        return found if len(reader.problems) == before else None

    def schema(self) -> Schema:
        return {"type": "object", "additionalProperties": {"type": ["string", "null"], "minLength": 1}}


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a record."""

    kind: Kind[object]
    doc: str
    attribute: str = ""
    """Name in the built value when it is not the key."""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Record[T]:
    """A map with fixed keys; `build` takes what is set, the rest are its defaults."""

    build: Callable[..., T]
    fields: Mapping[str, Field]
    title: str
    """As in "limits has no key …"."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> T | None:
        before = len(reader.problems)
        known = {key: field.required for key, field in self.fields.items()}
        values: dict[str, object] = {}
        for key, child in reader.map(node, self.title, known).items():
            field = self.fields[key]
            values[field.attribute or key] = field.kind.read(reader, child, f"{where}.{key}" if where else key)
        return self.build(**values) if len(reader.problems) == before else None

    def schema(self) -> Schema:
        required = [key for key, field in self.fields.items() if field.required]
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                key: {"description": field.doc, **field.kind.schema()} for key, field in self.fields.items()
            },
            **({"required": required} if required else {}),
        }


@dataclass(frozen=True, slots=True)
class Tagged:
    """A map with one key, which says what kind of thing its value describes; the key alone takes all defaults."""

    options: Mapping[str, Record[object]]

    def read(self, reader: SettingsReader, node: Node, where: str) -> object | None:
        entries = [(node.text, node.mark, node)] if isinstance(node, Scalar) else list(reader.entries(node, where))
        if len(entries) != 1:
            reader.problems.add(node.mark, f"{where} must be one of {', '.join(self.options)}, with its settings")
            return None
        name, mark, child = entries[0]
        if name not in self.options:
            known = f"{suggestion(name, self.options)} (known: {', '.join(self.options)})"
            reader.problems.add(mark, f"{where} must be of a known kind{known}")
            return None
        settings = MapNode((), mark) if child is node else child
        return self.options[name].read(reader, settings, name)

    def schema(self) -> Schema:
        alone = [name for name, record in self.options.items() if not any(f.required for f in record.fields.values())]
        tagged: list[Schema] = [
            {"type": "object", "additionalProperties": False, "required": [name], "properties": {name: record.schema()}}
            for name, record in self.options.items()
        ]
        return {"anyOf": [{"enum": alone}, *tagged]}


@dataclass(frozen=True, slots=True)
class Each[T]:
    """A list, in which the order counts."""

    item: Kind[T]

    def read(self, reader: SettingsReader, node: Node, where: str) -> tuple[T, ...] | None:
        children = reader.sequence(node, where)
        found = [self.item.read(reader, child, where) for child in children]
        values = tuple(value for value in found if value is not None)
        return values if len(values) == len(children) else None

    def schema(self) -> Schema:
        return {"type": "array", "items": self.item.schema()}
