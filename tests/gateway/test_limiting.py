"""Limited calls in the gateway: who is let in, how refusals are worded, and that each end gives the lease back."""

import dataclasses
import gc
import json
import struct
import weakref
from collections.abc import Callable

import pytest

from gateway.test_connect_calls import Duplex
from gateway.test_metering import generated, stream_of
from gateway.test_service import INFER, Client
from gateway.test_translating import EVENTS, GRPC, OK, Upstream, message
from inferbridge.auth.identity import Grant, Identity
from inferbridge.auth.rates import MINUTE, RateLimiter
from inferbridge.auth.rules import Authorizer
from inferbridge.auth.settings import AuthSettings, NoneSettings, Rates, Rule
from inferbridge.bridge.bridge import Bridge
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers, header
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.metering import Metering
from inferbridge.gateway.records.usage import Usage, Used
from inferbridge.gateway.service import GatewayService
from inferbridge_generated import operations
from inferbridge_generated.open_inference import wire as v2
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire

ANN, BOB = Identity("ann", method="keys"), Identity("bob", method="keys")
JSON: Headers = (("content-type", "application/json"),)
ONE_CALL = Rates(concurrent_calls=1)
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


class Gateway:
    """A gateway with one rule in front of one runtime that the test plays, and a clock that the test moves."""

    def __init__(self, runtime: str, protocol: str, rates: Rates, allow: Grant | None = None) -> None:
        self.now = MINUTE
        self.upstream = Upstream()
        setting = Setting(operations=operations)
        targets = [Target(runtime, profile, protocol, self.upstream, ("*",), setting) for profile in PROFILES[runtime]]
        authorizer = Authorizer((Rule(allow=allow or Grant(), rates=rates),))
        limiter = RateLimiter(now=lambda: self.now)
        self.service = GatewayService(targets, APIS, Policy(), Limits(), None, authorizer, limiter=limiter)

    def begin(self, path: str, headers: Headers = JSON, identity: Identity = ANN) -> tuple[Client, RequestSink]:
        """A call whose body is still to come."""
        client = Client()
        head = RequestHead("POST", path, "a", headers, "2" if headers == GRPC else "1.1", identity=identity)
        return client, self.service.open(head, client)

    def call(
        self, path: str, body: bytes, headers: Headers = JSON, identity: Identity = ANN
    ) -> tuple[Client, RequestSink]:
        """A call that the runtime is still to answer."""
        client, sink = self.begin(path, headers, identity)
        sink.on_data(body)
        sink.on_end()
        return client, sink

    def answer(self, *pieces: bytes, headers: Headers = JSON, status: int = 200) -> None:
        """The runtime answers the last call."""
        _, receiver = self.upstream.calls[-1]
        receiver.on_head(status, headers)
        for piece in pieces:
            receiver.on_data(piece)
        receiver.on_end(OK if headers == GRPC else ())

    def is_full(self, path: str, headers: Headers = JSON, identity: Identity = ANN) -> bool:
        """Whether another call would be refused; it is called off again."""
        client, sink = self.begin(path, headers, identity)
        sink.on_cancel()
        return client.ended


def single(**fields: str) -> bytes:
    """A framed request of TGIS' stream."""
    asked = wire.SingleGenerationRequest(model_id="m", request=wire.GenerationRequest(**fields))
    return b"".join(frame([wire.encode_SingleGenerationRequest(asked)]))


