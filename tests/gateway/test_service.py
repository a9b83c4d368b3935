"""The gateway's work on a call, with clients and runtimes in memory."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from inferbridge.bridge.context import Policy
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import Buffer, Chunks, Headers, header, join
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.open_inference import wire
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

GRPC = (("content-type", "application/grpc"),)
INFER = b'{"inputs":[{"name":"x","shape":[2],"datatype":"FP32","data":[1,2]}]}'
INFER_RPC = "/inference.GRPCInferenceService/ModelInfer"


@dataclass
class Client(Responder):
    """Collects an answer."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    trailers: Headers = ()
    ended: bool = False
    aborted: bool = False
    held: bool = False
    record: CallRecord | None = None

    def head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers

    def data(self, data: Buffer) -> None:
        self.body += bytes(data)

    def end(self, trailers: Headers = ()) -> None:
        assert not self.ended
        self.trailers, self.ended = trailers, True

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        self.head(status, headers)
        for chunk in chunks:
            self.data(chunk)
        self.end()

    def hold(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False

    def abort(self) -> None:
        self.aborted = True

    def get(self, name: str) -> str | None:
        """A header or trailer."""
        return header((*self.headers, *self.trailers), name)


type Answering = Callable[[UpstreamRequest, Receiver], None]


@dataclass
class Runtime:
    """A pool whose runtime is a function; remembers what it was sent."""

    answering: Answering
    sent: list[UpstreamRequest] = field(default_factory=list)
    cancelled: int = 0

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> "Runtime":
        self.sent.append(request)
        self.answering(request, receiver)
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    async def close(self) -> None:
        """Nothing to close."""


def infer_reply(request: UpstreamRequest, receiver: Receiver) -> None:
    """A Triton that returns its input over gRPC."""
    (message,) = unframe(join(request.chunks), "identity", 1 << 20)
    asked = wire.decode_ModelInferRequest(join(message), [])
    tensor = wire.ModelInferResponse_InferOutputTensor(name="y", datatype="FP32", shape=[2])
    reply = wire.ModelInferResponse(
        model_name=asked.model_name, outputs=[tensor], raw_output_contents=asked.raw_input_contents
    )
    receiver.on_head(200, GRPC)
    for chunk in frame([wire.encode_ModelInferResponse(reply)]):
        receiver.on_data(chunk)
    receiver.on_end((("grpc-status", "0"),))


def silent(request: UpstreamRequest, receiver: Receiver) -> None:
    """A runtime that has not answered yet."""


def target(runtime: Runtime, name: str = "triton", protocol: str = "grpc", models: tuple[str, ...] = ("*",)) -> Target:
    """A target of a known runtime."""
    return Target(f"{name}-{protocol}-{models}", PROFILES[name][0], protocol, runtime, models)


def service(*targets: Target, policy: Policy | None = None, limits: Limits | None = None) -> GatewayService:
    """A gateway in front of some targets."""
    return GatewayService(targets, APIS, policy or Policy(), limits or Limits())


def call(
    gateway: GatewayService, method: str, path: str, body: bytes = b"", headers: Headers = (), pieces: int = 1
) -> Client:
    """One call, its body in pieces; the answer as far as it came."""
    client = Client()
    head = RequestHead(method, path, "localhost", headers, "1.1")
    sink = gateway.open(head, client)
    size = max(1, -(-len(body) // pieces))
    for at in range(0, len(body), size):
        sink.on_data(body[at : at + size])
    sink.on_end()
    return client


def test_a_rest_call_reaches_a_grpc_runtime_and_returns() -> None:
    """JSON goes over as protobuf, the tensors come back as JSON, whatever pieces the body arrives in."""
    runtime = Runtime(infer_reply)
    client = call(service(target(runtime)), "POST", "/v2/models/m/infer", INFER, pieces=7)
    assert client.status == 200
    assert json.loads(client.body)["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}]
    assert runtime.sent[0].path == INFER_RPC


def test_credentials_never_reach_a_runtime() -> None:
    """Authorization and cookies end at the gateway; tracing headers cross."""
    runtime = Runtime(infer_reply)
    headers = (("authorization", "Bearer secret"), ("cookie", "a=b"), ("traceparent", "00-1"))
    call(service(target(runtime)), "POST", "/v2/models/m/infer", INFER, headers)
    assert header(runtime.sent[0].headers, "traceparent") == "00-1"
    assert "secret" not in repr(runtime.sent)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/files", 404),
        ("GET", "/v2/models/m/infer", 405),
        ("POST", "/v2/models/%2e%2e/infer", 400),
        ("POST", "/v2/models/a%2fb/infer", 400),
    ],
)
def test_calls_without_an_endpoint_are_refused(method: str, path: str, status: int) -> None:
    """What no route takes is answered in JSON with the right status, and nothing is sent."""
    runtime = Runtime(infer_reply)
    client = call(service(target(runtime)), method, path)
    assert (client.status, runtime.sent) == (status, [])
    assert json.loads(client.body)["error"]


def test_an_unknown_rpc_is_unimplemented() -> None:
    """A gRPC client hears of an unknown method with gRPC's own code."""
    client = call(service(target(Runtime(silent))), "POST", "/inference.GRPCInferenceService/Nope", headers=GRPC)
    assert (client.status, client.get("grpc-status")) == (200, "12")


def test_bad_input_is_the_clients_error_and_goes_nowhere() -> None:
    """A wrong count is a 400 naming the tensor; the runtime never hears of it."""
    runtime = Runtime(infer_reply)
    client = call(service(target(runtime)), "POST", "/v2/models/m/infer", INFER.replace(b"[2]", b"[3]"))
    assert (client.status, runtime.sent) == (400, [])
    assert "'x'" in json.loads(client.body)["error"]


def test_bodies_over_the_limit_are_cut_off() -> None:
    """A body larger than allowed is a 413 while it arrives, not after."""
    client = Client()
    gateway = service(target(Runtime(silent)), limits=Limits(body_bytes=10))
    sink = gateway.open(RequestHead("POST", "/v2/models/m/infer", "localhost", (), "1.1"), client)
    sink.on_data(b"x" * 11)
    assert client.status == 413


def test_the_model_chooses_the_target() -> None:
    """Globs of models decide where a call goes; a model of nobody is a 404."""
    first, second = Runtime(infer_reply), Runtime(infer_reply)
    gateway = service(target(first, models=("a*",)), target(second, models=("b*",)))
    assert call(gateway, "POST", "/v2/models/bert/infer", INFER).status == 200
    assert (len(first.sent), len(second.sent)) == (0, 1)
    assert call(gateway, "POST", "/v2/models/c/infer", INFER).status == 404


def test_the_model_of_a_grpc_call_chooses_too() -> None:
    """The model is read from the message when the choice depends on it."""
    first, second = Runtime(infer_reply), Runtime(infer_reply)
    gateway = service(target(first, models=("a*",)), target(second, models=("b*",)))
    message = wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="bert"))
    call(gateway, "POST", INFER_RPC, join(frame([message])), GRPC)
    assert (len(first.sent), len(second.sent)) == (0, 1)


