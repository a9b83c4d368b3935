"""Prints what the record of a call costs: nothing for anybody, with the access log, with the metrics, with both.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/record.py`. Costs are CPU microseconds in this
process and in memory: of a unary REST call to a gRPC runtime, and of one message of a stream. `nobody` is a proxy that
has neither log nor metrics: it still gives calls their ids. Log and metrics together should cost at most 15 on top of
that for a call and 1 for a message; exits 1 when they cost more.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence

from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import Buffer, Headers, join
from inferbridge.gateway.application import Application, RequestHead, Responder
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.recording import Observer, Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe.access_log import AccessLog
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import Versions
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire as tgis

ROUNDS = 150
CALLS = 20
MESSAGES = 500
MOST_CALL, MOST_MESSAGE = 15.0, 1.0
GRPC: Headers = (("content-type", "application/grpc"),)
OK: Headers = (("grpc-status", "0"),)
JSON: Headers = (("content-type", "application/json"), ("user-agent", "curl/8.5"), ("accept", "*/*"))
INFER = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]}'
STREAM = b'{"model":"m","prompt":"a","temperature":0,"stream":true}'
TENSOR = v2.ModelInferResponse_InferOutputTensor(name="y", datatype="FP32", shape=[2])


class Mute(Responder):
    """A client that does not listen."""

    def head(self, status: int, headers: Headers) -> None:
        """Nothing."""

    def data(self, data: Buffer) -> None:
        """Nothing."""

    def end(self, trailers: Headers = ()) -> None:
        """Nothing."""

    def whole(self, status: int, headers: Headers, chunks: Sequence[Buffer]) -> None:
        """Nothing."""

    def abort(self) -> None:
        """Nothing."""


class Pool:
    """A runtime that answers every call at once."""

    def __init__(self, answer: Callable[[UpstreamRequest, Receiver], None]) -> None:
        self._answer = answer

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> "Pool":
        self._answer(request, receiver)
        return self

    def cancel(self) -> None:
        """It has answered."""

    async def close(self) -> None:
        """Nothing is open."""


def infer(request: UpstreamRequest, receiver: Receiver) -> None:
    """Gives the input back."""
    (message,) = unframe(join(request.chunks), "identity", 1 << 20)
    asked = v2.decode_ModelInferRequest(join(message), [])
    reply = v2.ModelInferResponse(model_name="m", outputs=[TENSOR], raw_output_contents=asked.raw_input_contents)
    receiver.on_head(200, GRPC)
    for chunk in frame([v2.encode_ModelInferResponse(reply)]):
        receiver.on_data(chunk)
    receiver.on_end(OK)


def _piece(count: int) -> bytes:
    made = tgis.GenerationResponse(text="tok ", generated_token_count=count, stop_reason=2 if count == MESSAGES else 0)
    return b"".join(frame([tgis.encode_GenerationResponse(made)]))


PIECES = [_piece(count) for count in range(1, MESSAGES + 1)]


def generate(request: UpstreamRequest, receiver: Receiver) -> None:
    """Streams its pieces."""
    receiver.on_head(200, GRPC)
    for piece in PIECES:
        receiver.on_data(piece)
    receiver.on_end(OK)


def calling(application: Application, path: str, body: bytes) -> Callable[[], None]:
    """Makes one call with a head that is sent again and again."""
    head = RequestHead("POST", path, "localhost", JSON, "1.1", peer="127.0.0.1:1")
    client = Mute()

    def call() -> None:
        client.record = None
        sink = application.open(head, client)
        sink.on_data(body)
        sink.on_end()

    return call


def cheapest(ways: dict[str, Callable[[], None]], calls: int) -> dict[str, float]:
    """CPU microseconds of a call each way; the ways take turns, the best round of each counts."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, call in ways.items():
            started = time.process_time()
            for _ in range(calls):
                call()
            best[name] = min(best[name], (time.process_time() - started) / calls * 1e6)
    return best


def observers() -> dict[str, list[Observer]]:
    """Who may want to know; lines go to /dev/null, ten at a time."""
    null = os.open(os.devnull, os.O_WRONLY)
    waiting: list[Callable[[], None]] = []

    def later(flush: Callable[[], None]) -> None:
        waiting.append(flush)

    class Tenth(AccessLog):
        """Ends a turn with every tenth call."""

        def ended(self, record: object) -> None:
            super().ended(record)  # type: ignore[arg-type]  # a record
            if len(self._lines) >= 10:
                self.flush()

    log = Tenth(lambda lines: os.write(null, lines), later)
    calls = Metrics(Versions("", "", "", "", "")).calls
    return {"nobody": [], "access log": [log], "metrics": [calls], "both": [log, calls]}


def report(what: str, target: Target, path: str, body: bytes, calls: int, parts: int) -> float:
    """Print what each observer adds; gives it for both, on top of what is there for nobody."""
    service = GatewayService([target], APIS, Policy(), Limits())
    ways = {"no recorder": calling(service, path, body)}
    ways |= {name: calling(Recorder(service, wanted), path, body) for name, wanted in observers().items()}
    found = cheapest(ways, calls)
    for name, cost in found.items():
        added = (cost - found["no recorder"]) / parts
        sys.stdout.write(f"{what:<24} {name:<12} {cost:>10.2f} µs {added:>+9.2f}\n")
    return (found["both"] - found["nobody"]) / parts


async def main() -> None:
    """Both kinds of calls, in an event loop: streams set timers."""
    gc.disable()
    setting = Setting(operations=operations)
    triton = Target("triton", PROFILES["triton"][0], "grpc", Pool(infer))
    runtime = Target("tgis", PROFILES["tgis"][0], "grpc", Pool(generate), setting=setting)
    call = report("unary call", triton, "/v2/models/m/infer", INFER, CALLS, 1)
    message = report(f"stream of {MESSAGES}", runtime, "/v1/completions", STREAM, 1, MESSAGES)
    sys.stdout.write(f"log and metrics cost {call:.1f} µs a call (at most {MOST_CALL:.0f}), ")
    sys.stdout.write(f"{message:.2f} µs a message (at most {MOST_MESSAGE:.0f})\n")
    sys.exit(call > MOST_CALL or message > MOST_MESSAGE)


if __name__ == "__main__":
    asyncio.run(main())