BATCH = b"".join(
    frame(
        [wire.encode_BatchedGenerationRequest(wire.BatchedGenerationRequest("m", None, [wire.GenerationRequest("a")]))]
    )
)
COMPLETION = b'{"model":"m","prompt":"a","temperature":0}'
STREAM = b'{"model":"m","prompt":"a","temperature":0,"stream":true}'
GENERATE, GENERATE_STREAM = "/fmaas.GenerationService/Generate", "/fmaas.GenerationService/GenerateStream"


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of call: who asks whom for what, and what a good answer is made of."""

    runtime: str
    protocol: str
    path: str
    body: bytes
    headers: Headers
    pieces: tuple[bytes, ...]
    answered: Headers


DONE = message(text="x", generated_token_count=2, stop_reason=2)
REPLY = generated(wire.GenerationResponse(text="x", input_token_count=3, generated_token_count=5))
CHUNKS = stream_of("a", "b", usage=USAGE)
KINDS = {
    "translated": Kind("tgis", "grpc", "/v1/completions", COMPLETION, JSON, (REPLY,), GRPC),
    "translated events": Kind(
        "tgis", "grpc", "/v1/completions", STREAM, JSON, (message(input_token_count=3), DONE), GRPC
    ),
    "translated messages": Kind(
        "vllm-amd", "rest", GENERATE_STREAM, single(text="a"), GRPC, (CHUNKS.replace(b"null", b'"stop"'),), EVENTS
    ),
    "passed through": Kind(
        "vllm-amd",
        "rest",
        "/v1/completions",
        COMPLETION,
        JSON,
        (b'{"choices":[],"usage":', b'{"prompt_tokens":3,"completion_tokens":5}}'),
        JSON,
    ),
    "events passed through": Kind("vllm-amd", "rest", "/v1/completions", STREAM, JSON, (CHUNKS,), EVENTS),
    "gRPC passed through": Kind("tgis", "grpc", GENERATE, BATCH, GRPC, (REPLY,), GRPC),
    "messages passed through": Kind(
        "tgis", "grpc", GENERATE_STREAM, single(text="a"), GRPC, (message(input_token_count=3), DONE), GRPC
    ),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every kind of call."""
    return KINDS[request.param]


# ends


def test_an_answer_that_is_complete_gives_the_lease_back(kind: Kind) -> None:
    """While a call is answered there may be no other, when its answer is complete there may; so one after the other."""
    gateway = Gateway(kind.runtime, kind.protocol, dataclasses.replace(ONE_CALL, tokens_per_minute=1000))
    for _ in range(3):
        client, _ = gateway.call(kind.path, kind.body, kind.headers)
        assert gateway.is_full(kind.path, kind.headers)
        gateway.answer(*kind.pieces, headers=kind.answered)
        assert client.ended
        assert client.status == 200
        assert header(client.trailers, "grpc-status") in {None, "0"}
        assert not gateway.is_full(kind.path, kind.headers)


def test_a_failure_gives_the_lease_back(kind: Kind) -> None:
    """Before the answer began, and within it, where it is cut or told."""
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL)
    error = BridgeError(Code.UNAVAILABLE, "gone")
    for begun in (False, True):
        client, _ = gateway.call(kind.path, kind.body, kind.headers)
        _, receiver = gateway.upstream.calls[-1]
        if begun:
            receiver.on_head(200, kind.answered)
            receiver.on_data(kind.pieces[0][:5])
        assert gateway.is_full(kind.path, kind.headers)
        receiver.on_failure(error)
        assert client.ended or client.aborted
        assert not gateway.is_full(kind.path, kind.headers)


def test_a_client_that_leaves_gives_the_lease_back(kind: Kind) -> None:
    """Before its body is complete, before the answer, and within it; what still comes of the answer changes nothing."""
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL)
    _, sink = gateway.begin(kind.path, kind.headers)
    sink.on_data(kind.body[:3])
    sink.on_cancel()
    for begun in (False, True):
        _, sink = gateway.call(kind.path, kind.body, kind.headers)
        if begun:
            gateway.upstream.calls[-1][1].on_head(200, kind.answered)
        assert gateway.is_full(kind.path, kind.headers)
        sink.on_cancel()
        assert gateway.upstream.cancelled[-1] == len(gateway.upstream.calls) - 1
        _, second = gateway.call(kind.path, kind.body, kind.headers)
        sink.on_cancel()
        assert gateway.is_full(kind.path, kind.headers)
        second.on_cancel()
        assert not gateway.is_full(kind.path, kind.headers)


@pytest.mark.parametrize("body", [b"{", b"\0\0\0\0\5ab", b'{"model":"secret","prompt":"a"}'])
def test_a_call_that_is_refused_gives_the_lease_back(kind: Kind, body: bytes) -> None:
    """A body that is nothing, or asks for what is not allowed, is answered; the next call may come."""
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL, Grant(models=("m",)))
    client, _ = gateway.call(kind.path, body, kind.headers)
    assert client.ended
    assert not gateway.upstream.calls
    assert not gateway.is_full(kind.path, kind.headers)


