"""The demo runtimes by themselves, called with clients of other makers."""

import asyncio
import http.client
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from inferbridge.bridge.errors import BridgeError
from inferbridge.demo import models
from inferbridge.demo.grpc_runtime import GrpcRuntime
from inferbridge.demo.rest_runtime import RestRuntime
from inferbridge_generated.open_inference import wire

BOTH = (models.DOUBLE, models.ECHO)


@contextmanager
def rest(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection of the standard library's client."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        yield connection
    finally:
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: object = None) -> tuple[int, object]:
    """Status and JSON of one call."""
    connection.request(method, path, None if body is None else json.dumps(body), {"content-type": "application/json"})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


async def test_rest_runtime_answers_on_one_connection() -> None:
    """Metadata, readiness and inference work one after the other on a kept-alive connection."""

    def calls(port: int) -> list[tuple[int, object]]:
        x = {"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1.5], [2]]}
        with rest(port) as connection:
            return [
                ask(connection, "GET", "/v2/models/double/ready"),
                ask(connection, "POST", "/v2/models/double/versions/1/infer", {"id": "a", "inputs": [x]}),
                ask(connection, "GET", "/v2/health/live"),
            ]

    async with RestRuntime(BOTH).serve() as port:
        found = await asyncio.to_thread(calls, port)
    y = {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [3.0, 4.0]}
    assert found == [
        (200, {"name": "double", "ready": True}),
        (200, {"model_name": "double", "model_version": "1", "id": "a", "outputs": [y]}),
        (200, {"live": True}),
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/v2/models/none", None, 404, "model 'none' is not loaded"),
        ("GET", "/v2/models/echo/versions/7", None, 404, "model 'echo' has no version 7"),
        ("GET", "/v1/models", None, 404, "no such path: /v1/models"),
        ("GET", "/v2/models/echo/infer", None, 405, "GET is not for /v2/models/echo/infer"),
        ("POST", "/v2/models/echo/infer", {}, 400, "the body must have a list of inputs"),
        ("POST", "/v2/models/echo/infer", {"inputs": [{}]}, 400, "an input needs name, datatype, shape and data"),
        (
            "POST",
            "/v2/models/double/infer",
            {"inputs": []},
            400,
            "model double takes one input, FP32 x; got nothing",
        ),
    ],
)
def test_rest_errors(method: str, path: str, body: object, status: int, error: str) -> None:
    """What the runtime refuses has the protocol's status and error shape."""
    runtime = RestRuntime(BOTH)
    found, reply = runtime.handle(method, path, (), b"" if body is None else json.dumps(body).encode())
    assert (found, json.loads(reply)) == (status, {"error": error})
    assert runtime.memory.take().reply[0][1].startswith(str(status))


def test_malformed_json_is_an_error() -> None:
    """A body that is no JSON is a 400."""
    status, reply = RestRuntime(BOTH).handle("POST", "/v2/models/echo/infer", (), b"{")
    assert status == 400
    assert json.loads(reply)["error"].startswith("malformed JSON")


def call(port: int, method: str, message: bytes) -> bytes:
    """One unary call with grpcio."""
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        reply: bytes = stub(message, timeout=10)
        return reply


def infer_message(model: str, datatype: str, values: bytes, count: int) -> bytes:
    """A request with one input x."""
    x = wire.ModelInferRequest_InferInputTensor(name="x", datatype=datatype, shape=[count])
    request = wire.ModelInferRequest(model_name=model, id="7", inputs=[x], raw_input_contents=[values])
    return b"".join(wire.encode_ModelInferRequest(request))


async def test_grpc_runtime_answers_beyond_the_window() -> None:
    """A reply larger than the client's flow-control window arrives whole."""
    count = 400_000
    message = infer_message("double", "FP32", struct.pack("<f", 1.5) * count, count)
    async with GrpcRuntime(BOTH).serve() as port:
        reply = wire.decode_ModelInferResponse(await asyncio.to_thread(call, port, "ModelInfer", message), [])
    assert (reply.id, reply.outputs[0].shape) == ("7", [count])
    assert bytes(reply.raw_output_contents[0]) == struct.pack("<f", 3) * count


@pytest.mark.parametrize(
    ("method", "message", "code", "details"),
    [
        ("NoSuch", b"", "UNIMPLEMENTED", "no such method: /inference.GRPCInferenceService/NoSuch"),
        ("ModelReady", b"\n\4none", "NOT_FOUND", "model 'none' is not loaded"),
        ("ModelReady", b"\n\4no", "INTERNAL", "malformed message"),
        ("ModelInfer", infer_message("double", "INT32", b"1234", 1), "INVALID_ARGUMENT", "got INT32 x"),
        ("ModelInfer", infer_message("double", "FP32", b"12345", 1), "INVALID_ARGUMENT", "no whole number of FP32"),
    ],
)
async def test_grpc_errors(method: str, message: bytes, code: str, details: str) -> None:
    """What the runtime refuses has a gRPC status and a message."""
    async with GrpcRuntime(BOTH).serve() as port:
        with pytest.raises(grpc.RpcError) as caught:
            await asyncio.to_thread(call, port, method, message)
    assert caught.value.code().name == code
    assert details in caught.value.details()


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", (True, False)),
        ("INT64", (-(2**63), 2**53 + 1)),
        ("UINT64", (2**64 - 1,)),
        ("FP16", (1.5, -2.0)),
        ("BYTES", (b"", b"caf\xc3\xa9")),
    ],
)
def test_elements_survive_packing(datatype: str, values: tuple[models.Value, ...]) -> None:
    """Elements come out of their bytes as they went in."""
    assert models.unpack(datatype, models.pack(datatype, values)) == values


@pytest.mark.parametrize(
    ("datatype", "data"), [("INT32", b"123"), ("BYTES", b"\5\0\0\0a"), ("BYTES", b"\5\0"), ("X", b"")]
)
def test_broken_elements_are_refused(datatype: str, data: bytes) -> None:
    """Bytes that are no elements of the datatype are an error of the caller."""
    with pytest.raises(BridgeError):
        models.unpack(datatype, data)


def test_values_that_do_not_fit_are_refused() -> None:
    """A number beyond the datatype is an error of the caller, never cut."""
    with pytest.raises(BridgeError, match="does not fit INT8"):
        models.pack("INT8", (300,))
