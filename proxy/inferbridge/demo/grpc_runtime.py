"""A demo runtime that speaks the Open Inference Protocol over gRPC only (HTTP/2 without TLS), in this process.

It is no inference server: it runs a toy model, keeps everything in memory and trusts its caller. Its messages are read
and written by the generated codecs; real runtimes, with codecs of their own, are in the tests.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import quote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import msgspec

from inferbridge.bridge import framing
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import Chunks, Headers
from inferbridge.bridge.wire import Unknown, WireError
from inferbridge.demo.models import Model, Port, Tensor, find, pack, unpack
from inferbridge.demo.serving import Connection, Memory, Seen, serving
from inferbridge.demo.view import field_lines, header_lines
from inferbridge_generated.open_inference import wire

_SERVICE = "/inference.GRPCInferenceService/"
_PREFIX = 5
"""Bytes in front of a message: a flag for compression and the length."""


class GrpcRuntime:
    """Answers gRPC calls; `memory` holds the latest of them."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = models
        self.memory = Memory()

    def serve(self) -> AbstractAsyncContextManager[int]:
        """Listen on a free port of 127.0.0.1, the context's value."""
        return serving(lambda: _Connection(self))

    def handle(self, rpc: str, headers: Headers, body: bytes) -> bytes:
        """The framed reply of one unary call; raises `BridgeError`."""
        seen = self.memory.begin([("", f"gRPC {rpc}"), *header_lines(headers)])
        try:
            reply = self._answer(rpc, unframe(body), seen)
        except BridgeError as error:
            seen.reply += [("grpc-status", f"{error.code} {error.code.name}"), ("grpc-message", error.message)]
            raise
        seen.reply += [("grpc-status", "0 OK"), *field_lines(reply)]
        return frame(_ENCODERS[type(reply)](reply))

    def _answer(self, rpc: str, data: bytes, seen: Seen) -> msgspec.Struct:
        match rpc.removeprefix(_SERVICE):
            case "ServerLive":
                return wire.ServerLiveResponse(live=True)
            case "ServerReady":
                return wire.ServerReadyResponse(ready=True)
            case "ServerMetadata":
                return wire.ServerMetadataResponse(name="inferbridge-demo-grpc", version="1")
            case "ModelReady":
                return self._ready(_decoded(wire.decode_ModelReadyRequest, data, seen))
            case "ModelMetadata":
                return self._metadata(_decoded(wire.decode_ModelMetadataRequest, data, seen))
            case "ModelInfer":
                return self._infer(_decoded(wire.decode_ModelInferRequest, data, seen))
        raise BridgeError(Code.UNIMPLEMENTED, f"no such method: {rpc}")

    def _find(self, name: str, version: str) -> Model:
        model = find(self._models, name)
        if version not in ("", "1"):
            raise BridgeError(Code.NOT_FOUND, f"model {name!r} has no version {version}")
        return model

    def _ready(self, request: wire.ModelReadyRequest) -> wire.ModelReadyResponse:
        return wire.ModelReadyResponse(ready=bool(self._find(request.name, request.version)))

    def _metadata(self, request: wire.ModelMetadataRequest) -> wire.ModelMetadataResponse:
        model = self._find(request.name, request.version)
        inputs, outputs = _ports(model.inputs), _ports(model.outputs)
        return wire.ModelMetadataResponse(
            name=model.name, versions=["1"], platform="inferbridge-demo", inputs=inputs, outputs=outputs
        )

    def _infer(self, request: wire.ModelInferRequest) -> wire.ModelInferResponse:
        model = self._find(request.model_name, request.model_version)
        outputs = model.run(_tensors(request))
        return wire.ModelInferResponse(
            model_name=model.name,
            model_version="1",
            id=request.id,
            outputs=[
                wire.ModelInferResponse_InferOutputTensor(
                    name=tensor.name, datatype=tensor.datatype, shape=list(tensor.shape)
                )
                for tensor in outputs
            ],
            raw_output_contents=[pack(tensor.datatype, tensor.values) for tensor in outputs],
        )


_ENCODERS: dict[type[msgspec.Struct], Callable[[Any], Chunks]] = {
    wire.ServerLiveResponse: wire.encode_ServerLiveResponse,
    wire.ServerReadyResponse: wire.encode_ServerReadyResponse,
    wire.ServerMetadataResponse: wire.encode_ServerMetadataResponse,
    wire.ModelReadyResponse: wire.encode_ModelReadyResponse,
    wire.ModelMetadataResponse: wire.encode_ModelMetadataResponse,
    wire.ModelInferResponse: wire.encode_ModelInferResponse,
}


