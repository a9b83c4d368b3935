"""What a runtime says when all is well: "Hello", in one message or in two, in each API that the tests know."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis

WHOLE, PARTS = "Hello", ("Hel", "lo")


@dataclass(frozen=True)
class Speech:
    """An answer."""

    messages: Sequence[bytes]
    """Two of a stream, or one, framed as the API does that."""
    streams: bool = False
    mark: bytes = b""
    """Stands at the end of a stream that is complete."""


def rest(line: bytes, body: bytes) -> Speech:
    """Of a vLLM, or of a Triton."""
    if b"/infer_stream" in line:
        return Speech([b"data: %s\n\n" % _inference(text) for text in PARTS], streams=True)
    if b"/infer" in line:
        return Speech([_inference(WHOLE)])
    if b'"stream":true' not in body.replace(b" ", b""):
        return Speech([_completion(WHOLE, "stop")])
    events = [b"data: %s\n\n" % _completion(text, reason) for text, reason in zip(PARTS, (None, "stop"), strict=True)]
    return Speech(events, streams=True, mark=b"data: [DONE]\n\n")


def _completion(text: str, reason: str | None) -> bytes:
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    said = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return json.dumps({**said, **({"usage": usage} if text == WHOLE else {})}).encode()


def _inference(text: str) -> bytes:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}
    return json.dumps({"model_name": "m", "outputs": [tensor]}).encode()


def grpc(path: str) -> Speech:
    """Of a TGIS, or of a Triton."""
    method = path.rpartition("/")[2]
    return Speech([_framed(message) for message in _GRPC[method]], streams="Stream" in method)


def _response(text: str, count: int, reason: int) -> tgis.GenerationResponse:
    return tgis.GenerationResponse(text=text, generated_token_count=count, stop_reason=reason)


def _tensors(text: str) -> v2.ModelInferResponse:
    tensor = v2.ModelInferResponse_InferOutputTensor(name="text", datatype="BYTES", shape=[1])
    return v2.ModelInferResponse(model_name="m", outputs=[tensor], raw_output_contents=[bytes_tensor(text)])


def bytes_tensor(text: str) -> bytes:
    """A tensor of one string."""
    return len(text).to_bytes(4, "little") + text.encode()


_BATCH = tgis.BatchedGenerationResponse(responses=[_response(WHOLE, 2, 2)])
_GRPC: dict[str, list[Sequence[bytes | bytearray | memoryview]]] = {
    "Generate": [tgis.encode_BatchedGenerationResponse(_BATCH)],
    "GenerateStream": [
        tgis.encode_GenerationResponse(_response(PARTS[0], 1, 0)),
        tgis.encode_GenerationResponse(_response(PARTS[1], 2, 2)),
    ],
    "ModelInfer": [v2.encode_ModelInferResponse(_tensors(WHOLE))],
    "ModelStreamInfer": [
        v2.encode_ModelStreamInferResponse(v2.ModelStreamInferResponse(infer_response=_tensors(text))) for text in PARTS
    ],
}


def _framed(chunks: Sequence[bytes | bytearray | memoryview]) -> bytes:
    message = b"".join(map(bytes, chunks))
    return b"\0" + len(message).to_bytes(4) + message
