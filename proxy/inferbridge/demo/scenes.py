"""The calls of the tour: what the client says, and what the answer has to be."""

import json
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from inferbridge.bridge.values import Headers
from inferbridge.demo.client import Got

TEXT = "To be or not to be"
_BINARY = struct.pack("<4f", 1.5, 2, 3, 4)
_X = {"name": "x", "shape": [2, 2], "datatype": "FP32"}
_NUMBERS = struct.pack("<2q", 2**53 + 1, -1)
_WORDS = b"\x05\0\0\0caf\xc3\xa9" + b'\x08\0\0\0"quoted"'


@dataclass(frozen=True, slots=True)
class Scene:
    """One call."""

    title: str
    endpoint: str
    """As `API/endpoint`."""
    protocol: str
    """What the client speaks."""
    runtime: str
    """Who answers in the end; empty: nobody."""
    data: Mapping[str, Any] | None
    right: Callable[[Got], bool]
    path: Mapping[str, str] = field(default_factory=dict)
    """Variables of the path."""
    tail: bytes = b""
    """Tensors behind the JSON."""

    @property
    def body(self) -> bytes | None:
        """What is sent."""
        return None if self.data is None else json.dumps(self.data).encode() + self.tail

    @property
    def headers(self) -> Headers:
        """What tells where the JSON ends."""
        if not self.tail or self.body is None:
            return ()
        length = len(self.body) - len(self.tail)
        return (("content-type", "application/octet-stream"), ("inference-header-content-length", str(length)))


def _values(got: Got) -> list[Any]:
    return [json.loads(message) for message in got.messages if message.startswith(b"{")]


def _chat_text(got: Got) -> str:
    choices = [choice for chunk in _values(got) for choice in chunk["choices"]]
    return "".join(choice.get("delta", {}).get("content") or "" for choice in choices)


def _outputs(got: Got) -> Any:
    return _values(got)[0]["outputs"][0]["data"]


def _raw(got: Got) -> Any:
    return _values(got)[0]["raw_output_contents"]


def _base64(*tensors: bytes) -> list[str]:
    return [b64encode(tensor).decode() for tensor in tensors]


SCENES = (
    Scene(
        "OpenAI client → TGIS over gRPC: a chat, streamed",
        "openai/chat",
        "rest",
        "tgis",
        {"model": "poet-tgis", "stream": True, "messages": [{"role": "user", "content": TEXT}]},
        lambda got: _chat_text(got) == TEXT and got.messages[-1] == b"[DONE]",
    ),
    Scene(
        "OpenAI client → TGIS over gRPC: a field that TGIS does not know",
        "openai/completions",
        "rest",
        "",
        {"model": "poet-tgis", "prompt": TEXT, "logit_bias": {"50256": -100}},
        lambda got: got.status == 400 and got.outcome is not None and "logit_bias" in got.outcome.details,
    ),
    Scene(
        "TGIS client → vLLM over REST: text, streamed",
        "tgis/generate_stream",
        "grpc",
        "vllm-nvidia",
        {"model_id": "poet-vllm", "request": {"text": TEXT}, "params": {"stopping": {"max_new_tokens": 4}}},
        lambda got: (
            "".join(message.get("text", "") for message in _values(got)) == "To be or not"
            and _values(got)[-1]["stop_reason"] == "MAX_TOKENS"
        ),
    ),
    Scene(
        "Caikit client, REST → Caikit over gRPC: text",
        "caikit/text_generation",
        "rest",
        "caikit-tgis",
        {"inputs": TEXT, "model_id": "poet-caikit", "parameters": {"max_new_tokens": 20}},
        lambda got: _values(got)[0]["generated_text"] == TEXT,
    ),
    Scene(
        "V2 client, REST → Triton over gRPC: what does the model take?",
        "open-inference/model_metadata",
        "rest",
        "triton",
        None,
        lambda got: _values(got)[0]["inputs"][0]["name"] == "x",
        path={"model": "echo-grpc"},
    ),
    Scene(
        "V2 client, REST → Triton over gRPC: tensors as JSON",
        "open-inference/infer",
        "rest",
        "triton",
        {"id": "tour-1", "inputs": [{**_X, "data": [[1.5, 2], [3, 4]]}]},
        lambda got: _outputs(got) == [1.5, 2, 3, 4],
        path={"model": "echo-grpc"},
    ),
    Scene(
        "V2 client, REST → Triton over gRPC: tensors as bytes behind the JSON, which travel untouched",
        "open-inference/infer",
        "rest",
        "triton",
        {
            "id": "tour-2",
            "inputs": [{**_X, "parameters": {"binary_data_size": len(_BINARY)}}],
            "outputs": [{"name": "x", "parameters": {"binary_data": True}}],
        },
        lambda got: got.messages[0].endswith(_BINARY),
        path={"model": "echo-grpc"},
        tail=_BINARY,
    ),
    Scene(
        "V2 client, gRPC → MLServer over REST: 64-bit integers and text stay exact",
        "open-inference/infer",
        "grpc",
        "mlserver",
        {
            "model_name": "echo-rest",
            "id": "tour-3",
            "inputs": [
                {"name": "number", "datatype": "INT64", "shape": [2]},
                {"name": "text", "datatype": "BYTES", "shape": [2]},
            ],
            "raw_input_contents": _base64(_NUMBERS, _WORDS),
        },
        lambda got: _raw(got) == _base64(_NUMBERS, _WORDS),
    ),
)
