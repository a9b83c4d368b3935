"""JSON in google.protobuf.Struct and Value: everything crosses that a double can hold, and nothing changes silently."""

import math
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from inferbridge.bridge import json_messages
from inferbridge.bridge.context import Context, Policy, RuntimeProfile
from inferbridge.bridge.errors import BridgeError

SCALARS = (
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(min_value=-(2**53), max_value=2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def context(*, lossy: bool = False) -> Context:
    """A call's surroundings."""
    return Context(RuntimeProfile(name="x", api="y"), Policy(lossy))


@given(st.dictionaries(st.text(), JSON))
def test_objects_survive(value: dict[str, Any]) -> None:
    """Written and read again an object is the same; whole numbers are ints."""
    data = json_messages.write_struct(value, "doc", context())
    assert json_messages.read_struct(data) == value


@given(JSON.filter(lambda value: value is not None))
def test_values_are_googles(value: Any) -> None:
    """The bytes are those that google.protobuf's own JSON form makes of the value."""
    data = json_messages.write_value(value, "x", context())
    assert data is not None
    assert json_format.MessageToDict(Value.FromString(data)) == json_format.MessageToDict(
        json_format.ParseDict(value, Value())
    )
    assert json_messages.read_value(data) == value


def test_nothing_is_absent() -> None:
    """No value is no message, and no message is no value."""
    assert json_messages.write_struct(None, "x", context()) is None
    assert json_messages.write_value(None, "x", context()) is None
    assert json_messages.read_struct(None) is None
    assert json_messages.read_value(None) is None


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63) + 1, 10**400])
def test_an_integer_that_no_double_equals_is_a_loss(number: int) -> None:
    """It is named with its place; with losses allowed the nearest double stands for it."""
    with pytest.raises(BridgeError, match=r"doc\.a\[1\]"):
        json_messages.write_struct({"a": [0, number]}, "doc", context())
    lossy = context(lossy=True)
    assert json_messages.write_struct({"a": [0, number]}, "doc", lossy)
    assert lossy.losses == ["doc.a[1]"]


@pytest.mark.parametrize("value", [[1], "text", 3])
def test_only_objects_are_structs(value: Any) -> None:
    """Other JSON is refused by name."""
    with pytest.raises(BridgeError, match="doc: only a JSON object"):
        json_messages.write_struct(value, "doc", context())
    with pytest.raises(BridgeError, match=r"doc\[1\]: only"):
        json_messages.write_structs([{}, value], "doc", context())


def test_depth_is_bounded() -> None:
    """What a parser of protobuf would refuse is refused before it is sent."""
    value: Any = 1
    for _ in range(200):
        value = [value]
    with pytest.raises(BridgeError, match="deep"):
        json_messages.write_value(value, "x", context())


def test_the_deepest_that_is_written_can_be_read() -> None:
    """The bound on writing is not above that of reading."""
    value: Any = {"end": 1}
    for _ in range(17):
        value = {"a": [value]}
    assert json_messages.read_struct(json_messages.write_struct(value, "x", context())) == value


@pytest.mark.parametrize("data", [b"\n", b"\xff\xff", b"\x0a\x05\x0a\x01"])
def test_broken_messages_are_errors(data: bytes) -> None:
    """Bytes that are no message are refused."""
    with pytest.raises(BridgeError, match=r"google\.protobuf\.Struct"):
        json_messages.read_struct(data)


def test_negative_zero_stays() -> None:
    """-0.0 is no int."""
    data = Struct(fields={"a": Value(number_value=-0.0)}).SerializeToString()
    assert str(json_messages.read_struct(data)) == "{'a': -0.0}"


def test_maps_hold_strings_only() -> None:
    """A map of strings takes nothing else."""
    assert json_messages.write_strings({"a": "b"}, "m", context()) == {"a": "b"}
    assert json_messages.write_strings(None, "m", context()) == {}
    with pytest.raises(BridgeError, match="m: only"):
        json_messages.write_strings({"a": 1}, "m", context())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_errors(number: float) -> None:
    """A Value that is not finite, which its specification forbids, never becomes null."""
    data = Struct(fields={"a": Value(number_value=number)}).SerializeToString()
    with pytest.raises(BridgeError, match="no JSON number"):
        json_messages.read_struct(data)


def test_refused_items_are_named_with_their_place() -> None:
    """Which object of a list is wrong, and where in it."""
    for wrong, place in ((None, r"docs\[1\]: only"), ({"a": [2**53 + 1]}, r"docs\[1\]\.a\[0\]: ")):
        with pytest.raises(BridgeError, match=place):
            json_messages.write_structs([{}, wrong], "docs", context())