def test_a_fault_of_ours_gives_the_lease_back(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever raises while a call is opened or sent ends it for the connection, which tells the call."""
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL)

    def boom(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr("inferbridge.gateway.calls.exchange.Exchange.begin", boom)
        with pytest.raises(RuntimeError):
            gateway.begin(kind.path, kind.headers)
    assert not gateway.is_full(kind.path, kind.headers)
    with monkeypatch.context() as patch:
        patch.setattr(Target, "send", boom)
        asked = ClientConnection(_As(gateway.service), Limits(), lambda: None)
        size = str(len(kind.body)).encode()
        path, (_, media) = kind.path.encode(), kind.headers[0]
        lines = (b"POST %s HTTP/1.1" % path, b"host: a", b"content-type: " + media.encode(), b"content-length: " + size)
        asked.receive(b"\r\n".join(lines) + b"\r\n\r\n" + kind.body)
        assert b" 500 " in asked.take_output() or kind.headers == GRPC
    assert not gateway.is_full(kind.path, kind.headers)


class _As:
    """The gateway as `ANN` sees it."""

    def __init__(self, service: GatewayService) -> None:
        self._service = service
        self.refuse = service.refuse

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        return self._service.open(head.derived(identity=ANN), responder)


class Eager(Client):
    """Looks, when its answer ends, whether another call would be let in."""

    def end(self, trailers: Headers = ()) -> None:
        super().end(trailers)
        self.next()

    def abort(self) -> None:
        super().abort()
        self.next()

    next: Callable[[], None]


@pytest.mark.parametrize("broken", [False, True])
def test_the_end_of_a_call_may_let_the_next_one_in(kind: Kind, broken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time a client has the end of its answer, its lease is back and its tokens are booked."""
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL)
    booked: list[Usage] = []
    monkeypatch.setattr("inferbridge.gateway.calls.exchange.booking", lambda lease: booked.append)
    seen = []
    client = Eager()
    client.next = lambda: seen.append((gateway.is_full(kind.path, kind.headers), len(booked)))
    head = RequestHead("POST", kind.path, "a", kind.headers, "1.1", identity=ANN)
    sink = gateway.service.open(head, client)
    sink.on_data(kind.body)
    sink.on_end()
    if broken:
        _, receiver = gateway.upstream.calls[-1]
        receiver.on_head(200, kind.answered)
        receiver.on_failure(BridgeError(Code.UNAVAILABLE, "gone"))
    else:
        gateway.answer(*kind.pieces, headers=kind.answered)
    assert seen == [(False, len(booked))]


def test_a_pipelined_call_is_let_in_by_the_end_of_the_one_before() -> None:
    """A client with one call at a time may send the next before it has the answer; it waits its turn and is served."""
    gateway = Gateway("vllm-amd", "rest", ONE_CALL)
    asked = ClientConnection(_As(gateway.service), Limits(), lambda: None)
    asked.flush = lambda: asked.receive(b"")  # as `DirectProtocol` takes a turn at once
    request = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 26\r\n\r\n" + b'{"model":"m","prompt":"a"}'
    asked.receive(request + request)
    for number in range(2):
        assert len(gateway.upstream.calls) == number + 1
        gateway.answer(b"{}", headers=(*JSON, ("content-length", "2")))
        asked.receive(b"")
    output = asked.take_output()
    assert (output.count(b"HTTP/1.1 200"), output.count(b"HTTP/1.1 429")) == (2, 0)


@pytest.mark.parametrize("name", ["translated", "passed through", "gRPC passed through", "messages passed through"])
@pytest.mark.parametrize("leaves", [False, True])
def test_a_call_that_is_over_leaves_nothing_to_the_garbage_collector(name: str, leaves: bool) -> None:
    """Call and exchange hold each other only while the call lasts."""
    kind = KINDS[name]
    gateway = Gateway(kind.runtime, kind.protocol, ONE_CALL)
    gc.disable()
    try:
        _, sink = gateway.call(kind.path, kind.body, kind.headers)
        gone = weakref.ref(sink)
        if leaves:
            sink.on_cancel()
        else:
            gateway.answer(*kind.pieces, headers=kind.answered)
        gateway.upstream.calls.clear()
        del sink
        assert gone() is None
    finally:
        gc.enable()


# tokens


def test_the_next_call_waits_for_what_the_last_one_used(kind: Kind) -> None:
    """A call is let in while a token is left; after its answer its caller waits, and nobody else does."""
    gateway = Gateway(kind.runtime, kind.protocol, Rates(tokens_per_minute=2))
    gateway.call(kind.path, kind.body, kind.headers)
    assert not gateway.is_full(kind.path, kind.headers)
    gateway.answer(*kind.pieces, headers=kind.answered)
    client, _ = gateway.begin(kind.path, kind.headers)
    assert client.ended
    assert not gateway.is_full(kind.path, kind.headers, BOB)
    seconds = client.get("retry-after")
    assert seconds is not None
    gateway.now += int(seconds) * MINUTE // 60
    assert not gateway.is_full(kind.path, kind.headers)


