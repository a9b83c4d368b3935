"""`inferbridge demo`: the proxy between real clients and two demo runtimes, and a tour of what it does to their calls.

    REST client ──▶ ┌───────┐ ──▶ gRPC-only runtime, model `double`
                    │ proxy │
    gRPC client ──▶ └───────┘ ──▶ REST-only runtime, model `echo`

The runtimes are in this process and are for this demo only; proxy, bridges and clients are the real ones. Each stop
compares the answer with what it has to be, so the tour is also a check of the installation.
"""

import asyncio
import json
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TextIO

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import GRPC_HEADERS
from inferbridge.bridge.values import Headers
from inferbridge.config.values import Listener, Settings, Upstream
from inferbridge.demo import models, signs
from inferbridge.demo.client import Answer, call
from inferbridge.demo.grpc_runtime import GrpcRuntime, frame, unframe
from inferbridge.demo.rest_runtime import RestRuntime
from inferbridge.demo.serving import Seen
from inferbridge.demo.view import Lines, Screen, field_lines, header_lines
from inferbridge.gateway.limits import Limits
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Pool, UpstreamRequest
from inferbridge.upstream.pool import open_pool
from inferbridge_generated.open_inference import wire

type StartProxy = Callable[[Settings], AbstractAsyncContextManager[Listener]]
"""Starts a proxy with these settings, gives the address it really listens on, and stops it at the end."""
ANY_PORT = Listener("127.0.0.1", 0)
_SECONDS = 10.0
_JSON: Headers = (("content-type", "application/json"),)
_SERVICE = "/inference.GRPCInferenceService/"


@dataclass(frozen=True, slots=True)
class Stop:
    """One call of the tour, both sides as text, and whether the answer was the right one."""

    title: str
    sent: Lines
    got: Lines
    right: bool


@dataclass(frozen=True, slots=True)
class Lab:
    """What runs during the tour."""

    address: Listener
    grpc: GrpcRuntime
    rest: RestRuntime
    rest_client: Pool
    grpc_client: Pool


async def open_lab(stack: AsyncExitStack, start_proxy: StartProxy, listen: Listener) -> Lab:
    """Start both runtimes, the proxy in front of them and a client for either protocol."""
    grpc, rest = GrpcRuntime((models.DOUBLE,)), RestRuntime((models.ECHO,))
    grpc_port = await stack.enter_async_context(grpc.serve())
    rest_port = await stack.enter_async_context(rest.serve())
    # the demo runtimes borrow the descriptions of the products whose side of the protocol they imitate
    upstreams = (
        Upstream("demo-grpc", "triton", Address("grpc", "127.0.0.1", grpc_port), ("double",)),
        Upstream("demo-rest", "mlserver", Address("http", "127.0.0.1", rest_port), ("echo",)),
    )
    address = await stack.enter_async_context(start_proxy(Settings(listen=(listen,), upstreams=upstreams)))
    pools = [open_pool(f"{scheme}://{address}", limits=Limits()) for scheme in ("http", "grpc")]
    for pool in pools:
        stack.push_async_callback(pool.close)
    return Lab(address, grpc, rest, *pools)


async def metadata(lab: Lab) -> Stop:
    """REST client, gRPC runtime: what does the model take?"""
    answer, stop = await _rest(lab, "model metadata", "GET", "/v2/models/double")
    return stop(answer.status == 200 and json.loads(answer.body)["inputs"][0]["name"] == "x")


async def infer_json(lab: Lab) -> Stop:
    """REST client, gRPC runtime: numbers as JSON."""
    x = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [[1.5, 2], [3, 4]]}
    answer, stop = await _rest(lab, "infer with JSON", "POST", signs.DOUBLE_PATH, {"id": "tour-1", "inputs": [x]})
    return stop(answer.status == 200 and json.loads(answer.body)["outputs"][0]["data"] == [3, 4, 6, 8])


