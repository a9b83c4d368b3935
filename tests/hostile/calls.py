"""One call of a client over a socket of its own: how it begins, how the client leaves it, and how it ends."""

import contextlib
import json
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.errors
import h2.events

from hostile.quiet import NO_LINGER
from inferbridge.bridge.framing import frame
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.tgis import wire as tgis

type Field = tuple[str, str]


class Call(ABC):
    """One call."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    @abstractmethod
    def first(self) -> None:
        """Wait for the first message of a stream."""

    @abstractmethod
    def outcome(self) -> str:
        """How the call has ended, once it has."""

    def leave(self, how: str) -> None:
        """End the connection by FIN of both halves (`close`) or of ours, by RST, or by TLS's `close_notify`."""
        if how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        if how == "half close":
            self.socket.shutdown(socket.SHUT_WR)
        elif how == "close_notify":
            assert isinstance(self.socket, ssl.SSLSocket)
            with contextlib.suppress(OSError):
                self.socket.unwrap()
        else:
            self.socket.close()


class HttpCall(Call):
    """In HTTP/1.1."""

    def __init__(self, connected: socket.socket, path: str, body: bytes, *fields: Field) -> None:
        super().__init__(connected)
        ours = (("Host", "a"), ("Content-Length", str(len(body))), ("Content-Type", "application/json"))
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (*ours, *fields)), "", ""]
        connected.sendall("\r\n".join(lines).encode() + body)
        self._seen = b""

    def first(self) -> None:
        """An event."""
        while b"data: " not in self._seen:
            piece = self.socket.recv(1 << 16)
            assert piece, self._seen
            self._seen += piece

    def outcome(self) -> str:
        """The status, or `error event` at the end of a stream, or `cut`."""
        while not self._is_whole():
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return "cut"
            self._seen += piece
        if b"text/event-stream" in self._seen:
            return "error event" if b'"error":' in self._seen else "end"
        return self._seen.split(b" ", 2)[1].decode()

    def _is_whole(self) -> bool:
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length: ")]
        return bool(found) and len(body) >= int(lengths[0].split(b" ")[1])


class GrpcCall(Call):
    """In HTTP/2; `message` is the request, after which more may follow if it is not `whole`."""

    def __init__(self, connected: socket.socket, path: str, message: bytes, *fields: Field, whole: bool = True) -> None:
        super().__init__(connected)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self._h2.initiate_connection()
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", path), ("te", "trailers")]
        self._h2.send_headers(1, [*head, ("content-type", "application/grpc"), *fields])
        self._h2.send_data(1, b"".join(frame(((message,),))), end_stream=whole)
        connected.sendall(self._h2.data_to_send())

    def first(self) -> None:
        """A message."""
        while not any(isinstance(event, h2.events.DataReceived) for event in self._events()):
            pass

    def outcome(self) -> str:
        """The status, or `closed`."""
        while events := self._events():
            for event in events:
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found = dict(event.headers).get("grpc-status")
                    if found is not None:
                        return str(found)
        return "closed"

    def _events(self) -> list[h2.events.Event]:
        """What comes next; nothing is the end of the connection."""
        while data := self.socket.recv(1 << 16):
            events = self._h2.receive_data(data)
            self.socket.sendall(self._h2.data_to_send())
            if events:
                return events
        return []

    def leave(self, how: str) -> None:
        """As any call, or by `RST_STREAM`."""
        if how == "RST_STREAM":
            self._h2.reset_stream(1, h2.errors.ErrorCodes.CANCEL)
            self.socket.sendall(self._h2.data_to_send())
        else:
            super().leave(how)


@dataclass(frozen=True)
class Asked:
    """What a call asks."""

    model: str
    path: str
    body: bytes
    grpc: bool = False
    streams: bool = False
    """Something has come when the runtime falls silent."""
    whole: bool = True

    def begin(self, connected: socket.socket, *fields: Field) -> Call:
        """Ask, with these headers besides."""
        if self.grpc:
            return GrpcCall(connected, self.path, self.body, *fields, whole=self.whole)
        return HttpCall(connected, self.path, self.body, *fields)


