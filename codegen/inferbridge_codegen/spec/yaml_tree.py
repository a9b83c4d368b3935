"""YAML as a tree that knows its places.

Only PyYAML's event stream is used: no object is ever constructed from the text. Scalars follow the YAML 1.2 core
schema (`no`, `on` and `1:20` are strings). What makes YAML dangerous or ambiguous is refused: anchors and aliases
(with which a small file grows without bound), tags, duplicate keys, several documents, deep nesting, big files, and
characters that YAML forbids but lets be written as escapes.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import yaml

from inferbridge_codegen.problems import Mark, Problems

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
_MAX_NUMBER = 400
"""Longest text read as a number; Python itself refuses integers of more than 4300 digits."""
_WORD = re.compile(r"[a-z]+([_-][a-z]+)*|[0-9]{3}")
type Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A plain value; `text` is as written, without quotes."""

    value: Value
    text: str
    mark: Mark
    quoted: bool = False

    @property
    def text_mark(self) -> Mark:
        """Where the first character of `text` is; exact for scalars on one line without escapes."""
        return self.mark.after(1) if self.quoted else self.mark


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

_CORE: tuple[tuple[re.Pattern[str], Callable[[str], Value]], ...] = (
    (re.compile(r"(?:|~|null|Null|NULL)"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+"), lambda text: int(text, 0)),
    (re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)
_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _RefusedError(Exception):
    def __init__(self, mark: Mark, message: str) -> None:
        super().__init__(message)
        self.mark = mark
        self.message = message


def load_yaml(text: bytes, file: str, problems: Problems) -> Node | None:
    """The tree of one file, or None after a problem. An empty file is an empty map."""
    try:
        return _Builder(_events(_decode(text, file), file), file).build()
    except _RefusedError as refused:
        problems.add(refused.mark, refused.message)
    return None


def _decode(text: bytes, file: str) -> str:
    if len(text) > MAX_BYTES:
        raise _RefusedError(Mark(file, 1, 1), f"the file is larger than {MAX_BYTES} bytes")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        place = _place(text[: error.start].decode("utf-8"), error.start, file)
        raise _RefusedError(place, "the file is not UTF-8") from None


def _place(text: str, end: int, file: str) -> Mark:
    before = text[:end]
    return Mark(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _events(text: str, file: str) -> Iterator[yaml.Event]:
    try:
        # PyYAML reads ahead of the events it gives, so its loader is the one to ask for the place of an error
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        message = f"not valid YAML: character U+{error.character:04X} is not allowed"
        raise _RefusedError(_place(text, error.position, file), message) from None
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise _RefusedError(_mark(mark, file), f"not valid YAML: {_said(error)}") from None
    except (ValueError, OverflowError):
        # PyYAML trusts the digits of an escape and of a %YAML directive
        message = "not valid YAML: an escape or a version is out of range"
        raise _RefusedError(_mark(loader.get_mark(), file), message) from None


def _said(error: yaml.MarkedYAMLError) -> str:
    # what follows is a text that begins with !, which may be a password that somebody has not quoted
    said, handle, _ = (error.problem or error.context or "").partition("tag handle")
    return said + handle


class _Position(Protocol):
    line: int
    column: int


def _mark(mark: _Position | None, file: str) -> Mark:
    return Mark(file, mark.line + 1, mark.column + 1) if mark else Mark(file, 1, 1)


class _Builder:
    def __init__(self, events: Iterator[yaml.Event], file: str) -> None:
        self._file = file
        self._events = events

    def _mark(self, event: yaml.Event) -> Mark:
        return _mark(event.start_mark, self._file)

    def build(self) -> Node:
        node: Node = MapNode((), Mark(self._file, 1, 1))
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _RefusedError(self._mark(event), "only one YAML document in a file")
                node = self._node(next(self._events), 1)
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        mark = self._mark(event)
        self._refuse(event, mark, depth)
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event, mark)
        if isinstance(event, yaml.SequenceStartEvent):
            return ListNode(tuple(self._items(depth)), mark)
        return MapNode(tuple(self._entries(depth)), mark)

    def _refuse(self, event: yaml.Event, mark: Mark, depth: int) -> None:
        if isinstance(event, yaml.AliasEvent):
            raise _RefusedError(
                mark, "an alias (*…) is not allowed; write the value out, or quote a text that begins with *"
            )
        if getattr(event, "anchor", None):
            raise _RefusedError(
                mark, "an anchor (&…) is not allowed; write the value out, or quote a text that begins with &"
            )
        if getattr(event, "tag", None):
            raise _RefusedError(mark, "a tag (!…) is not allowed; quote a text that begins with !")
        if depth > MAX_DEPTH:
            raise _RefusedError(mark, f"nested more than {MAX_DEPTH} deep")

    def _items(self, depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> Iterator[tuple[str, Mark, Node]]:
        seen: dict[str, Mark] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            # an integer is a key by its text: tables of HTTP statuses have them
            if not isinstance(key, Scalar) or isinstance(key.value, bool) or not isinstance(key.value, str | int):
                raise _RefusedError(key.mark, "a key must be a string")
            if key.text == "<<":
                raise _RefusedError(key.mark, "merge keys are not allowed; write the entries out")
            if key.text in seen:
                raise _RefusedError(key.mark, f"{named_key(key.text)} is already defined at line {seen[key.text].line}")
            seen[key.text] = key.mark
            yield key.text, key.mark, self._node(next(self._events), depth + 1)


def named_key(text: str, unnamed: str = "this key") -> str:
    """A key in a message; one that looks like no word of ours is not repeated: a slip makes a key of a secret."""
    return f"key {text!r}" if _WORD.fullmatch(text) else unnamed


def _scalar(event: yaml.ScalarEvent, mark: Mark) -> Scalar:
    text = str(event.value)
    forbidden = _FORBIDDEN.search(text)
    if forbidden:
        raise _RefusedError(mark, f"character U+{ord(forbidden[0]):04X} is not allowed")
    if event.style is None:
        return Scalar(_resolve(text), text, mark)
    return Scalar(text, text, mark, quoted=event.style in "'\"")


def _resolve(text: str) -> Value:
    if len(text) > _MAX_NUMBER:
        return text
    for pattern, convert in _CORE:
        if pattern.fullmatch(text):
            return convert(text)
    return text
