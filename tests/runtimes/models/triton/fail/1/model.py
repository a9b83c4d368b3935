"""Fails with the error code it is given."""

import triton_python_backend_utils as pb_utils


def _answer(request):
    code = pb_utils.get_input_tensor_by_name(request, "CODE").as_numpy()[0].decode()
    error = pb_utils.TritonError(f"asked to fail: {code} é", getattr(pb_utils.TritonError, code))
    return pb_utils.InferenceResponse(output_tensors=[], error=error)


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Fail every request."""
        return [_answer(request) for request in requests]
