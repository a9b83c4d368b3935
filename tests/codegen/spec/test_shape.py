"""The reader of shapes answers None for what is missing or wrong, and says so once."""

from collections.abc import Callable

import pytest

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.shape import Pattern, Reader
from inferbridge_codegen.spec.yaml_tree import MapNode, Node, load_yaml

_WORD = Pattern("[a-z]+", "one word")
_READS: dict[str, Callable[[Reader, Node | None], object]] = {
    "map": lambda reader, node: reader.map(node, "it", {"known": True}),
    "entries": lambda reader, node: list(reader.entries(node, "it")),
    "sequence": lambda reader, node: reader.sequence(node, "it"),
    "string": lambda reader, node: reader.string(node, "it", _WORD),
    "strings": lambda reader, node: reader.strings(node, "it", _WORD),
    "boolean": lambda reader, node: reader.boolean(node, "it"),
    "integer": lambda reader, node: reader.integer(node, "it", 1, 5),
    "choice": lambda reader, node: reader.choice(node, "it", ("red", "blue")),
    "identifier": lambda reader, node: reader.identifier(node, "it"),
}


def _value(text: str) -> Node:
    node = load_yaml(f"v: {text}".encode(), "x.yaml", Problems())
    assert isinstance(node, MapNode)
    return node.entries[0][2]


def _read(name: str, node: Node | None) -> tuple[object, list[str]]:
    problems = Problems()
    value = _READS[name](Reader(problems), node)
    return value, [str(problem).removeprefix("x.yaml:1:") for problem in problems.sorted()]


@pytest.mark.parametrize("name", _READS)
def test_missing_node_is_no_problem(name: str) -> None:
    """A node that is not there is nothing: whoever needs it has said so already."""
    value, problems = _read(name, None)
    assert not value
    assert problems == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sequence", "[]", ()), ("string", "word", "word"), ("strings", "[a, b]", ["a", "b"]),
        ("boolean", "false", False), ("integer", "1", 1), ("integer", "5", 5), ("choice", "red", "red"),
        ("choice", '"blue"', "blue"), ("identifier", "max_tokens2", "max_tokens2"),
        ("entries", "~", []), ("entries", "{}", []),
    ],
)  # fmt: skip
def test_right_value(name: str, text: str, value: object) -> None:
    """A value of the right shape is answered as it is."""
    assert _read(name, _value(text)) == (value, [])


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("map", "5", "4: it must be a map"),
        ("map", "~", "4: it needs the key 'known'"),
        ("map", "{}", "4: it needs the key 'known'"),
        ("entries", "[a]", "4: it must be a map"),
        ("sequence", "{}", "4: it must be a list"),
        ("sequence", "~", "4: it must be a list"),
        ("string", "~", "4: it must be a string"),
        ("string", "true", '4: it must be a string; quote it: "true"'),
        ("string", "[a]", "4: it must be a string"),
        ("string", "two words", "4: it 'two words' must be one word"),
        ("string", '"word\\n"', "4: it 'word\\n' must be one word"),
        ("boolean", '"true"', "4: it must be true or false"),
        ("boolean", "1", "4: it must be true or false"),
        ("integer", "0", "4: it must be a whole number from 1 to 5"),
        ("integer", "6", "4: it must be a whole number from 1 to 5"),
        ("integer", "true", "4: it must be a whole number from 1 to 5"),
        ("integer", "1.0", "4: it must be a whole number from 1 to 5"),
        ("integer", '"1"', "4: it must be a whole number from 1 to 5"),
        ("choice", "rad", "4: it 'rad' is none of red, blue; did you mean 'red'?"),
        ("choice", "{}", "4: it must be one of red, blue"),
        ("choice", '""', "4: it must be one of red, blue"),
        ("identifier", '"a\\n"', "4: name 'a\\n' must be snake_case: a-z, then a-z, 0-9 and _"),
        ("identifier", "_a", "4: name '_a' must be snake_case: a-z, then a-z, 0-9 and _"),
        ("identifier", "type", "4: name 'type' is reserved: it is a keyword of Python; choose another"),
    ],
)
def test_wrong_value(name: str, text: str, problem: str) -> None:
    """A value of the wrong shape is answered as nothing, with one problem where it stands."""
    value, problems = _read(name, _value(text))
    assert not value
    assert problems == [problem]


def test_wrong_items_are_left_out() -> None:
    """Of a list of strings the good ones are answered and each bad one is a problem at its own place."""
    assert _read("strings", _value("[a, 5, b, B]")) == (
        ["a", "b"],
        ['8: it must be a string; quote it: "5"', "14: it 'B' must be one word"],
    )


def test_known_keys_are_answered_beside_unknown_ones() -> None:
    """An unknown key is a problem at the key and hides no other entry."""
    node = _value("{known: 1, knwon: 2, zzz: 3}")
    value, problems = _read("map", node)
    assert value == {"known": node.entries[0][2]} if isinstance(node, MapNode) else False
    assert problems == ["15: it has no key 'knwon'; did you mean 'known'?", "25: it has no key 'zzz'"]
