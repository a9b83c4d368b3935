"""The JSON of Open Inference bodies and the binary tensor data behind it, read strictly."""

import gzip
import json
import zlib
from typing import Any

import numpy

import golden_v2
from translate.v2_meaning import (
    BINARY_PARAMETERS,
    NUMBERS,
    Meaning,
    Unreadable,
    check_size,
    checked_shape,
    framed,
    packed,
    typed,
)


def json_and_binary(call: dict[str, Any], *, lenient: bool = False) -> tuple[dict[str, Any], bytes]:
    """The JSON part and the binary part of a body."""
    body = _inflated(golden_v2.body(call), golden_v2.header(call, "content-encoding"))
    length = golden_v2.header(call, "inference-header-content-length")
    if length is None:
        return json_object(body, lenient=lenient), b""
    if not length.isdecimal() or int(length) > len(body):
        raise Unreadable("bad Inference-Header-Content-Length")
    return json_object(body[: int(length)], lenient=lenient), body[int(length) :]


def _inflated(body: bytes, encoding: str | None) -> bytes:
    try:
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding == "deflate":
            return zlib.decompress(body)
    except (OSError, EOFError, zlib.error) as problem:
        raise Unreadable(str(problem)) from None
    if encoding not in (None, "identity"):
        raise Unreadable(f"content encoding {encoding}")
    return body


def json_object(body: bytes, *, lenient: bool = False) -> dict[str, Any]:
    """The object; `lenient` lets Triton's NaN and Infinity pass, which are no JSON."""
    constant = None if lenient else _no_constant
    try:
        fields = json.loads(body.decode(), parse_float=_finite, parse_constant=constant)
    except ValueError as problem:
        raise Unreadable(str(problem)) from None
    if not isinstance(fields, dict):
        raise Unreadable("not an object")
    return fields


def _finite(text: str) -> float:
    value = float(text)
    if numpy.isinf(value):
        raise ValueError(f"{text} is too large")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class BinaryData:
    """The binary data after the JSON part, taken in order."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def take(self, size: Any) -> bytes:
        """The next `size` bytes."""
        if type(size) is not int or size < 0 or self._position + size > len(self._data):
            raise Unreadable("binary_data_size does not fit the body")
        self._position += size
        return self._data[self._position - size : self._position]

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._position != len(self._data):
            raise Unreadable("more binary data than inputs")


def json_tensor(tensor: Any, reader: BinaryData) -> Meaning:
    """A tensor, its data from the JSON or from the binary part."""
    if not isinstance(tensor, dict):
        raise Unreadable("a tensor must be an object")
    no_other(tensor, {"name", "shape", "datatype", "parameters", "data"}, "a tensor")
    shape, datatype = checked_shape(tensor.get("shape")), checked_text(tensor.get("datatype"), "datatype")
    parameters = tensor.get("parameters") or {}
    if "binary_data_size" in parameters:
        if "data" in tensor:
            raise Unreadable("data and binary data")
        raw = reader.take(parameters["binary_data_size"])
    elif isinstance(tensor.get("data"), list):
        raw = _raw(datatype, _flat(tensor["data"], shape))
    else:
        raise Unreadable("no data")
    check_size(datatype, shape, raw)
    name = checked_text(tensor.get("name"), "name")
    return {"name": name, "datatype": datatype, "shape": shape, "raw": raw, "parameters": json_parameters(tensor)}


def _flat(data: list[Any], shape: list[int]) -> list[Any]:
    """Flat elements of data that is flat or nested as the shape says."""
    if not any(isinstance(each, list) for each in data):
        return data
    if not shape or len(data) != shape[0] or not all(isinstance(each, list) for each in data):
        raise Unreadable("nesting does not follow the shape")
    if len(shape) == 1:
        raise Unreadable("nested deeper than the shape")
    return [element for each in data for element in _row(each, shape[1:])]


def _row(data: list[Any], shape: list[int]) -> list[Any]:
    if len(shape) == 1 and len(data) != shape[0]:
        raise Unreadable("ragged")
    if len(shape) > 1 and not all(isinstance(each, list) for each in data):
        raise Unreadable("ragged")
    return _flat(data, shape)


def _raw(datatype: str, elements: list[Any]) -> bytes:
    """The memory of JSON elements; a number too large for its type is not one of its values."""
    kind = "BYTES" if datatype == "BYTES" else NUMBERS.get(datatype, "")
    if not kind:
        raise Unreadable(f"no JSON form of {datatype}")
    if datatype == "BF16":
        return _bfloat16(elements)
    allowed = {"?": (bool,), "BYTES": (str,), "f": (int, float)}.get(kind if len(kind) != 3 else kind[1], (int,))
    if any(type(element) not in allowed for element in elements):
        raise Unreadable(f"no {datatype}")
    if datatype == "BYTES":
        return framed([_encoded(element) for element in elements])
    return packed(kind, elements)


def _bfloat16(elements: list[Any]) -> bytes:
    """The upper halves of float32, rounded to the nearest, ties to even."""
    bits = numpy.frombuffer(_raw("FP32", elements), "<u4").astype(numpy.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise Unreadable(str(problem)) from None


def checked_text(value: Any, name: str) -> str:
    """The text, if it is one."""
    if not isinstance(value, str):
        raise Unreadable(f"{name} must be a text")
    return value


def no_other(fields: dict[str, Any], known: set[str], what: str) -> None:
    """Check that there are no unknown fields."""
    if not fields.keys() <= known:
        raise Unreadable(f"{what} has unknown fields {sorted(fields.keys() - known)}")


def json_parameters(holder: dict[str, Any]) -> Meaning:
    """The parameters of a request, a tensor or an output."""
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Unreadable("parameters must be an object")
    for name, value in parameters.items():
        if type(value) not in (bool, int, float, str) or (name == "binary_data_output" and type(value) is not bool):
            raise Unreadable(f"parameter {name}")
        if type(value) is int and not -(2**63) <= value < 2**64:
            raise Unreadable(f"parameter {name}")
    return {name: typed(value) for name, value in parameters.items() if name not in BINARY_PARAMETERS}