def test_the_own_protocol_goes_first_and_is_passed_through() -> None:
    """A gRPC call to a runtime with a gRPC port keeps its bytes, and the answer its trailers."""

    def answer(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(200, GRPC)
        receiver.on_data(b"\0\0\0\0\1z")
        receiver.on_end((("grpc-status", "0"), ("vendor-bin", "AQ")))

    rest, grpc = Runtime(silent), Runtime(answer)
    client = call(service(target(rest, protocol="rest"), target(grpc)), "POST", INFER_RPC, b"\0\0\0\0\2ab", GRPC)
    assert join(grpc.sent[0].chunks) == b"\0\0\0\0\2ab"
    assert (client.body, client.get("vendor-bin")) == (b"\0\0\0\0\1z", "AQ")


def test_a_binary_client_of_a_json_runtime_is_translated() -> None:
    """MLServer's REST side has no binary tensors, so such a call cannot pass through to it."""
    runtime = Runtime(silent)
    text = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}]}'
    headers = (("inference-header-content-length", str(len(text))),)
    gateway = service(target(runtime, "mlserver", "rest"))
    call(gateway, "POST", "/v2/models/m/infer", text + b"\0\0\x80\x3f", headers)
    assert json.loads(join(runtime.sent[0].chunks))["inputs"][0]["data"] == [1.0]


def test_json_passes_through_under_its_own_type() -> None:
    """FastAPI runtimes refuse JSON without its content type, which V2 clients do not send."""
    runtime = Runtime(silent)
    form = (("content-type", "application/x-www-form-urlencoded"),)
    call(service(target(runtime, "mlserver", "rest")), "POST", "/v2/models/m/infer", INFER, form)
    assert runtime.sent[0].headers == (("content-type", "application/json"),)
    assert join(runtime.sent[0].chunks) == INFER