def test_a_stream_counts_while_it_runs() -> None:
    """Another call waits for the tokens of a stream that has not ended."""
    kind = KINDS["translated events"]
    gateway = Gateway(kind.runtime, kind.protocol, Rates(tokens_per_minute=5))
    gateway.call(kind.path, kind.body)
    _, receiver = gateway.upstream.calls[-1]
    receiver.on_head(200, GRPC)
    receiver.on_data(message(input_token_count=3) + message(text="x", generated_token_count=1))
    assert not gateway.is_full(kind.path)
    receiver.on_data(message(text="x", generated_token_count=2))
    assert gateway.is_full(kind.path)


# refusals


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], GatewayService]:
    """Makes a gateway of settings, for one upstream; everybody has one request a minute."""

    def make(upstream: str) -> GatewayService:
        monkeypatch.setattr(build, "open_pool", lambda *_, **__: Upstream())
        plain = build.settings(None, {}, Flags(upstream=(upstream,)))
        auth = AuthSettings((NoneSettings(),), rules=(Rule(rates=Rates(requests_per_minute=1)),))
        return build.service(dataclasses.replace(plain, auth=auth))

    return make


def second(service: GatewayService, path: str, body: bytes, headers: Headers) -> Client:
    """What the second caller within a minute gets."""
    for _ in range(2):
        client = Client()
        sink = service.open(RequestHead("POST", path, "a", headers, "1.1"), client)
        sink.on_data(body)
        sink.on_end()
    assert client.ended
    return client


TEXT = "too many requests for this caller: at most 1 a minute; try again in 60 s"


@pytest.mark.parametrize(
    ("upstream", "path", "body", "told"),
    [
        (
            "vllm-amd=http://127.0.0.1:1",
            "/v1/completions",
            COMPLETION,
            {"error": {"message": TEXT, "type": "RateLimitError", "param": None, "code": 429}},
        ),
        ("triton=http://127.0.0.1:1", "/v2/models/m/infer", INFER, {"error": TEXT}),
        (
            "tgis=grpc://127.0.0.1:1",
            "/api/v1/task/text-generation",
            b'{"model_id":"m","inputs":"a"}',
            {"details": TEXT, "code": 429},
        ),
        (
            "tgis=grpc://127.0.0.1:1",
            GENERATE,
            b'{"requests":[{"text":"a"}]}',
            {"code": "resource_exhausted", "message": TEXT},
        ),
    ],
)
def test_a_refusal_in_json(
    upstream: str, path: str, body: bytes, told: dict[str, object], limited: Callable[[str], GatewayService]
) -> None:
    """In the words of OpenAI, V2, Caikit and Connect: 429, what is the limit, and `Retry-After`."""
    client = second(limited(upstream), path, body, JSON)
    assert (client.status, header(client.headers, "retry-after")) == (429, "60")
    got = json.loads(client.body)
    assert {name: got[name] for name in told} == told


@pytest.mark.parametrize(
    ("upstream", "path"),
    [
        ("tgis=grpc://127.0.0.1:1", GENERATE),
        ("vllm-amd=http://127.0.0.1:1", "/inferbridge.openai.OpenaiService/Completions"),
    ],
)
def test_a_refusal_in_grpc(upstream: str, path: str, limited: Callable[[str], GatewayService]) -> None:
    """RESOURCE_EXHAUSTED with the seconds in the metadata, also where the call becomes one of REST."""
    client = second(limited(upstream), path, b"\0\0\0\0\0", GRPC)
    assert (client.status, client.get("grpc-status"), client.get("retry-after")) == (200, "8", "60")
    assert client.get("grpc-message") == TEXT


def test_a_refusal_in_a_stream_of_envelopes(limited: Callable[[str], GatewayService]) -> None:
    """Connect tells of it in the last envelope, with the seconds as metadata."""
    body = b'{"request":{"text":"a"}}'
    headers = (("content-type", "application/connect+json"),)
    client = second(
        limited("tgis=grpc://127.0.0.1:1"), GENERATE_STREAM, struct.pack(">BI", 0, len(body)) + body, headers
    )
    end = json.loads(client.body[5:])
    assert end["error"] == {"code": "resource_exhausted", "message": TEXT}
    assert end["metadata"] == {"retry-after": ["60"]}


