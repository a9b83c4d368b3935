"""Values made of a field's name and type."""

from typing import Any, Literal

import msgspec

from inferbridge.mock.values import VECTOR, Maker

type Reason = Literal["one", "two"]


class Item(msgspec.Struct):
    index: int
    name: str
    vector: list[float]
    ids: list[int]


class Reply(msgspec.Struct):
    model: str
    items: list[Item]
    texts: list[str]
    reason: Reason | None
    score: float | None
    done: bool
    extra: Any
    parameters: dict[str, str]


class Request(msgspec.Struct):
    model: str = ""
    texts: list[str] = []


def test_every_field_has_a_value_of_its_type() -> None:
    """What is made could have come from a runtime: it is what the type says."""
    reply = Maker(Request("m", ["a", "b"])).struct(Reply)
    assert msgspec.convert(msgspec.to_builtins(reply), Reply) == reply
    assert reply.reason == "one"
    assert reply.done


def test_a_list_has_an_item_for_each_that_is_asked_about() -> None:
    """Two texts get two items, in order, each with numbers of its own."""
    reply = Maker(Request("m", ["a", "b"])).struct(Reply)
    assert [item.index for item in reply.items] == [0, 1]
    assert reply.texts == ["a", "b"]
    assert reply.items[0].vector != reply.items[1].vector
    assert all(len(item.vector) == len(item.ids) == VECTOR for item in reply.items)


def test_the_request_decides() -> None:
    """The same request gets the same values, the same text the same numbers wherever it stands."""
    first, second = (Maker(Request("m", texts)).struct(Reply) for texts in (["a", "b"], ["b", "b"]))
    assert first == Maker(Request("m", ["a", "b"])).struct(Reply)
    assert first.items[1].vector == second.items[0].vector
    assert first.model == "m"