def frame(message: Chunks) -> bytes:
    """A message as it travels."""
    return b"".join(framing.frame([message]))


def unframe(body: bytes) -> bytes:
    """The one message of a unary call; raises `BridgeError`."""
    if len(body) < _PREFIX or body[0] or len(body) != _PREFIX + int.from_bytes(body[1:_PREFIX]):
        raise BridgeError(Code.INTERNAL, "the call does not hold exactly one uncompressed message")
    return body[_PREFIX:]


def _decoded[M](decode: Callable[[bytes, Unknown], M], data: bytes, seen: Seen) -> M:
    try:
        message = decode(data, [])
    except WireError as error:
        raise BridgeError(Code.INTERNAL, f"malformed message: {error}") from None
    seen.request += field_lines(message)
    return message


def _ports(ports: Sequence[Port]) -> list[wire.ModelMetadataResponse_TensorMetadata]:
    return [
        wire.ModelMetadataResponse_TensorMetadata(name=port.name, datatype=port.datatype, shape=list(port.shape))
        for port in ports
    ]


def _tensors(request: wire.ModelInferRequest) -> list[Tensor]:
    raw = request.raw_input_contents
    if len(raw) != len(request.inputs):
        raise invalid(
            f"the demo runtime takes raw_input_contents only: got {len(raw)} for {len(request.inputs)} inputs"
        )
    return [
        Tensor(item.name, item.datatype, tuple(item.shape), unpack(item.datatype, bytes(data)))
        for item, data in zip(request.inputs, raw, strict=True)
    ]


class _Connection(Connection):
    """One HTTP/2 connection. Replies wait in `_outgoing` while the caller's flow-control window is closed."""

    def __init__(self, runtime: GrpcRuntime) -> None:
        super().__init__()
        self._runtime = runtime
        configuration = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        self._connection = h2.connection.H2Connection(configuration)
        self._headers: dict[int, Headers] = {}
        self._bodies: dict[int, bytearray] = {}
        self._outgoing: dict[int, tuple[memoryview, Headers]] = {}
        """Stream to the rest of its reply and the trailers after it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connection.initiate_connection()
        self._write()

    def data_received(self, data: bytes) -> None:
        try:
            for event in self._connection.receive_data(data):
                self._on_event(event)
            self._flush()
        except h2.exceptions.ProtocolError:
            self._write()
            self.close()
            return
        self._write()

    def _on_event(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._headers[event.stream_id] = tuple((str(name), str(value)) for name, value in event.headers or ())
                self._bodies[event.stream_id] = bytearray()
            case h2.events.DataReceived():
                self._bodies[event.stream_id] += event.data or b""
                self._connection.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            case h2.events.StreamEnded():
                self._answer(event.stream_id)
            case h2.events.StreamReset():
                for table in (self._headers, self._bodies, self._outgoing):
                    table.pop(event.stream_id, None)
            case h2.events.ConnectionTerminated():
                self.close()

    def _answer(self, stream: int) -> None:
        headers, body = self._headers.pop(stream), self._bodies.pop(stream)
        rpc = dict(headers).get(":path", "")
        reply = b""
        trailers: Headers = (("grpc-status", "0"),)
        try:
            reply = self._runtime.handle(rpc, headers, bytes(body))
        except BridgeError as error:
            trailers = (
                ("grpc-status", str(int(error.code))),
                ("grpc-message", quote(error.message, safe=" !#$&'()*+,/:;=?@[]")),
            )
        self._connection.send_headers(stream, [(":status", "200"), ("content-type", "application/grpc")])
        self._outgoing[stream] = (memoryview(reply), trailers)

    def _flush(self) -> None:
        for stream, (rest, trailers) in list(self._outgoing.items()):
            while rest:
                room = min(self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size)
                if room <= 0:
                    break
                self._connection.send_data(stream, bytes(rest[:room]))
                rest = rest[room:]
            if rest:
                self._outgoing[stream] = (rest, trailers)
            else:
                del self._outgoing[stream]
                self._connection.send_headers(stream, list(trailers), end_stream=True)

    def _write(self) -> None:
        self.write(self._connection.data_to_send())
