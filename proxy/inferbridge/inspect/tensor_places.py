"""Where the tensors of the Open Inference Protocol are: in gRPC messages and in REST bodies."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from google.protobuf.descriptor import Descriptor

from inferbridge.bridge.json_cut import Region, cut
from inferbridge.bridge.tensors import FIELDS
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import INT64, WireError, read_varint
from inferbridge.inspect.page import Budget
from inferbridge.inspect.tensors import Tensor
from inferbridge.inspect.wire_fields import DELIMITED, known_fields, wire_fields

READ_JSON = 24 * 1024 * 1024
"""Bytes of a REST body, without its arrays of numbers."""
_MAX_DIMENSIONS = 64
_MAX_DIGITS = 12
_VARINTS = ("int_contents", "int64_contents", "uint_contents", "uint64_contents")


def json_length(said: str | None) -> int | None:
    """Bytes of the JSON that stands before tensors, as `HEADER_LENGTH` says; None where it says no such number."""
    return int(said) if said and said.isascii() and said.isdecimal() and len(said) < _MAX_DIGITS else None


# In gRPC messages


def message_tensors(message: memoryview, descriptor: Descriptor, budget: Budget) -> list[Tensor]:
    """The tensors of a ModelInferRequest, ModelInferResponse or ModelStreamInferResponse; none of another message."""
    found: list[Tensor] = []
    raw_list: list[Buffer] = []
    raw_name = ""
    try:
        for name, value, inner in _known(message, descriptor, budget):
            if name in {"inputs", "outputs"} and inner is not None and _is_tensor(inner):
                found.append(_tensor(value, inner, budget))
            elif name.startswith("raw_") and inner is None:
                raw_name = name
                raw_list.append(value)
            elif name == "infer_response" and inner is not None:
                return message_tensors(value, inner, budget)
    except WireError:
        pass  # what was read before stands; where it broke is told with the fields
    return _with_raw(found, raw_list, raw_name)


def _is_tensor(descriptor: Descriptor) -> bool:
    return {"name", "datatype", "shape", "contents"} <= set(descriptor.fields_by_name)


def _known(
    message: memoryview, descriptor: Descriptor, budget: Budget
) -> Iterator[tuple[str, memoryview, Descriptor | None]]:
    """Delimited fields that have a name, and the descriptors of those that are messages."""
    for number, wire_type, value in wire_fields(message, budget):
        known = known_fields(descriptor).get(number)
        if known is not None and wire_type == DELIMITED and isinstance(value, memoryview):
            yield known.name, value, known.message_type


def _tensor(message: memoryview, descriptor: Descriptor, budget: Budget) -> Tensor:
    tensor = Tensor()
    try:
        for number, _, value in wire_fields(message, budget):
            known = known_fields(descriptor).get(number)
            if known is None:
                continue
            if known.name == "contents" and known.message_type is not None and isinstance(value, memoryview):
                _take_contents(tensor, value, known.message_type, budget)
            else:
                _take(tensor, known.name, value)
    except WireError as error:
        tensor.notes.append(f"its message is broken: {error}")
    return tensor


def _take(tensor: Tensor, name: str, value: int | memoryview) -> None:
    if name == "shape":
        _take_shape(tensor, value)
    elif name == "name" and isinstance(value, memoryview):
        tensor.name = bytes(value[:4096]).decode(errors="replace")
    elif name == "datatype" and isinstance(value, memoryview):
        tensor.datatype = bytes(value[:64]).decode(errors="replace")


def _take_shape(tensor: Tensor, value: int | memoryview) -> None:
    if isinstance(value, int):
        tensor.shape.append(INT64.of_varint(value))
        return
    at = 0
    try:
        while at < len(value) and len(tensor.shape) <= _MAX_DIMENSIONS:
            dimension, at = read_varint(value, at)
            tensor.shape.append(INT64.of_varint(dimension))
    except IndexError:
        raise WireError("the shape is cut off") from None


def _take_contents(tensor: Tensor, message: memoryview, descriptor: Descriptor, budget: Budget) -> None:
    runs: dict[str, list[memoryview]] = {}
    try:
        for number, _, value in wire_fields(message, budget):
            known = known_fields(descriptor).get(number)
            if known is not None and isinstance(value, memoryview):
                runs.setdefault(known.name, []).append(value)
            elif known is not None and known.name not in runs:
                tensor.notes.append(f"elements of {known.name} that are not packed are not shown")
                runs[known.name] = []
    except WireError as error:
        tensor.notes.append(f"its contents are broken: {error}")
    _use_runs(tensor, runs)


def _use_runs(tensor: Tensor, runs: Mapping[str, list[memoryview]]) -> None:
    places = list(runs)
    if "bytes_contents" in runs:
        tensor.items = runs["bytes_contents"]
    elif places:
        first = runs[places[0]]
        tensor.raw = first[0] if len(first) == 1 else b"".join(first)
    tensor.place = " and ".join(places)
    tensor.is_varints = len(places) == 1 and places[0] in _VARINTS
    wanted = FIELDS.get(tensor.datatype, "raw contents")
    if places and places != [wanted]:
        tensor.notes.append(f"{tensor.datatype} data belongs in {wanted}")


def _with_raw(tensors: list[Tensor], raw_list: list[Buffer], place: str) -> list[Tensor]:
    """Raw contents are in the order of the tensors."""
    for index, (tensor, raw) in enumerate(zip(tensors, raw_list, strict=False)):
        if tensor.place:
            tensor.notes.append(f"has {tensor.place} and {place}; runtimes refuse both")
        tensor.place, tensor.raw, tensor.is_varints, tensor.items = f"{place}[{index}]", raw, False, []
    if raw_list and len(raw_list) != len(tensors) and tensors:
        tensors[-1].notes.append(f"{place} has {len(raw_list)} entries for {len(tensors)} tensors")
    return tensors


# In REST bodies


class _JsonTensor(msgspec.Struct):
    name: str = ""
    datatype: str = ""
    shape: list[int] = []
    parameters: dict[str, Any] = {}
    data: msgspec.Raw = msgspec.Raw()


class _JsonBody(msgspec.Struct):
    inputs: list[_JsonTensor] = []
    outputs: list[_JsonTensor] = []


_DECODE = msgspec.json.Decoder(_JsonBody).decode


def body_tensors(body: bytes, json_length: int | None = None) -> list[Tensor] | None:
    """The tensors of a V2 REST body; None where it is none, ValueError where it would take too long to read.

    `json_length` is the header `inference-header-content-length`: bytes of the JSON, behind which those of tensors are.
    """
    length = len(body) if json_length is None else max(0, json_length)
    text, tail = (body, memoryview(b"")) if length >= len(body) else (body[:length], memoryview(body)[length:])
    rest, regions = cut(text, 0)
    if len(rest) > READ_JSON:
        raise ValueError(f"{len(rest)} bytes of JSON beside its arrays of numbers are too many to read")
    read = _read(rest) or (_read(text) if regions else None)  # an array that is none may be cut in the wrong place
    if read is None:
        return None
    tensors = []
    # an output without a datatype is one that the client asks for
    for each in [*read.inputs, *(output for output in read.outputs if output.datatype)]:
        tensor, tail = _json_tensor(each, regions, tail)
        tensors.append(tensor)
    if tensors and len(tail):
        tensors[-1].notes.append(f"{len(tail)} bytes are left behind the last tensor")
    return tensors


def _read(text: bytes) -> _JsonBody | None:
    try:
        return _DECODE(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _json_tensor(read: _JsonTensor, regions: Mapping[bytes, Region], tail: memoryview) -> tuple[Tensor, memoryview]:
    tensor = Tensor(read.name, read.datatype, read.shape)
    size = read.parameters.get("binary_data_size")
    text = bytes(read.data)
    if type(size) is int and size >= 0:
        tensor.place, tensor.raw = "binary data", tail[:size]
        if size > len(tail):
            tensor.notes.append(f"binary_data_size is {size}, {len(tail)} bytes are left")
        return tensor, tail[size:]
    if text and text != b"null":
        tensor.place, tensor.region = "data", regions.get(text) or Region(text, 0, len(text))
    return tensor, tail
