"""The calls of the load: each a function that makes one and raises `Unexpected` unless it ends as it must."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc.aio
import numpy as np

from inferbridge.bridge.values import Chunks
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis
from soak.http1 import Connection

TIMEOUT = 60
"""Seconds after which a call has hung."""
WORDS = "to be or not to be that is the question"
_NUMBERS = [1.5, 2.0, 3.0, 4.0]
_TENSOR = {"name": "x", "shape": [4], "datatype": "FP32", "data": _NUMBERS}
_OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class Unexpected(AssertionError):
    """A call did not end as it must."""


@dataclass
class Worker:
    """One client of either protocol, with connections of its own."""

    port: int
    key: str

    def connect(self) -> None:
        """Begin with new connections."""
        self.http = Connection(self.port)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=_OPTIONS)

    async def close(self) -> None:
        """Leave."""
        await self.http.close()
        await self.channel.close()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Who it is."""
        return (("authorization", f"Bearer {self.key}"),)


def _expect(is_right: bool, seen: object) -> None:
    if not is_right:
        raise Unexpected(repr(seen)[:300])


def _bytes(chunks: Chunks) -> bytes:
    return b"".join(map(bytes, chunks))


async def _post(worker: Worker, target: str, body: bytes, key: str = "") -> tuple[int, bytes]:
    status = await worker.http.send(target, key or worker.key, body)
    return status, await worker.http.whole()


def v2_rest(model: str) -> "Call":
    """A V2 inference over REST."""
    body = json.dumps({"inputs": [_TENSOR]}).encode()

    async def call(worker: Worker) -> None:
        status, answer = await _post(worker, f"/v2/models/{model}/infer", body)
        _expect(status == 200 and json.loads(answer)["outputs"][0]["data"] == _NUMBERS, (status, answer))

    return call


def v2_grpc(model: str) -> "Call":
    """A V2 inference over gRPC."""
    raw = np.array(_NUMBERS, "<f4").tobytes()
    tensor = v2.ModelInferRequest_InferInputTensor(name="x", datatype="FP32", shape=[4])
    asked = v2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw])
    body = _bytes(v2.encode_ModelInferRequest(asked))

    async def call(worker: Worker) -> None:
        method = worker.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer = v2.decode_ModelInferResponse(await method(body, metadata=worker.metadata, timeout=TIMEOUT), [])
        _expect(list(map(bytes, answer.raw_output_contents)) == [raw], answer)

    return call


def events(target: str, model: str) -> "Call":
    """A stream of OpenAI's API, to its mark of success."""
    asked = {"messages": [{"role": "user", "content": WORDS}]} if "chat" in target else {"prompt": WORDS}
    body = json.dumps({"model": model, "stream": True, "max_tokens": 20, **asked}).encode()

    async def call(worker: Worker) -> None:
        status, answer = await _post(worker, target, body)
        _expect(status == 200 and answer.endswith(b"data: [DONE]\n\n") and b"question" in answer, (status, answer))

    return call


def _single(model: str) -> bytes:
    params = tgis.Parameters(stopping=tgis.StoppingCriteria(max_new_tokens=20))
    asked = tgis.SingleGenerationRequest(model_id=model, request=tgis.GenerationRequest(text=WORDS), params=params)
    return _bytes(tgis.encode_SingleGenerationRequest(asked))


def tgis_stream(model: str) -> "Call":
    """A stream of TGIS."""
    body = _single(model)

    async def call(worker: Worker) -> None:
        method = worker.channel.unary_stream("/fmaas.GenerationService/GenerateStream")
        text = ""
        async for message in method(body, metadata=worker.metadata, timeout=TIMEOUT):
            text += tgis.decode_GenerationResponse(message, []).text
        _expect(text == WORDS, text)

    return call


