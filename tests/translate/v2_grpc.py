"""What gRPC calls and replies of the Open Inference protocol mean, read with the protos of one runtime."""

import base64
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from translate.v2_meaning import (
    BINARY_PARAMETERS,
    NUMBERS,
    Meaning,
    Unreadable,
    Unrouted,
    check_size,
    checked_shape,
    framed,
    packed,
    typed,
)

DESCRIPTORS = Path(__file__).parents[1] / "golden" / "descriptors"
SERVICE = "/inference.GRPCInferenceService/"
CODE_NAMES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)
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
    if reply["code"]:
        return {"error": reply["details"], "code": CODE_NAMES[reply["code"]]}
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
    shape = checked_shape(list(tensor.shape))
    if raw is None:
        raw = _typed_contents(tensor)
    check_size(tensor.datatype, shape, raw)
    parameters = _grpc_parameters(tensor.parameters)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "raw": raw, "parameters": parameters}


def _typed_contents(tensor: Any) -> bytes:
    field = CONTENTS.get(tensor.datatype)
    if field is None:
        raise Unreadable(f"no typed contents for {tensor.datatype}")
    if any(descriptor.name != field for descriptor, _ in tensor.contents.ListFields()):
        raise Unreadable(f"contents of {tensor.datatype} in another field")
    values = list(getattr(tensor.contents, field))
    return framed(values) if tensor.datatype == "BYTES" else packed(NUMBERS[tensor.datatype], values)


def _grpc_parameters(parameters: Any) -> Meaning:
    plain = {}
    for name in parameters:
        choice = parameters[name].WhichOneof("parameter_choice")
        if choice is None:
            raise Unreadable(f"parameter {name} has no value this runtime knows")
        plain[name] = typed(getattr(parameters[name], choice))
    return {name: value for name, value in plain.items() if name not in BINARY_PARAMETERS}
