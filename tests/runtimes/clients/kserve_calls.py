"""The calls of kserve's two clients, both asynchronous."""

from typing import Any

from jobs import from_array, plain_parameters, to_array
from kserve import InferInput, InferRequest, InferResponse
from kserve.protocol.infer_type import RequestedOutput


def infer_request(call: dict[str, Any]) -> InferRequest:
    """The InferRequest of a call."""
    inputs = []
    for tensor in call["inputs"]:
        entry = InferInput(tensor["name"], tensor["shape"], tensor["datatype"])
        entry.set_data_from_numpy(to_array(tensor), binary_data=tensor.get("binary", True))
        inputs.append(entry)
    outputs = [
        RequestedOutput(output["name"], {"binary_data": output["binary"]} if "binary" in output else None)
        for output in call.get("outputs", [])
    ]
    return InferRequest(
        call["model"],
        inputs,
        request_id=call.get("id"),
        parameters=call.get("parameters"),
        request_outputs=outputs or None,
        model_version=call.get("version"),
    )


def infer_answer(response: InferResponse) -> dict[str, Any]:
    """What an InferResponse holds."""
    return {
        "model": response.model_name,
        "version": response.model_version or "",
        "id": response.id,
        "parameters": plain_parameters(response.parameters),
        "outputs": [from_array(output.name, output.datatype, output.as_numpy()) for output in response.outputs],
    }
