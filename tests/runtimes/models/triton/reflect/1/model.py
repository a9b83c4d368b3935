"""Says what reached the model besides tensors."""

import json

import numpy
import triton_python_backend_utils as pb_utils


def _answer(request):
    seen = {
        "parameters": json.loads(request.parameters() or "{}"),
        "id": request.request_id(),
        "outputs": list(request.requested_output_names()),
    }
    text = json.dumps(seen).encode()
    return pb_utils.InferenceResponse([pb_utils.Tensor("SEEN", numpy.array([text], dtype=object))])


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Answer each request with a description of itself."""
        return [_answer(request) for request in requests]
