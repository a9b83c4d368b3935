"""Adds and subtracts two vectors."""

import triton_python_backend_utils as pb_utils


def _answer(request):
    left = pb_utils.get_input_tensor_by_name(request, "LEFT").as_numpy()
    right = pb_utils.get_input_tensor_by_name(request, "RIGHT").as_numpy()
    results = {"SUM": left + right, "DIFFERENCE": left - right}
    wanted = request.requested_output_names()
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, results[name]) for name in results if name in wanted])


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Answer each request with the outputs it asked for."""
        return [_answer(request) for request in requests]
