"""Parameters keep their types between JSON and protobuf, or are refused by name."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.parameters import check_finite, check_json_parameters, decode_parameters, encode_parameters

ALL = frozenset({"bool", "int64", "uint64", "string", "double"})


class Parameter(msgspec.Struct):
    """InferParameter as a generated codec decodes it."""

    bool_param: bool | None = None
    int64_param: int | None = None
    string_param: str | None = None
    double_param: float | None = None
    uint64_param: int | None = None


class FileParameter(msgspec.Struct):
    """ModelRepositoryParameter, likewise."""

    bool_param: bool | None = None
    int64_param: int | None = None
    string_param: str | None = None
    bytes_param: bytes | None = None


class Losses(list[tuple[str, str]]):
    """Notes what was lost."""

    def lose(self, place: str, why: str) -> None:
        """As a lenient context."""
        self.append((place, why))


def refuse(place: str, why: str) -> None:
    """As a strict context."""
    raise invalid(f"{place}: {why}")


@pytest.mark.parametrize(
    ("value", "entry"),
    [
        (True, Parameter(bool_param=True)),
        (False, Parameter(bool_param=False)),
        (0, Parameter(int64_param=0)),
        (1, Parameter(int64_param=1)),
        (-(2**63), Parameter(int64_param=-(2**63))),
        (2**63 - 1, Parameter(int64_param=2**63 - 1)),
        (2**63, Parameter(uint64_param=2**63)),
        (2**64 - 1, Parameter(uint64_param=2**64 - 1)),
        (1.0, Parameter(double_param=1.0)),
        (0.0, Parameter(double_param=0.0)),
        ("", Parameter(string_param="")),
        ("ü", Parameter(string_param="ü")),
    ],
)
def test_each_value_has_its_member(value: Any, entry: Parameter) -> None:
    """A value goes to one member and comes back with its type; false, zero and empty are values too."""
    assert encode_parameters({"k": value}, Parameter, ALL, "parameters", refuse) == {"k": entry}
    found = decode_parameters({"k": entry}, "parameters")["k"]
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(("value", "kind"), [(0.5, "double"), (2**63, "uint64"), ("a", "string"), (True, "bool")])
def test_what_a_runtime_would_drop_is_lost_by_name(value: Any, kind: str) -> None:
    """A kind that the runtime does not read is never sent silently."""
    losses = Losses()
    kept = encode_parameters({"k": value, "n": 1}, Parameter, ALL - {kind}, "inputs[].parameters", losses.lose)
    assert kept == {"n": Parameter(int64_param=1)}
    assert losses == [("inputs[].parameters[k]", f"the runtime has no parameters of type {kind}")]
    with pytest.raises(BridgeError, match=r"inputs\[\]\.parameters\[k\]: the runtime has no"):
        encode_parameters({"k": value}, Parameter, ALL - {kind}, "inputs[].parameters", refuse)


def test_a_parameter_without_a_value() -> None:
    """Nothing set looks like a kind that our proto does not know, so it is an error."""
    with pytest.raises(BridgeError, match=r"parameters\[k\]: has no value this proto knows"):
        decode_parameters({"k": Parameter()}, "parameters")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "not null"),
        ([], "not an array"),
        ({}, "not an object"),
        (2**64, "does not fit 64 bits"),
        (-(2**63) - 1, "does not fit 64 bits"),
    ],
)
def test_json_values_that_cannot_cross(value: Any, why: str) -> None:
    """The error names the place and what is wrong."""
    with pytest.raises(BridgeError, match=rf"inputs\[0\]\.parameters\.k: .*{why}"):
        check_json_parameters({"ok": 1, "k": value}, "inputs[0].parameters")


@settings(max_examples=100)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
        max_size=5,
    )
)
def test_round_trip(values: dict[str, Any]) -> None:
    """Every set of parameters survives JSON to protobuf and back, types included."""
    names = {key: value for key, value in values.items() if not key.startswith("file:")}
    checked = check_json_parameters(names, "parameters")
    found = decode_parameters(encode_parameters(checked, Parameter, ALL, "parameters", refuse), "parameters")
    assert {key: (type(value), value) for key, value in found.items()} == {
        key: (type(value), value) for key, value in names.items()
    }


def test_files_are_base64_in_json_and_bytes_in_protobuf() -> None:
    """A model's files cross both ways; text that is not base64 is refused."""
    entries = encode_parameters({"file:1/m.onnx": "/wA="}, FileParameter, ALL, "parameters", refuse)
    assert entries == {"file:1/m.onnx": FileParameter(bytes_param=b"\xff\0")}
    assert decode_parameters(entries, "parameters") == {"file:1/m.onnx": "/wA="}
    with pytest.raises(BridgeError, match=r"parameters\[file:a\]: must be base64"):
        encode_parameters({"file:a": "é"}, FileParameter, ALL, "parameters", refuse)
    with pytest.raises(BridgeError, match=r"parameters\[a\]: only parameters called file:… may be bytes"):
        decode_parameters({"a": FileParameter(bytes_param=b"a")}, "parameters")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_json_has_no_special_numbers(value: float) -> None:
    """NaN and Infinity from a proto cannot go to JSON."""
    with pytest.raises(BridgeError, match=r"parameters\[k\]: JSON cannot carry"):
        check_finite({"a": 1.0, "k": value}, "parameters")
