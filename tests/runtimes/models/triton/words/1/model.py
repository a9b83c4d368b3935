"""Answers a text word by word; the word "fail" is an error."""

import numpy
import triton_python_backend_utils as pb_utils


def _answer(request):
    sender = request.get_response_sender()
    text = pb_utils.get_input_tensor_by_name(request, "text_input").as_numpy().reshape(-1)[0].decode()
    for word in text.split():
        if word == "fail":
            error = pb_utils.TritonError("asked to fail: é", pb_utils.TritonError.UNAVAILABLE)
            sender.send(pb_utils.InferenceResponse(output_tensors=[], error=error))
            break
        output = pb_utils.Tensor("text_output", numpy.array([word.encode()], dtype=object))
        sender.send(pb_utils.InferenceResponse([output]))
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


class TritonPythonModel:
    """The entry point Triton's Python backend looks for."""

    def execute(self, requests):
        """Answer each request when its words are through; nothing is returned for models that stream."""
        for request in requests:
            _answer(request)
