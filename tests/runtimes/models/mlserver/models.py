"""The models MLServer serves in the tests: what their Triton namesakes do, without codecs in the way of the data."""

import json
from collections.abc import AsyncIterator

import numpy
from mlserver import MLModel
from mlserver.errors import MLServerError
from mlserver.types import InferenceRequest, InferenceResponse, Parameters, ResponseOutput


class _Model(MLModel):
    def answer(self, *outputs: ResponseOutput, **fields: object) -> InferenceResponse:
        """A response in this model's name."""
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=list(outputs), **fields)


class Echo(_Model):
    """Returns every input under the same name, its data untouched."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with the inputs."""
        return self.answer(
            *(ResponseOutput(name=x.name, shape=x.shape, datatype=x.datatype, data=x.data) for x in payload.inputs)
        )


class Words(_Model):
    """Answers a text word by word; the word "fail" is an error."""

    async def predict_stream(self, payloads: AsyncIterator[InferenceRequest]) -> AsyncIterator[InferenceResponse]:
        """Answer each request when it comes."""
        async for payload in payloads:
            for word in _text(payload.inputs[0].data).split():
                if word == "fail":
                    raise MLServerError("asked to fail: é", 422)
                yield self.answer(ResponseOutput(name="text_output", shape=[1], datatype="BYTES", data=[word]))


class Late(_Model):
    """Returns its input; exists to be loaded and unloaded."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with the input."""
        given = payload.inputs[0]
        return self.answer(ResponseOutput(name="OUTPUT", shape=given.shape, datatype=given.datatype, data=given.data))


def _floats(data: object) -> numpy.ndarray:
    """The numbers of an FP32 input, which arrives as bytes or as a list."""
    data = getattr(data, "root", data)
    return numpy.frombuffer(data, "<f4") if isinstance(data, bytes) else numpy.array(data, "<f4").reshape(-1)


class Add(_Model):
    """Adds and subtracts two vectors of three; MLServer leaves checking shapes and outputs to its models."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with the outputs that were asked for."""
        given = {tensor.name: tensor for tensor in payload.inputs}
        for name in ("LEFT", "RIGHT"):
            if name not in given or list(given[name].shape) != [3]:
                raise MLServerError(f"input {name} must have the shape [3]", 400)
        left, right = _floats(given["LEFT"].data), _floats(given["RIGHT"].data)
        results = {"SUM": left + right, "DIFFERENCE": left - right}
        wanted = [output.name for output in payload.outputs or []] or list(results)
        return self.answer(*(_vector(name, results[name]) for name in results if name in wanted))


def _vector(name: str, numbers: numpy.ndarray) -> ResponseOutput:
    return ResponseOutput(name=name, shape=[3], datatype="FP32", data=numbers.tolist())


def _text(data: object) -> str:
    data = getattr(data, "root", data)
    if isinstance(data, bytes):  # raw tensor: a length of four bytes, then the text
        return data[4:].decode()
    return data[0].decode() if isinstance(data[0], bytes) else data[0]


class Fail(_Model):
    """Fails with the HTTP status it is given."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Fail."""
        code = _text(payload.inputs[0].data)
        if code.isdigit():
            raise MLServerError(f"asked to fail: {code} é", int(code))
        raise ValueError(f"asked to fail: {code} é")


class Reflect(_Model):
    """Says what reached the model besides tensors, and answers with parameters of its own."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer with a description of the request."""
        parameters = payload.parameters.model_dump() if payload.parameters else {}
        seen = {
            "parameters": {key: value for key, value in parameters.items() if value is not None and key != "headers"},
            "id": payload.id,
            "outputs": [output.name for output in payload.outputs or []],
        }
        output = ResponseOutput(name="SEEN", shape=[1], datatype="BYTES", data=[json.dumps(seen)])
        return self.answer(output, parameters=Parameters(flag=True, count=7, big=2**53 + 1, text="é"))
