"""Starts KServe's model server with two models, on the loopback interface; by itself it listens on every one."""

import grpc
import numpy as np
import uvicorn
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.errors import InvalidInput
from kserve.utils.numpy_codec import from_np_dtype

HOST = "127.0.0.1"


def output(request: InferRequest, name: str, values: np.ndarray) -> InferOutput:
    """A tensor, written as the request asks for it."""
    made = InferOutput(name, list(values.shape), from_np_dtype(values.dtype))
    made.set_data_from_numpy(values, binary_data=request.use_binary_outputs)
    return made


class Served(Model):
    """A model that is ready at once."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def answer(self, request: InferRequest, outputs: list[InferOutput]) -> InferResponse:
        """The answer with these outputs."""
        return InferResponse(
            response_id=request.id or "made-up",
            model_name=self.name,
            infer_outputs=outputs,
            from_grpc=request.from_grpc,
            use_binary_outputs=request.use_binary_outputs,
            requested_outputs=request.request_outputs,
        )


class Add(Served):
    """LEFT and RIGHT to SUM and DIFFERENCE."""

    def predict(self, request: InferRequest, headers: object = None, response_headers: object = None) -> InferResponse:
        left, right = (request.get_input_by_name(name) for name in ("LEFT", "RIGHT"))
        if left is None or right is None:
            raise InvalidInput("LEFT and RIGHT are needed")
        one, other = left.as_numpy(), right.as_numpy()
        return self.answer(request, [output(request, "SUM", one + other), output(request, "DIFFERENCE", one - other)])


class Echo(Served):
    """Every input under its own name."""

    def predict(self, request: InferRequest, headers: object = None, response_headers: object = None) -> InferResponse:
        return self.answer(request, [output(request, each.name, each.as_numpy()) for each in request.inputs])


class LoopbackConfig(uvicorn.Config):
    """The REST side's settings."""

    def __init__(self, *arguments: object, **settings: object) -> None:
        super().__init__(*arguments, **{**settings, "host": HOST})


def loopback_server(*arguments: object, **settings: object) -> grpc.aio.Server:
    """The gRPC side."""
    server = make_server(*arguments, **settings)
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda address: add_port(f"{HOST}:{address.rpartition(':')[2]}")
    return server


make_server = grpc.aio.server
uvicorn.Config = LoopbackConfig
grpc.aio.server = loopback_server

if __name__ == "__main__":
    ModelServer(enable_latency_logging=False).start([Add("add"), Echo("echo")])
