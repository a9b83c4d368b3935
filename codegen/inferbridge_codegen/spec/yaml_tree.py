"""YAML as a tree that knows its places.

Only PyYAML's event stream is used: no object is ever constructed from the text. Scalars follow the YAML 1.2 core
schema (`no`, `on` and `1:20` are strings). What makes YAML dangerous or ambiguous is refused: anchors and aliases
(with which a small file grows without bound), tags, duplicate keys, several documents, deep nesting and big files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from inferbridge_codegen.problems import Mark, Problems

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
type Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A plain value; `text` is as written."""

    value: Value
    text: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class ListNode:
    """A sequence."""

    items: tuple["Node", ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping, in the order of the file; keys are unique."""

    entries: tuple[tuple[str, Mark, "Node"], ...]
    mark: Mark


type Node = Scalar | ListNode | MapNode

_CORE = (
    (re.compile(r"(?:|~|null|Null|NULL)"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
)


class _RefusedError(Exception):
    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


def load_yaml(text: bytes, file: str, problems: Problems) -> Node | None:
    """The tree of one file, or None after a problem."""
    try:
        return _Builder(text, file).build()
    except _RefusedError as refused:
        problems.add(refused.mark, refused.message)
    return None


class _Builder:
    def __init__(self, text: bytes, file: str) -> None:
        self._file = file
        self._events = self._parse(text)

    def _parse(self, text: bytes) -> Iterator[yaml.Event]:
        start = Mark(self._file, 1, 1)
        if len(text) > MAX_BYTES:
            raise _RefusedError(start, f"the file is larger than {MAX_BYTES} bytes")
        try:
            decoded = text.decode("utf-8")
        except UnicodeDecodeError as error:
            line = text.count(b"\n", 0, error.start) + 1
            column = error.start - text.rfind(b"\n", 0, error.start)
            raise _RefusedError(Mark(self._file, line, column), "the file is not UTF-8") from None
        return iter(self._checked(decoded))

    def _checked(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._mark(mark) if mark else Mark(self._file, 1, 1)
            raise _RefusedError(place, f"not valid YAML: {error.problem or error.context}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - text.rfind("\n", 0, error.position)
            message = f"not valid YAML: character U+{error.character:04X} is not allowed"
            raise _RefusedError(Mark(self._file, line, column), message) from None

    def _mark(self, mark: yaml.Mark) -> Mark:
        return Mark(self._file, mark.line + 1, mark.column + 1)

    def build(self) -> Node:
        node: Node = MapNode((), Mark(self._file, 1, 1))
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _RefusedError(self._mark(event.start_mark), "only one YAML document in a file")
                node = self._node(next(self._events), 1)
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        mark = self._mark(event.start_mark)
        self._refuse(event, mark, depth)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(_resolve(event), event.value, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return ListNode(tuple(self._items(depth)), mark)
        return MapNode(tuple(self._entries(depth)), mark)

    def _refuse(self, event: yaml.Event, mark: Mark, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(mark, f"alias *{event.anchor} is not allowed; write the value out")
        if getattr(event, "anchor", None):
            raise _RefusedError(mark, f"anchor &{event.anchor} is not allowed; write the value out")
        if getattr(event, "tag", None):
            raise _RefusedError(mark, f"tag {event.tag} is not allowed")
        if depth > MAX_DEPTH:
            raise _RefusedError(mark, f"nested more than {MAX_DEPTH} deep")

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[tuple[str, Mark, Node]]:
        seen: dict[str, Mark] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar) or (not isinstance(key.value, str) and not isinstance(key.value, int)):
                raise _RefusedError(key.mark, "a key must be a string")
            if key.text == "<<":
                raise _RefusedError(key.mark, "merge keys are not allowed; write the entries out")
            if key.text in seen:
                raise _RefusedError(key.mark, f"key {key.text!r} is already defined at line {seen[key.text].line}")
            seen[key.text] = key.mark
            yield key.text, key.mark, self._node(next(self._events), depth + 1)


def _resolve(event: yaml.ScalarEvent) -> Value:
    text = str(event.value)
    if event.style is not None:
        return text
    for pattern, convert in _CORE:
        if pattern.fullmatch(text) and len(text) < 400:
            return convert(text)  # type: ignore[no-any-return, operator]  # the table pairs each pattern with its type
    return text


def load_with_includes(path: Path, root: Path, problems: Problems) -> Node | None:
    """The tree of `path` merged with those of its top-level `include:` list; paths are relative to `root`."""
    return _load(path, root, problems, (), Mark(_display(path, root), 1, 1))


def _display(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _load(path: Path, root: Path, problems: Problems, chain: tuple[str, ...], where: Mark) -> Node | None:
    file = _display(path, root)
    if file in chain:
        problems.add(where, f"include cycle: {' -> '.join((*chain, file))}")
        return None
    if not path.resolve().is_relative_to(root.resolve()):
        problems.add(where, f"{file} leads outside the spec folder")
        return None
    try:
        text = path.read_bytes()
    except OSError as error:
        problems.add(where, f"cannot read {file}: {error.strerror}")
        return None
    node = load_yaml(text, file, problems)
    return _merge_includes(node, root, problems, (*chain, file)) if isinstance(node, MapNode) else node


def _merge_includes(node: MapNode, root: Path, problems: Problems, chain: tuple[str, ...]) -> Node:
    for key, mark, child in node.entries:
        if key != "include":
            continue
        if not isinstance(child, ListNode):
            problems.add(mark, "include is a list of files")
            return node
        for item in child.items:
            included = _included(item, root, problems, chain)
            if isinstance(included, MapNode):
                node = _merge(node, included, problems)
    return node


def _included(item: Node, root: Path, problems: Problems, chain: tuple[str, ...]) -> Node | None:
    if not isinstance(item, Scalar) or not isinstance(item.value, str):
        problems.add(item.mark, "include is a list of files")
        return None
    parts = item.value.split("/")
    if item.value.startswith("/") or ".." in parts or "\\" in item.value or "\0" in item.value:
        problems.add(item.mark, f"include {item.value!r} must be a path below the spec folder, without '..'")
        return None
    return _load(root / item.value, root, problems, chain, item.mark)


def _merge(base: MapNode, other: MapNode, problems: Problems) -> MapNode:
    entries = {key: (mark, child) for key, mark, child in base.entries}
    for key, mark, child in other.entries:
        mine = entries.get(key)
        if key == "include":
            continue
        if mine is None:
            entries[key] = (mark, child)
        elif isinstance(mine[1], ListNode) and isinstance(child, ListNode):
            entries[key] = (mine[0], ListNode(mine[1].items + child.items, mine[1].mark))
        elif isinstance(mine[1], MapNode) and isinstance(child, MapNode):
            entries[key] = (mine[0], _merge(mine[1], child, problems))
        else:
            problems.add(mark, f"key {key!r} is already defined at {mine[0]}")
    return MapNode(tuple((key, mark, child) for key, (mark, child) in entries.items()), base.mark)