def test_a_failed_connection_is_503_in_json() -> None:
    """A runtime that is down is the client's 503, in its dialect."""

    def down(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_failure(BridgeError(Code.UNAVAILABLE, "cannot connect"))

    client = call(service(target(Runtime(down))), "POST", "/v2/models/m/infer", INFER)
    assert (client.status, json.loads(client.body)) == (503, {"error": "cannot connect"})


def test_a_runtimes_error_keeps_its_code() -> None:
    """NOT_FOUND of a gRPC runtime is 404 with the runtime's own words."""

    def missing(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(200, (*GRPC, ("grpc-status", "5"), ("grpc-message", "no model%21")))
        receiver.on_end(())

    client = call(service(target(Runtime(missing))), "POST", "/v2/models/m/infer", INFER)
    assert (client.status, json.loads(client.body)) == (404, {"error": "no model!"})


def test_an_answer_that_cannot_be_read_is_never_a_200() -> None:
    """Broken protobuf from a runtime is a 500, not an empty success."""

    def broken(request: UpstreamRequest, receiver: Receiver) -> None:
        receiver.on_head(200, GRPC)
        receiver.on_data(b"\0\0\0\0\1\xff")
        receiver.on_end((("grpc-status", "0"),))

    client = call(service(target(Runtime(broken))), "POST", "/v2/models/m/infer", INFER)
    assert client.status == 500


def test_a_fault_of_ours_while_answering_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When translating the answer raises something unforeseen, the client gets a 500 and no more."""
    gateway = service(target(Runtime(infer_reply)))

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("inferbridge.bridge.bridge.Bridge.write_reply", fail)
    client = call(gateway, "POST", "/v2/models/m/infer", INFER)
    assert (client.status, json.loads(client.body)) == (500, {"error": "internal error"})


def test_losses_are_named_when_they_are_allowed(caplog: pytest.LogCaptureFixture) -> None:
    """With lossy allowed a version that KServe cannot take is dropped, named and logged; without, it is refused."""
    runtime = Runtime(infer_reply)
    path = "/v2/models/m/versions/3/infer"
    assert call(service(target(runtime, "kserve")), "POST", path, INFER).status == 400
    client = call(service(target(runtime, "kserve"), policy=Policy(lossy=True)), "POST", path, INFER)
    assert (client.status, client.get("x-inferbridge-lost")) == (200, "version")
    assert any("dropped version" in record.getMessage() for record in caplog.records)


def test_a_client_that_leaves_cancels_its_call() -> None:
    """Nobody will read the answer, so the runtime need not make it."""
    runtime = Runtime(silent)
    sink = service(target(runtime)).open(RequestHead("POST", "/v2/models/m/infer", "localhost", (), "1.1"), Client())
    sink.on_data(INFER)
    sink.on_end()
    sink.on_cancel()
    assert runtime.cancelled == 1


class Duplex(Runtime):
    """A runtime that takes requests as they are made; it has room as long as `room` says so."""

    def __init__(self) -> None:
        super().__init__(silent)
        self.written = b""
        self.room = True
        self.finished = False

    def begin(
        self, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None], timeout: float | None = None
    ) -> "Duplex":
        self.sent.append(request)
        self.drained = drained
        return self

    def write(self, data: Buffer) -> bool:
        self.written += bytes(data)
        return self.room

    def finish(self) -> None:
        self.finished = True


def stream_head() -> RequestHead:
    """The head of a stream of requests."""
    return RequestHead("POST", "/inference.GRPCInferenceService/ModelStreamInfer", "localhost", GRPC, "2")


def test_the_first_message_of_a_stream_chooses_where_it_goes() -> None:
    """Where the model decides, a stream waits for its first message, and goes on from there."""
    first, second, client = Duplex(), Duplex(), Client()
    gateway = service(target(first, models=("a*",)), target(second, models=("b*",)))
    sink = gateway.open(stream_head(), client)
    message = join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="bert"))]))
    sink.on_data(message[:7])
    assert second.sent == []
    sink.on_data(message[7:])
    sink.on_data(b"more")
    assert (first.sent, second.written, second.finished) == ([], bytes(message) + b"more", False)
    sink.on_end()
    assert second.finished
    unknown = join(frame([wire.encode_ModelInferRequest(wire.ModelInferRequest(model_name="c"))]))
    gateway.open(stream_head(), client).on_data(unknown)
    assert client.get("grpc-status") == "5"


def test_a_runtime_without_room_holds_the_client() -> None:
    """The client is held while the runtime has no room, and let go when it has."""
    runtime, client = Duplex(), Client()
    sink = service(target(runtime)).open(stream_head(), client)
    sink.on_data(b"x")
    assert not client.held
    runtime.room = False
    sink.on_data(b"y")
    assert client.held
    runtime.drained()
    assert not client.held
    sink.on_cancel()
    assert runtime.cancelled == 1
