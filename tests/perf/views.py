"""Prints what it costs to show a tensor of 100 MB, in wall milliseconds and bytes of text, for each form it may have.

Run with `PYTHONPATH=proxy:generated:tests python tests/perf/views.py`. Exits 1 for more than 200 ms or 64 KiB.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
from google.protobuf.message_factory import GetMessageClass

from inferbridge.inspect.page import Budget, Page
from inferbridge.inspect.tensor_places import body_tensors, message_tensors
from inferbridge.inspect.tensors import Tensor, tensor_lines
from inferbridge.protos import methods

SIZE = 100 * 1024 * 1024
MOST_MS, MOST_BYTES = 200.0, 64 * 1024
METHOD = methods("open-inference").find("/inference.GRPCInferenceService/ModelInfer")
NUMPY = {"FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "INT64": "<i8", "UINT8": "u1"}


def raw_request(datatype: str) -> memoryview:
    """A ModelInferRequest with one tensor in raw contents."""
    values = np.random.default_rng(1).normal(size=SIZE // np.dtype(NUMPY[datatype]).itemsize) * 100
    message = GetMessageClass(METHOD.input_type)(raw_input_contents=[values.astype(NUMPY[datatype]).tobytes()])
    message.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    return memoryview(message.SerializeToString())


def packed_request() -> memoryview:
    """The same with varints in `int64_contents`."""
    message = GetMessageClass(METHOD.input_type)()
    tensor = message.inputs.add(name="x", datatype="INT64", shape=[SIZE // 4])
    tensor.contents.int64_contents.extend(range(1 << 21, (1 << 21) + SIZE // 4))
    return memoryview(message.SerializeToString())


def json_body() -> bytes:
    """A REST body with one array of numbers."""
    count = SIZE // 9
    numbers = b",".join([b"0.123456"] * count)
    return b'{"inputs":[{"name":"x","shape":[%d],"datatype":"FP32","data":[%s]}]}' % (count, numbers)


def in_message(wire: memoryview) -> list[Tensor]:
    """The tensors of a request."""
    return message_tensors(wire, METHOD.input_type, Budget())


def report(what: str, find: Callable[[], list[Tensor] | None]) -> bool:
    """Print the best of five, and the size of the text; whether it is too much."""
    best, page = float("inf"), Page()
    for _ in range(5):
        page = Page()
        started = time.perf_counter()
        page.add_all(tensor_lines(find() or []))
        text = page.text()
        best = min(best, time.perf_counter() - started)
    size = len(text.encode())
    sys.stdout.write(f"{what:<24} {best * 1e3:>6.1f} ms {size:>6} bytes of text\n")
    return best * 1e3 > MOST_MS or size > MOST_BYTES


def main() -> None:
    """One line for each form."""
    too_much = [report(f"raw contents, {name}", partial(in_message, raw_request(name))) for name in NUMPY]
    too_much.append(report("int64_contents", partial(in_message, packed_request())))
    too_much.append(report("JSON, FP32", partial(body_tensors, json_body())))
    sys.exit(any(too_much))


if __name__ == "__main__":
    main()
