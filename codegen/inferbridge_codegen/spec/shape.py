"""Reads nodes of a YAML tree as the shapes a document expects; what does not fit is a problem with its place."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.names import wrong_identifier
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar


class Pattern(NamedTuple):
    """What a string must match as a whole, as a regular expression and in words that follow "must be"."""

    regex: str
    words: str


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


class Reader:
    """Every method tolerates None and the wrong kind of node: it reports and answers None or nothing."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems

    def map(self, node: Node | None, where: str, known: Mapping[str, bool]) -> dict[str, Node]:
        """The entries of a map with fixed keys; `known` says whether a key is required. Null is an empty map."""
        found: dict[str, Node] = {}
        for name, mark, child in self.entries(node, where):
            if name in known:
                found[name] = child
            else:
                self.unknown_key(mark, where, name, known)
        if isinstance(node, MapNode) or (node is not None and _is_null(node)):
            for name, required in known.items():
                if required and name not in found:
                    self.problems.add(node.mark, f"{where} needs the key {name!r}")
        return found

    def unknown_key(self, mark: Mark, where: str, key: str, known: Collection[str]) -> None:
        """A key that is none of `known`."""
        self.problems.add(mark, f"{where} has no key {key!r}{suggestion(key, known)}")

    def entries(self, node: Node | None, where: str) -> Iterator[tuple[str, Mark, Node]]:
        """All entries of a map with free keys. Null is an empty map."""
        if isinstance(node, MapNode):
            yield from node.entries
        elif node is not None and not _is_null(node):
            self.problems.add(node.mark, f"{where} must be a map")

    def sequence(self, node: Node | None, where: str) -> Sequence[Node]:
        """The items of a list."""
        if isinstance(node, ListNode):
            return node.items
        if node is not None:
            self.problems.add(node.mark, f"{where} must be a list")
        return ()

    def string(self, node: Node | None, where: str, pattern: Pattern | None = None) -> str | None:
        """A string, matching `pattern` when given."""
        if node is None:
            return None
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            hint = f'; quote it: "{node.text}"' if isinstance(node, Scalar) and not _is_null(node) else ""
            self.problems.add(node.mark, f"{where} must be a string{hint}")
            return None
        if pattern is not None and not re.fullmatch(pattern.regex, node.value):
            self.problems.add(node.mark, f"{where} {node.value!r} must be {pattern.words}")
            return None
        return node.value

    def strings(self, node: Node | None, where: str, pattern: Pattern | None = None) -> list[str]:
        """A list of strings."""
        found = [self.string(item, where, pattern) for item in self.sequence(node, where)]
        return [text for text in found if text is not None]

    def boolean(self, node: Node | None, where: str) -> bool | None:
        """true or false."""
        if node is None:
            return None
        if isinstance(node, Scalar) and isinstance(node.value, bool):
            return node.value
        self.problems.add(node.mark, f"{where} must be true or false")
        return None

    def integer(self, node: Node | None, where: str, minimum: int, maximum: int) -> int | None:
        """A whole number within bounds."""
        if node is None:
            return None
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= maximum:
            return value
        self.problems.add(node.mark, f"{where} must be a whole number from {minimum} to {maximum}")
        return None

    def choice(self, node: Node | None, where: str, options: Sequence[str]) -> str | None:
        """One of some words."""
        if node is None:
            return None
        if not isinstance(node, Scalar) or not node.text:
            self.problems.add(node.mark, f"{where} must be one of {', '.join(options)}")
            return None
        if node.text in options:
            return node.text
        hint = suggestion(node.text, options)
        self.problems.add(node.mark, f"{where} {node.text!r} is none of {', '.join(options)}{hint}")
        return None

    def identifier(self, node: Node | None, where: str) -> str | None:
        """A name that generated code can use."""
        text = self.string(node, where)
        if text is not None and node is not None and self.check_identifier(text, node.mark):
            return text
        return None

    def check_identifier(self, name: str, mark: Mark) -> bool:
        """Whether generated code can use the name; a problem if not."""
        wrong = wrong_identifier(name)
        if wrong:
            self.problems.add(mark, wrong)
        return not wrong

    def check_pattern(self, name: str, mark: Mark, pattern: str, message: str) -> bool:
        """Whether a key is well-formed; a problem with `message` if not."""
        if re.fullmatch(pattern, name):
            return True
        self.problems.add(mark, f"{name!r}: {message}")
        return False