def test_a_call_of_two_forms_is_one_call(limited: Callable[[str], GatewayService]) -> None:
    """What becomes a gRPC call, or a REST call, inside the gateway has one lease and not two."""
    client = Client()
    sink = limited("tgis=grpc://127.0.0.1:1").open(RequestHead("POST", GENERATE, "a", JSON, "1.1"), client)
    sink.on_data(b'{"requests":[{"text":"a"}]}')
    sink.on_end()
    assert not client.ended


def test_health_is_not_limited(limited: Callable[[str], GatewayService]) -> None:
    """What the gateway answers itself uses nothing of anybody's limits."""
    client = second(limited("tgis=grpc://127.0.0.1:1"), "/grpc.health.v1.Health/Check", b"\0\0\0\0\0", GRPC)
    assert client.get("grpc-status") != "8"


def test_a_rule_without_rates_limits_nobody() -> None:
    """A caller whose rule has no rates is served as if there were no limits at all."""
    rules = (Rule(subjects=("ann",)), Rule(rates=Rates(requests_per_minute=1)))
    upstream = Upstream()
    targets = [Target("vllm", profile, "rest", upstream) for profile in PROFILES["vllm-amd"]]
    service = GatewayService(targets, APIS, Policy(), Limits(), None, Authorizer(rules))
    statuses = []
    for identity in (ANN, ANN, ANN, BOB, BOB):
        client = Client()
        service.open(RequestHead("POST", "/v1/completions", "a", JSON, "1.1", identity=identity), client)
        statuses.append(client.status)
    assert statuses == [0, 0, 0, 0, 429]


# both sides stream

STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


def infer(name: str) -> bytes:
    """A framed request that names itself."""
    tensor = v2.ModelInferRequest_InferInputTensor(name="x", datatype="INT32", shape=[1])
    request = v2.ModelInferRequest(model_name="m", id=name, inputs=[tensor], raw_input_contents=[b"\1\0\0\0"])
    return b"".join(frame([v2.encode_ModelInferRequest(request)]))


def test_each_message_over_a_bridge_is_a_request() -> None:
    """A stream is one call at a time, and each of its messages a request; one over the limit is told in the stream."""
    gateway = Gateway("triton", "rest", Rates(requests_per_minute=2, concurrent_calls=1))
    client, sink = gateway.begin(STREAM_INFER, GRPC)
    answer = b'{"model_name":"m","outputs":[{"name":"y","datatype":"INT32","shape":[1],"data":[1]}]}'
    for name in ("one", "two"):
        sink.on_data(infer(name))
        gateway.answer(answer)
    sent = len(client.body)
    sink.on_data(infer("three"))
    assert len(gateway.upstream.calls) == 2
    assert b"too many requests for this caller: at most 2 a minute" in client.body[sent:]
    assert not client.ended
    sink.on_end()
    assert client.trailers == OK
    gateway.now += MINUTE
    assert not gateway.is_full(STREAM_INFER, GRPC)


def test_messages_over_a_bridge_are_counted_where_tokens_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they have any is the bridge's to know, and it is asked."""
    asked = []

    def over(self: Metering, bridge: Bridge, used: Used) -> Bridge:
        asked.append(used)
        return bridge

    monkeypatch.setattr(Metering, "over", over)
    for rates in (ONE_CALL, Rates(tokens_per_minute=1)):
        _, sink = Gateway("triton", "rest", rates).begin(STREAM_INFER, GRPC)
        sink.on_data(infer("one"))
    assert len(asked) == 1


def test_a_stream_that_is_passed_through_is_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages go on unread, so that it is one request and one call, until either side ends it."""
    pool = Duplex()
    monkeypatch.setattr(build, "open_pool", lambda *_, **__: pool)
    plain = build.settings(None, {}, Flags(upstream=("triton=grpc://127.0.0.1:1",)))
    rule_of_all = Rule(rates=Rates(requests_per_minute=10, concurrent_calls=1))
    service = build.service(dataclasses.replace(plain, auth=AuthSettings((NoneSettings(),), rules=(rule_of_all,))))

    def opened() -> tuple[Client, RequestSink]:
        client = Client()
        return client, service.open(RequestHead("POST", STREAM_INFER, "a", GRPC, "2"), client)

    client, sink = opened()
    for number in range(20):
        sink.on_data(infer(str(number)))
    assert not client.ended
    assert opened()[0].get("grpc-status") == "8"
    sink.on_cancel()
    client, sink = opened()
    assert not client.ended
