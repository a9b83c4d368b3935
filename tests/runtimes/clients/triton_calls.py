"""The calls of tritonclient, the same for its four clients: blocking or asynchronous, REST or gRPC."""

import json
from typing import Any

from jobs import ServerError, from_array, plain_parameters, to_array
from tritonclient.utils import InferenceServerException


def infer_inputs(library: Any, call: dict[str, Any], rest: bool) -> list[Any]:
    """The InferInput objects of a call."""
    inputs = []
    for tensor in call["inputs"]:
        entry = library.InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        options = {"binary_data": tensor.get("binary", True)} if rest else {}
        inputs.append(entry.set_data_from_numpy(to_array(tensor), **options))
    return inputs


def infer_outputs(library: Any, call: dict[str, Any], rest: bool) -> list[Any] | None:
    """The InferRequestedOutput objects of a call; None leaves the choice to the server."""
    if "outputs" not in call:
        return None
    return [
        library.InferRequestedOutput(output["name"], **({"binary_data": output.get("binary", True)} if rest else {}))
        for output in call["outputs"]
    ]


def infer_arguments(library: Any, call: dict[str, Any], rest: bool) -> dict[str, Any]:
    """The arguments for `infer`."""
    return {
        "model_name": call["model"],
        "inputs": infer_inputs(library, call, rest),
        "outputs": infer_outputs(library, call, rest),
        "model_version": call.get("version", ""),
        "request_id": call.get("id", ""),
        "parameters": call.get("parameters"),
        **call.get("options", {}),
    }


def rest_answer(result: Any) -> dict[str, Any]:
    """What an `InferResult` of the REST clients holds."""
    response = result.get_response()
    return {
        "model": response["model_name"],
        "version": response.get("model_version", ""),
        "id": response.get("id", ""),
        "parameters": plain_parameters(response.get("parameters")),
        "outputs": [
            from_array(output["name"], output["datatype"], result.as_numpy(output["name"]))
            for output in response["outputs"]
        ],
    }


def grpc_answer(result: Any) -> dict[str, Any]:
    """What an `InferResult` of the gRPC clients holds."""
    response = result.get_response()
    return {
        "model": response.model_name,
        "version": response.model_version,
        "id": response.id,
        "parameters": plain_parameters(response.parameters),
        "outputs": [
            from_array(output.name, output.datatype, result.as_numpy(output.name)) for output in response.outputs
        ],
    }


def plain_calls(client: Any, call: dict[str, Any], rest: bool) -> Any:
    """Start a call that is no inference; the value is awaitable when the client is asynchronous."""
    name, model, version = call["call"], call.get("model", ""), call.get("version", "")
    as_json = {} if rest else {"as_json": True}
    start = {
        "server_live": client.is_server_live,
        "server_ready": client.is_server_ready,
        "model_ready": lambda: client.is_model_ready(model, version),
        "server_metadata": lambda: client.get_server_metadata(**as_json),
        "model_metadata": lambda: client.get_model_metadata(model, version, **as_json),
        "repository_index": lambda: client.get_model_repository_index(**as_json),
        "load": lambda: client.load_model(model),
        "unload": lambda: client.unload_model(model),
    }
    return start[name]()


def raise_server_error(error: InferenceServerException) -> None:
    """Tell a refusal of the server from one of the client library, which has no status."""
    if error.status() is None:
        raise error
    raise ServerError(str(error.status()), error.message()) from None


def plain_value(value: Any) -> Any:
    """A result of `plain_calls` as JSON."""
    return json.loads(json.dumps(value))
