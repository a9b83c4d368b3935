"""What calls were made of is gone with them, and does not wait for the garbage collector: bodies may be large."""

import gc
import json
from collections.abc import Callable, Iterator

import pytest

from gateway.test_service import GRPC, INFER, INFER_RPC, Client, infer_reply
from gateway.test_translating import EVENTS, OK, Upstream, choice, event, message
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.connect.methods import methods_of
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.rest_services.calls import RestServices
from inferbridge.gateway.service import GatewayService
from inferbridge.gateway.transcript import Transcript
from inferbridge.protos import methods, rest_methods
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire as tgis

JSON: Headers = (("content-type", "application/json"),)
type Play = Callable[[UpstreamRequest, Receiver], None]
"""What a runtime does with a call."""


@pytest.fixture(autouse=True)
def no_collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The garbage collector waits, and there is no clock."""
    monkeypatch.setattr(Pulse, "start", lambda self: None)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Wanting:
    """Wants a transcript of every call, and keeps none."""

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript:
        return Transcript.of(head.method, head.target, head.headers)


def answer(*pieces: bytes, headers: Headers = GRPC) -> Play:
    """Answers, whole or in pieces."""

    def play(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(200, headers)
        for piece in pieces:
            receiver.on_data(piece)
        receiver.on_end(OK if headers == GRPC else ())

    return play


def breaks(request: UpstreamRequest, receiver: Receiver) -> None:
    """Begins, and fails."""
    receiver.on_head(200, GRPC)
    receiver.on_data(TOKEN)
    receiver.on_failure(BridgeError(Code.UNAVAILABLE, "gone"))


def fails(request: UpstreamRequest, receiver: Receiver) -> None:
    """Fails at once."""
    receiver.on_failure(BridgeError(Code.UNAVAILABLE, "gone"))


def begins(request: UpstreamRequest, receiver: Receiver) -> None:
    """Begins, and says no more."""
    receiver.on_head(200, GRPC)
    receiver.on_data(TOKEN)


def silent(request: UpstreamRequest, receiver: Receiver) -> None:
    """Says nothing."""


TOKEN = message(text="x", generated_token_count=1)
LAST = message(text="y", generated_token_count=2, stop_reason=2)
COMPLETION = {"model": "m", "prompt": "a", "temperature": 0}
STREAM = json.dumps({**COMPLETION, "stream": True}).encode()
BATCH = b"".join(
    frame(
        [
            tgis.encode_BatchedGenerationRequest(
                tgis.BatchedGenerationRequest(
                    model_id="m", requests=[tgis.GenerationRequest(text="a"), tgis.GenerationRequest(text="b")]
                )
            )
        ]
    )
)
SINGLE = b"".join(
    frame(
        [
            tgis.encode_SingleGenerationRequest(
                tgis.SingleGenerationRequest(model_id="m", request=tgis.GenerationRequest(text="a"))
            )
        ]
    )
)
INFER_MESSAGE = b"".join(frame([v2.encode_ModelInferRequest(v2.ModelInferRequest(model_name="m"))]))
CHOICES = json.dumps({"id": "1", "object": "x", "created": 1, "model": "m", "choices": choice("x", "stop")}).encode()
SSE = (event(choices=choice("x")), event(choices=choice("y", "stop")), b"data: [DONE]\n\n")
ONE = b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}'
GENERATE = "/fmaas.GenerationService/Generate"
COMPLETIONS = "/v1/completions"
SERVICE = "/inferbridge.openai.OpenaiService/Completions"


def play_all(runtime: str, protocol: str, play: Play, path: str, body: bytes, headers: Headers, method: str) -> None:
    """A whole call; who gets no answer leaves."""
    upstream, client = Upstream(), Client()
    setting = Setting(operations=operations)
    names = ("one", "two") if path == "/v1/models" else ("one",)
    targets = [
        Target(name, profile, protocol, upstream, ("*",), setting) for name in names for profile in PROFILES[runtime]
    ]
    service = GatewayService(targets, APIS, Policy(), Limits())
    known = methods_of((methods("open-inference"),), lambda rpc: False)
    rest_apis = [(APIS["openai"], rest_methods("openai"))]
    service.rest_services = RestServices(rest_apis, Limits(), service.open, service.losses.in_answer)
    service.connect = ConnectGateway(known, Limits(), service.open, service.lost_in_message)
    sink = Recorder(service, (), (Wanting(),)).open(RequestHead(method, path, "a", headers, "2"), client)
    sink.on_data(body)
    sink.on_end()
    assert upstream.calls
    while upstream.calls:
        play(*upstream.calls.pop(0))
    if not client.ended:
        sink.on_cancel()


CASES: dict[str, tuple[str, str, Play, str, bytes, Headers]] = {
    "unary": ("triton", "grpc", infer_reply, "/v2/models/m/infer", INFER, JSON),
    "unary, passed on": ("triton", "grpc", infer_reply, INFER_RPC, INFER_MESSAGE, GRPC),
    "unary, failed": ("triton", "grpc", fails, "/v2/models/m/infer", INFER, JSON),
    "unary, left": ("triton", "grpc", silent, "/v2/models/m/infer", INFER, JSON),
    "connect": ("triton", "grpc", infer_reply, INFER_RPC, b'{"model_name": "m"}', JSON),
    "stream": ("tgis", "grpc", answer(TOKEN, LAST), COMPLETIONS, STREAM, JSON),
    "stream, passed on": ("vllm-nvidia", "rest", answer(*SSE, headers=EVENTS), COMPLETIONS, STREAM, JSON),
    "stream, to grpc": (
        "vllm-nvidia", "rest", answer(*SSE, headers=EVENTS), "/fmaas.GenerationService/GenerateStream", SINGLE, GRPC,
    ),
    "stream, broken off": ("tgis", "grpc", breaks, COMPLETIONS, STREAM, JSON),
    "stream, failed": ("tgis", "grpc", fails, COMPLETIONS, STREAM, JSON),
    "stream, left": ("tgis", "grpc", begins, COMPLETIONS, STREAM, JSON),
    "batch": ("vllm-nvidia", "rest", answer(CHOICES, headers=JSON), GENERATE, BATCH, GRPC),
    "batch, failed": ("vllm-nvidia", "rest", fails, GENERATE, BATCH, GRPC),
    "batch, left": ("vllm-nvidia", "rest", silent, GENERATE, BATCH, GRPC),
    "connect, failed": ("triton", "grpc", fails, INFER_RPC, b'{"model_name": "m"}', JSON),
    "connect, left": ("triton", "grpc", silent, INFER_RPC, b'{"model_name": "m"}', JSON),
    "service": ("vllm-nvidia", "rest", answer(CHOICES, headers=JSON), SERVICE, b"\0\0\0\0\0", GRPC),
    "service, failed": ("vllm-nvidia", "rest", fails, SERVICE, b"\0\0\0\0\0", GRPC),
    "service, left": ("vllm-nvidia", "rest", silent, SERVICE, b"\0\0\0\0\0", GRPC),
    "list": ("vllm-nvidia", "rest", answer(ONE, headers=JSON), "/v1/models", b"", ()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_call_that_has_ended_is_gone(case: tuple[str, str, Play, str, bytes, Headers]) -> None:
    """However it ended, nothing holds it but those who keep it on purpose; here nobody does."""
    play_all(*case, "GET" if case[3] == "/v1/models" else "POST")
    assert [found for found in gc.get_objects() if isinstance(found, Transcript)] == []
