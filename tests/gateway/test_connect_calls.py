"""Calls in Connect's form in memory: what is lost is named, streams are taken as they come, refusals are Connect's."""

import json
import struct
from collections.abc import Callable

import pytest

from gateway.test_service import Client
from gateway.test_translating import Upstream
from inferbridge.bridge.connect_messages import END, EnvelopeReader
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.config import Flags
from inferbridge.gateway import build
from inferbridge.gateway.application import RequestHead, RequestSink
from inferbridge.gateway.service import GatewayService
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated.tgis import wire

GENERATE = "/fmaas.GenerationService/Generate"
STREAM = "/fmaas.GenerationService/GenerateStream"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
JSON: Headers = (("content-type", "application/json"),)
ENVELOPES: Headers = (("content-type", "application/connect+json"),)
GRPC: Headers = (("content-type", "application/grpc"),)
UNKNOWN = b"\xf8\x07\x01"  # field 127


@pytest.fixture(autouse=True)
def no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life need an event loop, which these tests have none of."""
    monkeypatch.setattr("inferbridge.gateway.calls.pulse.Pulse.start", lambda self: None)


def gateway(upstream: str, monkeypatch: pytest.MonkeyPatch) -> tuple[GatewayService, Upstream]:
    """A gateway in front of one upstream, `runtime=url`, whose calls the test answers."""
    pool = Upstream()
    monkeypatch.setattr(build, "open_pool", lambda *_, **__: pool)
    return build.service(build.settings(None, {}, Flags(upstream=(upstream,)))), pool


def opened(service: GatewayService, rpc: str, headers: Headers) -> tuple[Client, RequestSink]:
    """A call that has begun."""
    client = Client()
    return client, service.open(RequestHead("POST", rpc, "a", headers, "1.1"), client)


def envelope(text: bytes) -> bytes:
    """A message of a Connect stream."""
    return struct.pack(">BI", 0, len(text)) + text


def answered(rpc: str, headers: Headers, body: bytes, messages: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Client:
    """What a client gets when a TGIS runtime answers with these messages."""
    service, pool = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    client, sink = opened(service, rpc, headers)
    sink.on_data(body)
    sink.on_end()
    _, receiver = pool.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(b"".join(frame((message,) for message in messages)))
    receiver.on_end((("grpc-status", "0"),))
    assert client.ended
    return client


def test_a_field_that_has_no_name_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer runtime answers beyond our proto cannot be written as JSON, so it is named in a header."""
    client = answered(GENERATE, JSON, b'{"requests":[{"text":"a"}]}', [UNKNOWN], monkeypatch)
    assert (client.status, client.body) == (200, b"{}")
    assert ("x-inferbridge-lost", "fmaas.BatchedGenerationResponse#127") in client.headers


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream", "application/json"])
def test_in_a_stream_the_trailers_tell_of_it(accept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The head has gone by then; what several messages have is named once."""
    message = b"".join(map(bytes, wire.encode_GenerationResponse(wire.GenerationResponse(text="x")))) + UNKNOWN
    headers = (*JSON, ("accept", accept))
    client = answered(STREAM, headers, b'{"request":{"text":"a"}}', [message, message], monkeypatch)
    assert client.body.count(b'{"text":"x"}') == 2
    assert client.trailers == (("x-inferbridge-lost", "fmaas.GenerationResponse#127"),)


def test_among_envelopes_the_last_one_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect's trailing metadata stand in the end of the stream."""
    client = answered(STREAM, ENVELOPES, envelope(b'{"request":{"text":"a"}}'), [UNKNOWN], monkeypatch)
    reader = EnvelopeReader(1000, reply=True)
    assert [bytes(each) for each in reader.feed(client.body)] == [b"{}"]
    assert reader.end is not None
    assert reader.end.metadata == (("x-inferbridge-lost", "fmaas.GenerationResponse#127"),)


def test_the_runtimes_own_dialect_of_a_proto_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata of an MLServer model have parameters, which the proto of others lacks: JSON has them too."""
    service, pool = gateway("mlserver=grpc://127.0.0.1:1", monkeypatch)
    rpc = "/inference.GRPCInferenceService/ModelMetadata"
    client, sink = opened(service, rpc, JSON)
    sink.on_data(b'{"name":"m"}')
    sink.on_end()
    _, receiver = pool.calls[0]
    receiver.on_head(200, GRPC)
    entry = b"\x0a\x01k\x12\x02\x08\x01"  # parameters: {"k": {bool_param: true}}
    receiver.on_data(b"".join(frame([(b"\x0a\x01m2" + bytes([len(entry)]) + entry,)])))
    receiver.on_end((("grpc-status", "0"),))
    assert json.loads(client.body) == {"name": "m", "parameters": {"k": {"boolParam": True}}}


def test_a_stream_of_questions_is_answered_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each envelope of a client is read when it is complete, not at the end of the call."""
    service, _ = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    client, sink = opened(service, REFLECTION, ENVELOPES)
    question = envelope(b'{"listServices":""}')
    sink.on_data(question[:7])
    assert client.body == b""
    sink.on_data(question[7:])
    assert client.body.count(b"listServicesResponse") == 1
    sink.on_data(question)
    assert client.body.count(b"listServicesResponse") == 2
    assert not client.ended
    sink.on_end()
    assert client.ended
    assert client.body[-7] == END


@pytest.mark.parametrize(
    ("body", "words"), [(envelope(b"{}") * 2, "got more"), (b"", "got none"), (b"\0\0\0\0\5{}", "cut off")]
)
def test_a_method_that_takes_one_message_gets_one(body: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two envelopes, none or half a one are refused; nothing is left running at the runtime."""
    service, pool = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    client, sink = opened(service, STREAM, ENVELOPES)
    sink.on_data(body)
    sink.on_end()
    assert client.ended
    assert words.encode() in client.body
    assert pool.calls == []


def test_a_client_that_leaves_ends_the_runtimes_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling reaches the runtime."""
    service, pool = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    client, sink = opened(service, STREAM, JSON)
    sink.on_data(b'{"request":{"text":"a"}}')
    sink.on_end()
    sink.on_cancel()
    assert pool.cancelled == [0]
    assert not client.ended


def test_a_request_that_cannot_be_accepted_is_refused_in_connects_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the codecs and the layer refuse has Connect's error object where the path is a method's."""
    service, _ = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    client = Client()
    service.refuse(BridgeError(Code.RESOURCE_EXHAUSTED, "much"), RequestHead("POST", GENERATE, "a", JSON, "2"), client)
    assert (client.status, json.loads(client.body)) == (429, {"code": "resource_exhausted", "message": "much"})


def test_the_message_is_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON names in either spelling become the same protobuf fields."""
    service, pool = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    for text in (b'{"model_id":"m","requests":[{"text":"a"}]}', b'{"modelId":"m","requests":[{"text":"a"}]}'):
        _, sink = opened(service, GENERATE, JSON)
        sink.on_data(text)
        sink.on_end()
    sent = [unframe(b"".join(map(bytes, request.chunks)), "identity", 1000) for request, _ in pool.calls]
    assert sent[0] == sent[1]
    assert wire.decode_BatchedGenerationRequest(sent[0][0][0], []).model_id == "m"


async def test_the_clients_deadline_is_the_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`connect-timeout-ms` goes on as `grpc-timeout`; what belongs to HTTP stays behind, metadata cross."""
    service, pool = gateway("tgis=grpc://127.0.0.1:1", monkeypatch)
    headers = (*JSON, ("connect-timeout-ms", "1500"), ("accept-encoding", "br"), ("x-trace", "7"))
    _, sink = opened(service, GENERATE, headers)
    sink.on_data(b"{}")
    sink.on_end()
    sent = dict(pool.calls[0][0].headers)
    assert (sent["content-type"], sent["grpc-timeout"], sent["x-trace"]) == ("application/grpc", "1500m", "7")
    assert not {"connect-timeout-ms", "accept-encoding"} & sent.keys()


class Duplex(Upstream):
    """A pool whose calls may go both ways at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.complete = False
        self.has_room = True
        self.drained: Callable[[], None] = lambda: None

    def begin(
        self, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None], timeout: float | None = None
    ) -> "_Growing":
        self.calls.append((request, receiver))
        self.drained = drained
        return _Growing(self)


class _Growing:
    def __init__(self, pool: Duplex) -> None:
        self._pool = pool

    def write(self, data: Buffer) -> bool:
        self._pool.written.append(bytes(data))
        return self._pool.has_room

    def finish(self) -> None:
        self._pool.complete = True

    def cancel(self) -> None:
        """Nothing is under way."""


def test_envelopes_go_both_ways_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over HTTP/2 each message of a stream reaches the runtime, and its answer the client, while both are open."""
    pool = Duplex()
    monkeypatch.setattr(build, "open_pool", lambda *_, **__: pool)
    service = build.service(build.settings(None, {}, Flags(upstream=("triton=grpc://127.0.0.1:1",))))
    client = Client()
    rpc = "/inference.GRPCInferenceService/ModelStreamInfer"
    sink = service.open(RequestHead("POST", rpc, "a", ENVELOPES, "2"), client)
    reader = EnvelopeReader(1000, reply=True)
    sink.on_data(envelope(b'{"modelName":"one"}'))
    assert unframe(b"".join(pool.written), "identity", 1000) == ((b"\x0a\3one",),)
    _, receiver = pool.calls[0]
    receiver.on_head(200, GRPC)
    receiver.on_data(b"".join(frame([(b"\x0a\2no",)])))
    assert [json.loads(bytes(each)) for each in reader.feed(client.body)] == [{"errorMessage": "no"}]
    assert not pool.complete
    sink.on_data(envelope(b'{"modelName":"two"}'))
    assert len(unframe(b"".join(pool.written), "identity", 1000)) == 2
    sink.on_end()
    assert pool.complete
    receiver.on_end((("grpc-status", "0"),))
    assert client.ended


def test_a_runtime_without_room_holds_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of envelopes is no faster than the runtime takes it."""
    pool = Duplex()
    monkeypatch.setattr(build, "open_pool", lambda *_, **__: pool)
    service = build.service(build.settings(None, {}, Flags(upstream=("triton=grpc://127.0.0.1:1",))))
    said: list[str] = []
    client = Client()
    monkeypatch.setattr(client, "hold", lambda: said.append("hold"))
    monkeypatch.setattr(client, "resume", lambda: said.append("resume"))
    rpc = "/inference.GRPCInferenceService/ModelStreamInfer"
    sink = service.open(RequestHead("POST", rpc, "a", ENVELOPES, "2"), client)
    sink.on_data(envelope(b"{}"))
    assert said == []
    pool.has_room = False
    sink.on_data(envelope(b"{}"))
    assert said == ["hold"]
    pool.drained()
    assert said == ["hold", "resume"]
