"""Returns its input; exists to be loaded and unloaded."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Answer each request with its input."""
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT", pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy())]
            )
            for request in requests
        ]
