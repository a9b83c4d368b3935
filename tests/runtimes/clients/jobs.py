"""What the client programs share: calls come in as JSON lines, results go out as JSON lines, tensors as raw bytes.

A program in this folder runs inside the environment of its client library, because these libraries cannot be imported
together (each registers the same protobuf messages under another file name). It reads calls from stdin::

    {"call": "infer", "model": "echo", "inputs": [{"name": ..., "datatype": ..., "shape": [...], "raw": base64,
     "binary": true}], "outputs": [{"name": ..., "binary": true}], "id": ..., "version": ..., "parameters": {...}}
    {"call": "model_ready", "model": "echo"}
    {"call": "stream", "requests": [inferences, each with the number of "answers" it has]}     (tritonclient_grpc)

and writes one result a line: ``{"result": ...}``, ``{"error": {"status", "message"}}`` when the server refused, or
``{"refused": message}`` when the client library itself would not make the call or could not read the answer.
Raw bytes are what the binary tensor extension carries, so a comparison of them is a comparison of every bit.
"""

import base64
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy

NUMPY_NAMES = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class ServerError(Exception):
    """The server answered with an error: its status as the client shows it, and its message."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)
        self.status = status
        self.message = message


def to_array(tensor: dict[str, Any]) -> numpy.ndarray:
    """The NumPy array a user of the client would hand it for a tensor of a call."""
    raw, datatype = base64.b64decode(tensor["raw"]), tensor["datatype"]
    if datatype == "BYTES":
        flat = numpy.array([None, *_texts(raw)], dtype=object)[1:]  # the leading None keeps it one-dimensional
    elif datatype == "BF16":
        import ml_dtypes

        flat = numpy.frombuffer(raw, ml_dtypes.bfloat16)
    else:
        flat = numpy.frombuffer(raw, NUMPY_NAMES[datatype])
    return flat.reshape(tensor["shape"])


def from_array(name: str, datatype: str, array: numpy.ndarray) -> dict[str, Any]:
    """A tensor of a result, from the NumPy array the client gave its user."""
    if datatype == "BYTES":
        texts = [item.encode() if isinstance(item, str) else bytes(item) for item in array.reshape(-1).tolist()]
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    else:
        raw = numpy.ascontiguousarray(array).tobytes()
    shape = [int(size) for size in array.shape]
    return {"name": name, "datatype": datatype, "shape": shape, "raw": base64.b64encode(raw).decode()}


def _texts(raw: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        end = position + 4 + int.from_bytes(raw[position : position + 4], "little")
        yield raw[position + 4 : end]
        position = end


def plain_parameters(parameters: Any) -> dict[str, Any]:
    """Parameters as plain values, whether the client shows JSON values or protobuf messages."""
    return {key: _plain(value) for key, value in dict(parameters or {}).items() if key != "binary_data_size"}


def _plain(value: Any) -> Any:
    kind = getattr(value, "WhichOneof", None)
    return getattr(value, kind("parameter_choice")) if kind else value


def answer(perform: Callable[[dict[str, Any]], Any]) -> None:
    """Perform every call on stdin with a blocking client."""
    for line in sys.stdin:
        try:
            outcome = {"result": perform(json.loads(line))}
        except ServerError as error:
            outcome = {"error": {"status": error.status, "message": error.message}}
        except Exception as error:
            outcome = {"refused": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


async def answer_async(perform: Callable[[dict[str, Any]], Awaitable[Any]]) -> None:
    """Perform every call on stdin with an asynchronous client."""
    for line in sys.stdin:
        try:
            outcome = {"result": await perform(json.loads(line))}
        except ServerError as error:
            outcome = {"error": {"status": error.status, "message": error.message}}
        except Exception as error:
            outcome = {"refused": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()