def tgis_unary(model: str) -> "Call":
    """A batch of two of TGIS."""
    texts = [tgis.GenerationRequest(text=WORDS)] * 2
    params = tgis.Parameters(stopping=tgis.StoppingCriteria(max_new_tokens=20))
    asked = tgis.BatchedGenerationRequest(model_id=model, requests=texts, params=params)
    body = _bytes(tgis.encode_BatchedGenerationRequest(asked))

    async def call(worker: Worker) -> None:
        method = worker.channel.unary_unary("/fmaas.GenerationService/Generate")
        answer = await method(body, metadata=worker.metadata, timeout=TIMEOUT)
        found = tgis.decode_BatchedGenerationResponse(answer, [])
        _expect([one.text for one in found.responses] == [WORDS, WORDS], found)

    return call


def left_rest(model: str) -> "Call":
    """A REST client that leaves in the middle of a stream."""
    body = json.dumps({"model": model, "prompt": WORDS, "stream": True, "max_tokens": 20}).encode()

    async def call(worker: Worker) -> None:
        status = await worker.http.send("/v1/completions", worker.key, body)
        async for piece in worker.http.pieces():
            _expect(status == 200 and piece.startswith(b"data: {"), (status, piece))
            break
        await worker.http.close()

    return call


def left_grpc(model: str) -> "Call":
    """A gRPC client that cancels in the middle of a stream."""
    body = _single(model)

    async def call(worker: Worker) -> None:
        method = worker.channel.unary_stream("/fmaas.GenerationService/GenerateStream")
        stream = method(body, metadata=worker.metadata, timeout=TIMEOUT)
        async for message in stream:
            _expect(bool(message), message)
            break
        stream.cancel()
        _expect(await stream.code() is grpc.StatusCode.CANCELLED, "not cancelled")

    return call


def refused_rest(status: int, target: str, body: bytes, key: str = "") -> "Call":
    """A REST call that is to be refused with this status."""

    async def call(worker: Worker) -> None:
        got, answer = await _post(worker, target, body, key)
        _expect(got == status and b"error" in answer, (got, answer))

    return call


def refused_grpc(code: grpc.StatusCode, body: bytes, key: str = "") -> "Call":
    """A gRPC call that is to be refused with this code."""

    async def call(worker: Worker) -> None:
        metadata = (("authorization", f"Bearer {key or worker.key}"),)
        method = worker.channel.unary_unary("/fmaas.GenerationService/Generate")
        seen = method(body, metadata=metadata, timeout=TIMEOUT)
        got = await seen.code()
        _expect(got is code, (got, await seen.details()))

    return call


type Call = Callable[[Worker], Awaitable[None]]

MIX: dict[str, tuple[int, Call]] = {
    "V2 REST, to gRPC": (20, v2_rest("echo-grpc")),
    "V2 REST, passed through": (12, v2_rest("echo-rest")),
    "V2 gRPC, to REST": (12, v2_grpc("echo-rest")),
    "V2 gRPC, passed through": (8, v2_grpc("echo-grpc")),
    "chat events, passed through": (5, events("/v1/chat/completions", "poet-rest")),
    "completion events, from gRPC": (6, events("/v1/completions", "poet-grpc")),
    "TGIS stream, from events": (5, tgis_stream("poet-rest")),
    "TGIS stream, passed through": (5, tgis_stream("poet-grpc")),
    "slow events, from gRPC": (5, events("/v1/completions", "slow-grpc")),
    "TGIS batch, to REST": (3, tgis_unary("poet-rest")),
    "left: events, from gRPC": (3, left_rest("slow-grpc")),
    "left: TGIS stream, from events": (3, left_grpc("slow-rest")),
    "bad JSON": (4, refused_rest(400, "/v2/models/echo-grpc/infer", b'{"inputs": [')),
    "no such model": (3, refused_rest(404, "/v1/completions", b'{"model": "none", "prompt": "a"}')),
    "bad protobuf": (3, refused_grpc(grpc.StatusCode.INVALID_ARGUMENT, b"\xff\xff\xff")),
    "refused key, REST": (2, refused_rest(401, "/v1/completions", b"{}", "wrong")),
    "refused key, gRPC": (1, refused_grpc(grpc.StatusCode.UNAUTHENTICATED, b"", "wrong")),
}
"""Of a hundred calls so many are of each kind."""