async def infer_binary(lab: Lab) -> Stop:
    """REST client, gRPC runtime: the same numbers as bytes behind the JSON, which travel untouched."""
    tensor = struct.pack("<4f", 1.5, 2, 3, 4)
    x = {"name": "x", "shape": [2, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(tensor)}}
    body = {"id": "tour-2", "inputs": [x], "outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    answer, stop = await _rest(lab, "infer with binary tensors", "POST", signs.DOUBLE_PATH, body, tensor)
    return stop(answer.status == 200 and answer.body.endswith(struct.pack("<4f", 3, 4, 6, 8)))


async def error(lab: Lab) -> Stop:
    """REST client, gRPC runtime: the runtime refuses, and the client sees the error of its own protocol."""
    x = {"name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2]}
    answer, stop = await _rest(lab, "an error of the runtime", "POST", signs.DOUBLE_PATH, {"inputs": [x]})
    return stop(answer.status == 400 and "FP32 x" in json.loads(answer.body)["error"])


async def ready(lab: Lab) -> Stop:
    """gRPC client, REST runtime: can the model be used?"""
    request = wire.ModelReadyRequest(name="echo")
    answer = await _grpc(lab, "ModelReady", wire.encode_ModelReadyRequest(request))
    reply = _message(answer, wire.decode_ModelReadyResponse)
    return _grpc_stop("model ready", "ModelReady", request, answer, reply, reply is not None and reply.ready)


async def infer_grpc(lab: Lab) -> Stop:
    """gRPC client, REST runtime: bytes become JSON; 64-bit integers and text stay exact."""
    numbers, texts = (2**53 + 1, -1), (b"caf\xc3\xa9", b'"quoted"')
    tensors = (("number", "INT64", numbers), ("text", "BYTES", texts))
    request = wire.ModelInferRequest(
        model_name="echo",
        id="tour-3",
        inputs=[
            wire.ModelInferRequest_InferInputTensor(name=name, datatype=kind, shape=[2]) for name, kind, _ in tensors
        ],
        raw_input_contents=[models.pack(kind, values) for _, kind, values in tensors],
    )
    answer = await _grpc(lab, "ModelInfer", wire.encode_ModelInferRequest(request))
    reply = _message(answer, wire.decode_ModelInferResponse)
    right = reply is not None and list(map(bytes, reply.raw_output_contents)) == request.raw_input_contents
    return _grpc_stop("infer with 64-bit integers and text", "ModelInfer", request, answer, reply, right)


async def _rest(
    lab: Lab, title: str, method: str, path: str, body: object = None, binary: bytes = b""
) -> tuple[Answer, Callable[[bool], Stop]]:
    text = json.dumps(body).encode() if body is not None else b""
    headers = _JSON if body is not None else ()
    if binary:
        headers = (
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", str(len(text))),
        )
    answer = await call(lab.rest_client, UpstreamRequest(method, path, headers, (text + binary,)), _SECONDS)
    sent = [("", f"{method} {path}"), *header_lines(headers), *field_lines(body if body is not None else {})]
    got = [("", str(answer.status)), *header_lines(answer.headers), *_rest_body(answer)]
    sent += field_lines({"behind the JSON": binary}) if binary else []
    return answer, lambda right: Stop(f"REST client → gRPC runtime: {title}", sent, got, right)


def _rest_body(answer: Answer) -> Lines:
    length = dict(answer.headers).get("inference-header-content-length")
    at = int(length) if length else len(answer.body)
    lines = field_lines(json.loads(answer.body[:at])) if at else []
    return lines + (field_lines({"behind the JSON": answer.body[at:]}) if answer.body[at:] else [])


async def _grpc(lab: Lab, method: str, message: Sequence[bytes | bytearray | memoryview]) -> Answer:
    request = UpstreamRequest("POST", _SERVICE + method, GRPC_HEADERS, (frame(message),))
    return await call(lab.grpc_client, request, _SECONDS)


def _message[M](answer: Answer, decode: Callable[[bytes, list[tuple[str, int]]], M]) -> M | None:
    return decode(unframe(answer.body), []) if answer.grpc_status == 0 else None


def _grpc_stop(title: str, method: str, request: object, answer: Answer, reply: object, right: bool) -> Stop:
    sent = [("", f"gRPC {_SERVICE}{method}"), *header_lines(GRPC_HEADERS), *field_lines(request)]
    got = [("grpc-status", f"{answer.grpc_status} {answer.grpc_message}".strip()), *field_lines(reply or {})]
    return Stop(f"gRPC client → REST runtime: {title}", sent, got, right)


STOPS = (metadata, infer_json, infer_binary, error, ready, infer_grpc)


async def tour(lab: Lab, screen: Screen, stop: asyncio.Event) -> bool:
    """Make all calls and show them; whether every answer was the right one."""
    right = True
    for number, make in enumerate(STOPS, 1):
        if stop.is_set():
            return False
        runtime: RestRuntime | GrpcRuntime = lab.rest if make in (ready, infer_grpc) else lab.grpc
        try:
            shown = await make(lab)
        except (BridgeError, ValueError, KeyError) as failure:
            shown = Stop(make.__name__, [], [("", f"no usable answer: {failure}")], right=False)
        _show(screen, f"{number}. {shown.title}", shown, runtime.memory.take())
        right &= shown.right
    return right


def _show(screen: Screen, title: str, stop: Stop, seen: Seen) -> None:
    screen.title(title)
    screen.columns(("the client sent", "the runtime received"), stop.sent, seen.request)
    screen.text()
    screen.columns(("the client got", "the runtime answered"), stop.got, seen.reply)
    if not stop.right:
        screen.text("✗ this is not the answer it should be")


async def run_demo(
    start_proxy: StartProxy, out: TextIO, listen: Listener = ANY_PORT, serve_until: asyncio.Event | None = None
) -> int:
    """The demo; answers its exit code: 0 when every answer was right. With `serve_until` it serves until that is set.

    SIGINT and SIGTERM end it early, after the call in flight.
    """
    screen, stop = Screen(out), serve_until or asyncio.Event()
    async with AsyncExitStack() as stack:
        lab = await open_lab(stack, start_proxy, listen)
        stack.enter_context(_ended_by_signals(stop))
        signs.welcome(screen, lab.address)
        right = await tour(lab, screen, stop)
        signs.farewell(screen, lab.address, serving=serve_until is not None)
        if serve_until is not None:
            await serve_until.wait()
    return 0 if right else 1


@contextmanager
def _ended_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """SIGINT and SIGTERM set `stop`. The proxy has handlers of its own, which would end it and leave the demo."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
