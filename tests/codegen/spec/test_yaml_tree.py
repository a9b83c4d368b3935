"""Scalars follow the YAML 1.2 core schema, and every node knows its place."""

import math

import pytest

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.yaml_tree import MAX_DEPTH, ListNode, MapNode, Node, Scalar, load_yaml


def _load(text: str) -> Node:
    problems = Problems()
    node = load_yaml(text.encode(), "x.yaml", problems)
    assert problems.sorted() == []
    assert node is not None
    return node


def _scalar(text: str) -> Scalar:
    node = _load(f"- {text}")
    assert isinstance(node, ListNode)
    item = node.items[0]
    assert isinstance(item, Scalar)
    return item


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("Off", "Off"), ("1:20", "1:20"), ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"), ("0b11", "0b11"), ("0x", "0x"), ("-0x1", "-0x1"), ("tRue", "tRue"), ("e5", "e5"),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("12", 12), ("-12", -12), ("+12", 12), ("017", 17), ("0o17", 15), ("0xff", 255),
        ("1.5", 1.5), (".5", 0.5), ("-1.", -1.0), ("1e3", 1000.0), (".inf", math.inf), ("-.Inf", -math.inf),
        ('"12"', "12"), ("'true'", "true"), ('""', ""), ("'it''s'", "it's"), ("|\n  5", "5"),
        ("18446744073709551616", 2**64),
    ],
)  # fmt: skip
def test_core_schema(text: str, value: object) -> None:
    """A plain scalar has its core-schema type and value; a quoted or block one is always a string."""
    found = _scalar(text).value
    assert found == value
    assert type(found) is type(value)


def test_not_a_number() -> None:
    """`.nan` is a float, as the core schema says."""
    found = _scalar(".NaN").value
    assert isinstance(found, float)
    assert math.isnan(found)


def test_digits_without_end_stay_text() -> None:
    """More digits than Python converts are a string, not an exception."""
    assert _scalar("9" * 5000).value == "9" * 5000


def test_marks() -> None:
    """Keys, values, items and the first character within quotes are marked by line and column from 1."""
    node = _load('# first\nkey:\n  - "é": "text"\n')
    assert isinstance(node, MapNode)
    (key, key_mark, child) = node.entries[0]
    assert isinstance(child, ListNode)
    inner = child.items[0]
    assert isinstance(inner, MapNode)
    value = inner.entries[0][2]
    assert isinstance(value, Scalar)
    marks = [node.mark, key_mark, child.mark, inner.mark, inner.entries[0][1], value.mark, value.text_mark]
    assert key == "key"
    assert [str(mark).removeprefix("x.yaml:") for mark in marks] == ["2:1", "2:1", "3:3", "3:5", "3:5", "3:10", "3:11"]


def test_integer_keys_are_their_text() -> None:
    """Tables of HTTP statuses need no quotes; the key is as written."""
    node = _load("codes: {400: A, 0x1F: B}")
    assert isinstance(node, MapNode)
    inner = node.entries[0][2]
    assert isinstance(inner, MapNode)
    assert [key for key, _, _ in inner.entries] == ["400", "0x1F"]


def test_empty_file_is_an_empty_map() -> None:
    """A file of nothing but comments has no entries and no problem."""
    assert _load("# nothing\n") == MapNode((), _load("").mark)


def test_byte_order_mark_is_not_a_column() -> None:
    """A byte order mark, as some editors write, changes neither keys nor places."""
    node = _load("\ufeffkey: 1")
    assert isinstance(node, MapNode)
    assert (node.entries[0][0], str(node.entries[0][1])) == ("key", "x.yaml:1:1")


def test_deepest_allowed_nesting() -> None:
    """Exactly the limit is accepted; the broken specs hold one more."""
    assert isinstance(_load("[" * MAX_DEPTH + "]" * MAX_DEPTH), ListNode)
