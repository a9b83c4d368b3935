"""The models of the demo runtimes: `double` and `echo`, on plain Python values."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferbridge.bridge.errors import BridgeError, Code, invalid

type Value = bool | int | float | bytes
_FORMATS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Datatype to the code of its elements in `struct`."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named array; `values` are its elements in row-major order, bytes for BYTES."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a model; -1 in a shape varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Model:
    """What a demo runtime can run."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Callable[[Sequence[Tensor]], list[Tensor]]


def _double(inputs: Sequence[Tensor]) -> list[Tensor]:
    if [(tensor.name, tensor.datatype) for tensor in inputs] != [("x", "FP32")]:
        given = ", ".join(f"{tensor.datatype} {tensor.name}" for tensor in inputs) or "nothing"
        raise invalid(f"model double takes one input, FP32 x; got {given}")
    return [Tensor("y", "FP32", inputs[0].shape, tuple(2 * float(value) for value in inputs[0].values))]


def _echo(inputs: Sequence[Tensor]) -> list[Tensor]:
    return list(inputs)


DOUBLE = Model("double", (Port("x", "FP32", (-1, -1)),), (Port("y", "FP32", (-1, -1)),), _double)
_ANY = (Port("number", "INT64", (-1,)), Port("text", "BYTES", (-1,)))
ECHO = Model("echo", _ANY, _ANY, _echo)


def find(models: Sequence[Model], name: str) -> Model:
    """The model of a name; NOT_FOUND when there is none."""
    for model in models:
        if model.name == name:
            return model
    raise BridgeError(Code.NOT_FOUND, f"model {name!r} is not loaded")


def unpack(datatype: str, data: bytes) -> tuple[Value, ...]:
    """Elements from their little-endian bytes; BYTES elements have their length in front."""
    if datatype == "BYTES":
        return tuple(_unpack_bytes(data))
    count, rest = divmod(len(data), struct.calcsize(_format(datatype)))
    if rest:
        raise invalid(f"{len(data)} bytes are no whole number of {datatype}")
    return struct.unpack(f"<{count}{_format(datatype)}", data)


def _unpack_bytes(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise invalid("a BYTES element is cut off")
        found.append(data[at + 4 : end])
        at = end
    return found


def pack(datatype: str, values: Sequence[Value]) -> bytes:
    """The little-endian bytes of elements."""
    try:
        if datatype == "BYTES":
            items = [value for value in values if isinstance(value, bytes)]
            return b"".join(len(value).to_bytes(4, "little") + value for value in items)
        return struct.pack(f"<{len(values)}{_format(datatype)}", *values)
    except (struct.error, OverflowError) as error:
        raise invalid(f"a value does not fit {datatype}: {error}") from None


def _format(datatype: str) -> str:
    try:
        return _FORMATS[datatype]
    except KeyError:
        raise invalid(f"datatype {datatype!r} is not one the demo runtime knows") from None
