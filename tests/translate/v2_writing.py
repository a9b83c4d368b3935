"""Open Inference calls written from their meaning, where a test needs the call that a recorded reply answers."""

import base64
import json
from typing import Any

from translate.v2_grpc import SERVICE, Messages
from translate.v2_meaning import Meaning

GET_PATHS = {"ServerLive": "/v2/health/live", "ServerReady": "/v2/health/ready", "ServerMetadata": "/v2"}


def rest_call(meaning: Meaning) -> dict[str, Any]:
    """The meaning as a REST call; tensors go as binary data and are asked for as binary data."""
    name = meaning["call"]
    if name in GET_PATHS:
        return {"method": "GET", "path": GET_PATHS[name], "headers": []}
    if name == "RepositoryIndex":
        return _post("/v2/repository/index", {"ready": meaning["ready"]})
    if name.startswith("RepositoryModel"):
        change = name.removeprefix("RepositoryModel").lower()
        return _post(f"/v2/repository/models/{meaning['model']}/{change}", {})
    path = f"/v2/models/{meaning['model']}" + (f"/versions/{meaning['version']}" if meaning["version"] else "")
    if name == "ModelInfer":
        return _rest_infer(f"{path}/infer", meaning)
    return {"method": "GET", "path": path + ("/ready" if name == "ModelReady" else ""), "headers": []}


def _post(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "method": "POST",
        "path": path,
        "headers": [["Content-Type", "application/json"]],
        "body": json.dumps(fields),
    }


def _rest_infer(path: str, meaning: Meaning) -> dict[str, Any]:
    fields = {
        "id": meaning["id"],
        "parameters": plain(meaning["parameters"]) | {"binary_data_output": True},
        "inputs": [rest_tensor(tensor) for tensor in meaning["inputs"]],
    }
    if meaning["outputs"]:
        fields["outputs"] = [
            {"name": each["name"], "parameters": plain(each["parameters"])} for each in meaning["outputs"]
        ]
    head = json.dumps(fields).encode()
    body = head + b"".join(tensor["raw"] for tensor in meaning["inputs"])
    headers = [["Content-Type", "application/octet-stream"], ["Inference-Header-Content-Length", str(len(head))]]
    return {"method": "POST", "path": path, "headers": headers, "body_base64": base64.b64encode(body).decode()}


def rest_tensor(tensor: Meaning) -> dict[str, Any]:
    """A tensor of the JSON part, its data to follow as binary data."""
    parameters = plain(tensor["parameters"]) | {"binary_data_size": len(tensor["raw"])}
    return {key: tensor[key] for key in ("name", "datatype", "shape")} | {"parameters": parameters}


def plain(parameters: Meaning) -> dict[str, Any]:
    """Parameters without their types."""
    return {name: value for name, (_, value) in parameters.items()}


def grpc_call(meaning: Meaning, messages: Messages) -> dict[str, Any]:
    """The meaning as a gRPC call; tensors go as raw contents."""
    name = meaning["call"]
    if name.startswith("Server"):
        fields: dict[str, Any] = {}
    elif name == "ModelInfer":
        fields = _grpc_infer(meaning)
    elif name == "RepositoryIndex":
        fields = {"ready": meaning["ready"]}
    elif name.startswith("RepositoryModel"):
        fields = {"model_name": meaning["model"]}
    else:
        fields = {"name": meaning["model"], "version": meaning["version"]}
    data = messages.build(f"{name}Request", **fields).SerializeToString()
    return {"rpc": SERVICE + name, "metadata": [], "messages_base64": [base64.b64encode(data).decode()]}


def _grpc_infer(meaning: Meaning) -> dict[str, Any]:
    return {
        "model_name": meaning["model"],
        "model_version": meaning["version"],
        "id": meaning["id"],
        "parameters": grpc_parameters(meaning["parameters"]),
        "inputs": [grpc_tensor(tensor) for tensor in meaning["inputs"]],
        "outputs": [
            {"name": each["name"], "parameters": grpc_parameters(each["parameters"])} for each in meaning["outputs"]
        ],
        "raw_input_contents": [tensor["raw"] for tensor in meaning["inputs"]],
    }


def grpc_tensor(tensor: Meaning) -> dict[str, Any]:
    """A tensor of a message, its data in the raw contents."""
    fields = {key: tensor[key] for key in ("name", "datatype", "shape")}
    return fields | {"parameters": grpc_parameters(tensor["parameters"])}


def grpc_parameters(parameters: Meaning) -> dict[str, dict[str, Any]]:
    """Parameters as InferParameter fields."""
    fields = {"bool": "bool_param", "str": "string_param", "float": "double_param"}
    return {
        name: {fields.get(kind) or ("int64_param" if value < 2**63 else "uint64_param"): value}
        for name, (kind, value) in parameters.items()
    }
