"""What an Open Inference call or reply means, read slowly and independently of the product, for tests to compare.

`of_rest_call`, `of_grpc_call`, `of_rest_reply` and `of_grpc_reply` turn the recorded forms of either protocol into one
plain dictionary. Two calls mean the same when the dictionaries are equal: tensors are compared as their row-major
little-endian memory, parameters with their type, and how a tensor was written down (JSON, binary, typed contents) and
the order of keys do not count. The reading is strict: what the protocol does not allow raises Unreadable.
"""

import base64
import gzip
import json
import struct
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

import golden_v2

DESCRIPTORS = Path(__file__).parents[1] / "golden" / "descriptors"
SERVICE = "/inference.GRPCInferenceService/"
NUMBERS = {
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BF16": "<u2",  # its bits
    "BOOL": "?",
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
BINARY_PARAMETERS = ("binary_data_size", "binary_data", "binary_data_output")  # they say how, not what
GET_OPERATIONS = {"health/live": "ServerLive", "health/ready": "ServerReady", "": "ServerMetadata"}

type Meaning = dict[str, Any]


class Unreadable(Exception):
    """The protocol does not allow this, and why."""


class Unrouted(Exception):
    """No call of the Open Inference protocol."""


# --- REST calls


def of_rest_call(call: dict[str, Any]) -> Meaning:
    """The meaning of a REST call."""
    path = call["path"].partition("?")[0]
    if path == "/v2/" or not (path + "/").startswith("/v2/"):
        raise Unrouted(path)
    parts = path.removeprefix("/v2").removeprefix("/")
    segments = parts.split("/")
    if call["method"] == "GET":
        return _get(parts, segments)
    if call["method"] == "POST" and segments[0] == "models" and segments[-1] == "infer":
        return _infer_call(call, *_model(segments[1:-1]))
    if call["method"] == "POST" and segments[0] == "repository":
        return _repository(call, segments[1:])
    raise Unrouted(f"{call['method']} {path}")


def _get(parts: str, segments: list[str]) -> Meaning:
    if parts in GET_OPERATIONS:
        return {"call": GET_OPERATIONS[parts]}
    if segments[0] != "models":
        raise Unrouted(parts)
    ready = segments[-1] == "ready"
    model, version = _model(segments[1:-1] if ready else segments[1:])
    return {"call": "ModelReady" if ready else "ModelMetadata", "model": model, "version": version}


def _model(segments: list[str]) -> tuple[str, str]:
    if len(segments) == 1 and segments[0]:
        return unquote(segments[0]), ""
    if len(segments) == 3 and segments[1] == "versions" and all(segments):
        return unquote(segments[0]), unquote(segments[2])
    raise Unrouted("/".join(segments))


def _repository(call: dict[str, Any], segments: list[str]) -> Meaning:
    fields = _json_object(golden_v2.body(call) or b"{}")
    if segments == ["index"]:
        return {"call": "RepositoryIndex", "ready": fields.get("ready", False)}
    if len(segments) == 3 and segments[0] == "models" and segments[2] in ("load", "unload"):
        change = f"RepositoryModel{segments[2].capitalize()}"
        return {"call": change, "model": unquote(segments[1]), "parameters": _json_parameters(fields)}
    raise Unrouted("/".join(segments))


def _infer_call(call: dict[str, Any], model: str, version: str) -> Meaning:
    fields, binary = _json_and_binary(call)
    known = {"id", "model_name", "model_version", "parameters", "inputs", "outputs"}
    _no_other(fields, known, "the request")
    inputs = fields.get("inputs")
    if not isinstance(inputs, list):
        raise Unreadable("inputs must be a list")
    reader = _Binary(binary)
    meaning = {
        "call": "ModelInfer",
        "model": model,
        "version": version,
        "id": "" if fields.get("id") is None else _text(fields["id"], "id"),
        "parameters": _json_parameters(fields),
        "inputs": [_json_tensor(tensor, reader) for tensor in inputs],
        "outputs": [_json_requested(output) for output in fields.get("outputs") or []],
    }
    reader.finish()
    return meaning


def _json_requested(output: Any) -> Meaning:
    if not isinstance(output, dict):
        raise Unreadable("an output must be an object")
    _no_other(output, {"name", "parameters"}, "an output")
    return {"name": _text(output.get("name"), "name"), "parameters": _json_parameters(output)}


# --- REST replies


def of_rest_reply(reply: dict[str, Any], call: str) -> Meaning:
    """The meaning of a REST reply to a call with this name."""
    status = reply["status"]
    if call in ("ServerLive", "ServerReady", "ModelReady"):
        problem = _error_text(reply)
        if status == 200 or not problem or "not ready" in problem:
            return {"reply": call, "ready": status == 200}
    if status != 200:
        return {"error": _error_text(reply), "status": status}
    if call.startswith("RepositoryModel"):
        return {"reply": call}
    if call == "ModelInfer":
        return _infer_reply(reply)
    return {"reply": call, **_without_empty(json.loads(golden_v2.body(reply)))}


def _infer_reply(reply: dict[str, Any]) -> Meaning:
    fields, binary = _json_and_binary(reply, lenient=True)
    reader = _Binary(binary)
    return {
        "reply": "ModelInfer",
        "model": fields["model_name"],
        "version": fields.get("model_version") or "",
        "id": fields.get("id") or "",
        "parameters": _json_parameters(fields),
        "outputs": [_json_tensor(_with_nan(tensor), reader) for tensor in fields["outputs"]],
    }


def _with_nan(tensor: dict[str, Any]) -> dict[str, Any]:
    """An output whose nulls, MLServer's and KServe's word for it, are not-a-number."""
    if "data" not in tensor or not tensor["datatype"].startswith("FP"):
        return tensor
    return tensor | {"data": [float("nan") if element is None else element for element in tensor["data"]]}


def _error_text(reply: dict[str, Any]) -> str:
    body = golden_v2.body(reply)
    try:
        fields = json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    problem = fields.get("error", fields.get("detail", "")) if isinstance(fields, dict) else fields
    return problem if isinstance(problem, str) else json.dumps(problem)


def _without_empty(value: Any) -> Any:
    """Metadata without what says nothing: null, empty lists, empty texts and empty objects."""
    if isinstance(value, list):
        return {"models": [_without_empty(each) for each in value]}
    kept = {key: each for key, each in value.items() if each not in (None, [], "", {})}
    for side in ("inputs", "outputs"):
        if side in kept:
            kept[side] = [_without_empty(tensor) for tensor in kept[side]]
    return kept


# --- JSON with binary tensors


def _json_and_binary(call: dict[str, Any], *, lenient: bool = False) -> tuple[dict[str, Any], bytes]:
    body = _inflated(golden_v2.body(call), golden_v2.header(call, "content-encoding"))
    length = golden_v2.header(call, "inference-header-content-length")
    if length is None:
        return _json_object(body, lenient=lenient), b""
    if not length.isdecimal() or int(length) > len(body):
        raise Unreadable("bad Inference-Header-Content-Length")
    return _json_object(body[: int(length)], lenient=lenient), body[int(length) :]


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


def _json_object(body: bytes, *, lenient: bool = False) -> dict[str, Any]:
    """The object; `lenient` lets Triton's NaN and Infinity pass, which are no JSON."""
    try:
        fields = json.loads(body, parse_constant=None if lenient else _no_constant)
    except ValueError as problem:
        raise Unreadable(str(problem)) from None
    if not isinstance(fields, dict):
        raise Unreadable("not an object")
    return fields


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class _Binary:
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


def _json_tensor(tensor: Any, reader: _Binary) -> Meaning:
    if not isinstance(tensor, dict):
        raise Unreadable("a tensor must be an object")
    _no_other(tensor, {"name", "shape", "datatype", "parameters", "data"}, "a tensor")
    shape, datatype = _shape(tensor.get("shape")), _text(tensor.get("datatype"), "datatype")
    parameters = tensor.get("parameters") or {}
    if "binary_data_size" in parameters:
        if "data" in tensor:
            raise Unreadable("data and binary data")
        raw = reader.take(parameters["binary_data_size"])
    elif isinstance(tensor.get("data"), list):
        raw = _raw(datatype, _flat(tensor["data"], shape))
    else:
        raise Unreadable("no data")
    _check_size(datatype, shape, raw)
    name = _text(tensor.get("name"), "name")
    return {"name": name, "datatype": datatype, "shape": shape, "raw": raw, "parameters": _json_parameters(tensor)}


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
    """The memory of JSON elements."""
    kind = "BYTES" if datatype == "BYTES" else NUMBERS.get(datatype, "")
    if not kind or datatype == "BF16":
        raise Unreadable(f"no JSON form of {datatype}")
    allowed = {"?": (bool,), "BYTES": (str,), "f": (int, float)}.get(kind if len(kind) != 3 else kind[1], (int,))
    if any(type(element) not in allowed for element in elements):
        raise Unreadable(f"no {datatype}")
    if datatype == "BYTES":
        return framed([_encoded(element) for element in elements])
    return _packed(kind, elements)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise Unreadable(str(problem)) from None


def _packed(kind: str, elements: list[Any]) -> bytes:
    try:
        with numpy.errstate(over="raise"):
            return numpy.array(elements, dtype=kind).tobytes()
    except (OverflowError, FloatingPointError, ValueError) as problem:
        raise Unreadable(str(problem)) from None


def framed(items: list[bytes]) -> bytes:
    """BYTES elements as raw tensor data."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def _check_size(datatype: str, shape: list[int], raw: bytes) -> None:
    count = 1
    for size in shape:
        count *= size
    if datatype == "BYTES":
        found = _count_framed(raw)
    elif datatype in NUMBERS:
        found, rest = divmod(len(raw), numpy.dtype(NUMBERS[datatype]).itemsize)
        found = -1 if rest else found
    else:
        raise Unreadable(f"datatype {datatype}")
    if found != count:
        raise Unreadable(f"{found} elements for {shape}")


def _count_framed(raw: bytes) -> int:
    position = count = 0
    while position + 4 <= len(raw):
        position += 4 + int.from_bytes(raw[position : position + 4], "little")
        count += 1
    return count if position == len(raw) else -1


def _shape(shape: Any) -> list[int]:
    if not isinstance(shape, list) or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        raise Unreadable("shape must be a list of non-negative integers")
    return shape


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{name} must be a text")
    return value


def _no_other(fields: dict[str, Any], known: set[str], what: str) -> None:
    if not fields.keys() <= known:
        raise Unreadable(f"{what} has unknown fields {sorted(fields.keys() - known)}")


def _json_parameters(holder: dict[str, Any]) -> Meaning:
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
    return {name: _typed(value) for name, value in parameters.items() if name not in BINARY_PARAMETERS}


def _typed(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value


# --- gRPC


class Messages:
    """The message classes of one runtime's own protos, in a pool of their own."""

    def __init__(self, runtime: str) -> None:
        files = descriptor_pb2.FileDescriptorSet.FromString((DESCRIPTORS / f"v2_{runtime}.binpb").read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            self._pool.Add(file)

    def parse(self, name: str, data: bytes) -> Any:
        """The message `inference.<name>`."""
        kind = message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"inference.{name}"))
        try:
            return kind.FromString(data)
        except message.DecodeError as problem:
            raise Unreadable(str(problem)) from None

    def build(self, name: str, /, **fields: Any) -> Any:
        """A new message `inference.<name>`."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"inference.{name}"))(**fields)


def of_grpc_call(call: dict[str, Any], messages: Messages) -> Meaning:
    """The meaning of a gRPC call, its message read with the protos of one runtime."""
    name = rpc_name(call)
    data = base64.b64decode(call["messages_base64"][0])
    if name in ("ServerLive", "ServerReady", "ServerMetadata"):
        return {"call": name}
    if name not in ("ModelReady", "ModelMetadata", "ModelInfer", "RepositoryIndex") and "RepositoryModel" not in name:
        raise Unrouted(name)
    request = messages.parse(f"{name}Request", data)
    if name != "RepositoryIndex" and not (getattr(request, "model_name", "") or getattr(request, "name", "")):
        raise Unreadable("REST has no empty model name")
    if name in ("ModelReady", "ModelMetadata"):
        return {"call": name, "model": request.name, "version": request.version}
    if name == "ModelInfer":
        return _grpc_infer_call(request)
    if getattr(request, "repository_name", ""):
        raise Unreadable("REST has no repository names")
    if name == "RepositoryIndex":
        return {"call": name, "ready": request.ready}
    parameters = _grpc_parameters(getattr(request, "parameters", {}))
    return {"call": name, "model": request.model_name, "parameters": parameters}


def rpc_name(call: dict[str, Any]) -> str:
    """The method of a gRPC call."""
    rpc = str(call["rpc"])
    if not rpc.startswith(SERVICE):
        raise Unrouted(rpc)
    return rpc.removeprefix(SERVICE)


def _grpc_infer_call(request: Any) -> Meaning:
    return {
        "call": "ModelInfer",
        "model": request.model_name,
        "version": request.model_version,
        "id": request.id,
        "parameters": _grpc_parameters(request.parameters),
        "inputs": _grpc_tensors(request.inputs, list(request.raw_input_contents)),
        "outputs": [{"name": each.name, "parameters": _grpc_parameters(each.parameters)} for each in request.outputs],
    }


def of_grpc_reply(reply: dict[str, Any], call: str, messages: Messages) -> Meaning:
    """The meaning of a gRPC reply to a call with this name, its message read with the protos of one runtime."""
    if reply["code"] not in ("OK", 0):
        return {"error": reply["details"], "code": reply["code"]}
    data = base64.b64decode(reply["messages_base64"][0])
    response = messages.parse(f"{call}Response", data)
    if call in ("ServerLive", "ServerReady", "ModelReady"):
        return {"reply": call, "ready": response.live if call == "ServerLive" else response.ready}
    if call.startswith("RepositoryModel"):
        return {"reply": call}
    if call == "ModelInfer":
        return _grpc_infer_reply(response)
    if call == "RepositoryIndex":
        return {"reply": call, "models": [_index_entry(model) for model in response.models]}
    return {"reply": call, **_grpc_metadata(response)}


def _grpc_infer_reply(response: Any) -> Meaning:
    return {
        "reply": "ModelInfer",
        "model": response.model_name,
        "version": response.model_version,
        "id": response.id,
        "parameters": _grpc_parameters(response.parameters),
        "outputs": _grpc_tensors(response.outputs, list(response.raw_output_contents)),
    }


def _index_entry(model: Any) -> Meaning:
    fields = {"name": model.name, "version": model.version, "reason": model.reason}
    return _plain(fields | {"state": model.state.removeprefix("State.")})


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value}


def _grpc_metadata(response: Any) -> Meaning:
    fields: dict[str, Any] = {}
    for name in ("name", "version", "platform"):
        fields[name] = getattr(response, name, "")
    for name in ("versions", "extensions"):
        fields[name] = list(getattr(response, name, []))
    for side in ("inputs", "outputs"):
        tensors = getattr(response, side, [])
        fields[side] = [_plain({"name": t.name, "datatype": t.datatype, "shape": list(t.shape)}) for t in tensors]
    if hasattr(response, "parameters"):
        fields["parameters"] = {key: value for key, (_, value) in _grpc_parameters(response.parameters).items()}
    return _plain(fields)


def _grpc_tensors(tensors: Any, raw: list[bytes]) -> list[Meaning]:
    if raw and any(tensor.contents.ListFields() for tensor in tensors):
        raise Unreadable("raw and typed contents")
    if raw and len(raw) != len(tensors):
        raise Unreadable("not one raw entry for each tensor")
    return [_grpc_tensor(tensor, raw[place] if raw else None) for place, tensor in enumerate(tensors)]


def _grpc_tensor(tensor: Any, raw: bytes | None) -> Meaning:
    shape = _shape(list(tensor.shape))
    if raw is None:
        raw = _typed_contents(tensor)
    _check_size(tensor.datatype, shape, raw)
    parameters = _grpc_parameters(tensor.parameters)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "raw": raw, "parameters": parameters}


def _typed_contents(tensor: Any) -> bytes:
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise Unreadable(f"no typed contents for {tensor.datatype}")
    if any(descriptor.name != field for descriptor, _ in tensor.contents.ListFields()):
        raise Unreadable(f"contents of {tensor.datatype} in another field")
    values = list(getattr(tensor.contents, field))
    return framed(values) if tensor.datatype == "BYTES" else _packed(NUMBERS[tensor.datatype], values)


def _grpc_parameters(parameters: Any) -> Meaning:
    plain = {}
    for name in parameters:
        choice = parameters[name].WhichOneof("parameter_choice")
        if choice is None:
            raise Unreadable(f"parameter {name} has no value this runtime knows")
        plain[name] = _typed(getattr(parameters[name], choice))
    return {name: value for name, value in plain.items() if name not in BINARY_PARAMETERS}