def best(seconds: float, attempt: Callable[[], float], attempts: int = 5) -> float:
    """The shortest of a few attempts, of which one that takes no longer than `seconds` is the last.

    Other processes may take this machine's processors at any moment, so that one attempt says little.
    """
    took = attempt()
    while took > seconds and attempts > 1:
        attempts -= 1
        took = min(took, attempt())
    return took


INFER_JSON = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[1]}]}'
_TEXT = tgis.GenerationRequest(text="a")


def _completion(model: str) -> bytes:
    return json.dumps({"model": model, "prompt": "a", "stream": True, "max_tokens": 5}).encode()


def _connect(model: str) -> bytes:
    return json.dumps({"modelId": model, "requests": [{"text": "a"}]}).encode()


def _generate(model: str) -> bytes:
    asked = tgis.BatchedGenerationRequest(model_id=model, requests=[_TEXT])
    return b"".join(map(bytes, tgis.encode_BatchedGenerationRequest(asked)))


def _generate_stream(model: str) -> bytes:
    asked = tgis.SingleGenerationRequest(model_id=model, request=_TEXT)
    return b"".join(map(bytes, tgis.encode_SingleGenerationRequest(asked)))


def _infer(model: str) -> bytes:
    tensor = v2.ModelInferRequest_InferInputTensor(name="x", datatype="FP32", shape=[1])
    asked = v2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[b"\0\0\0\0"])
    return b"".join(map(bytes, v2.encode_ModelInferRequest(asked)))


GENERATE = "/fmaas.GenerationService/Generate"
GENERATE_STREAM = "/fmaas.GenerationService/GenerateStream"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


REST_TEXT, GRPC_TEXT, REST_TENSORS, GRPC_TENSORS = "rest-text", "grpc-text", "rest-tensors", "grpc-tensors"
"""Models, by the protocol and the kind of their runtime."""
CALLS = {
    "infer": Asked(REST_TENSORS, f"/v2/models/{REST_TENSORS}/infer", INFER_JSON),
    "infer, translated": Asked(GRPC_TENSORS, f"/v2/models/{GRPC_TENSORS}/infer", INFER_JSON),
    "events": Asked(REST_TEXT, "/v1/completions", _completion(REST_TEXT), streams=True),
    "events, translated": Asked(GRPC_TEXT, "/v1/completions", _completion(GRPC_TEXT), streams=True),
    "Connect": Asked(GRPC_TEXT, GENERATE, _connect(GRPC_TEXT)),
    "Generate": Asked(GRPC_TEXT, GENERATE, _generate(GRPC_TEXT), grpc=True),
    "GenerateStream": Asked(GRPC_TEXT, GENERATE_STREAM, _generate_stream(GRPC_TEXT), grpc=True, streams=True),
    "GenerateStream, translated": Asked(
        REST_TEXT, GENERATE_STREAM, _generate_stream(REST_TEXT), grpc=True, streams=True
    ),
    "ModelInfer": Asked(GRPC_TENSORS, INFER, _infer(GRPC_TENSORS), grpc=True),
    "ModelInfer, translated": Asked(REST_TENSORS, INFER, _infer(REST_TENSORS), grpc=True),
    "ModelStreamInfer": Asked(GRPC_TENSORS, STREAM_INFER, _infer(GRPC_TENSORS), grpc=True, streams=True, whole=False),
}
"""Calls of every kind."""


def upstreams(rest: int, grpc: int) -> str:
    """Configuration of the runtimes on these ports."""
    places = (
        (REST_TEXT, "vllm-nvidia", f"http://127.0.0.1:{rest}"),
        (REST_TENSORS, "triton", f"http://127.0.0.1:{rest}"),
        (GRPC_TEXT, "tgis", f"grpc://127.0.0.1:{grpc}"),
        (GRPC_TENSORS, "triton", f"grpc://127.0.0.1:{grpc}"),
    )
    return "\n".join(
        f"  - {{name: {model}, runtime: {kind}, url: '{url}', models: ['{model}']}}" for model, kind, url in places
    )
