"""Returns every input under the same name."""

import triton_python_backend_utils as pb_utils


def _copy(tensor):
    if tensor.name() == "BF16":  # NumPy does not know it: handed over as memory
        return pb_utils.Tensor.from_dlpack(tensor.name(), tensor.to_dlpack())
    return pb_utils.Tensor(tensor.name(), tensor.as_numpy())


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Answer each request with its own inputs."""
        return [pb_utils.InferenceResponse([_copy(tensor) for tensor in request.inputs()]) for request in requests]
