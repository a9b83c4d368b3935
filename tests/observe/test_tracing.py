"""Spans made of records, by the SDK's own in-memory exporter: ids, parents, names and attributes."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from gateway.test_recording import Kept, failing_with
from gateway.test_request_ids import CORNERS, sent
from gateway.test_service import INFER, Client, Runtime, infer_reply, silent, target
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import frame
from inferbridge.bridge.values import Headers
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.connect.calls import ConnectGateway
from inferbridge.gateway.connect.methods import methods_of
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord, UpstreamCall
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe import conventions
from inferbridge.observe.access_log import line_of
from inferbridge.observe.tracing import Tracing
from inferbridge.protos import methods
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Receiver, UpstreamRequest
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from inferbridge_generated.tgis import wire

PATH = "/v2/models/m/infer"
TRACE, PARENT = "a" * 32, "b" * 16
VALID = f"00-{TRACE}-{PARENT}-01"
METHODS = methods_of((methods("open-inference"),), lambda rpc: False)
BATCH = (("content-type", "application/grpc"),)


@dataclass
class Traced:
    """A gateway whose calls are traced."""

    targets: list[Target]
    sampler: Sampler = field(default_factory=lambda: ParentBased(ALWAYS_ON))
    kept: Kept = field(default_factory=Kept)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        inner = GatewayService(self.targets, APIS, Policy(), Limits())
        inner.connect = ConnectGateway(METHODS, Limits(), inner.open, inner.lost_in_message)
        provider = TracerProvider(sampler=self.sampler, shutdown_on_exit=False)
        tracing = Tracing(provider, "1", SimpleSpanProcessor(self.exporter).on_end)
        self.recorder = Recorder(inner, [tracing, self.kept])

    def call(self, path: str, body: bytes, headers: Headers = (), method: str = "POST") -> Client:
        """A whole call; a client whose answer does not come leaves."""
        client = Client()
        sink = self.recorder.open(RequestHead(method, path, "a", headers, "1.1", peer="10.0.0.1:5"), client)
        sink.on_data(body)
        sink.on_end()
        if not client.ended:
            sink.on_cancel()
        return client

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        """Those that are finished."""
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]

    @property
    def pair(self) -> tuple[ReadableSpan, ReadableSpan]:
        """The call's and its runtime's."""
        (server,), (client,) = self.spans(SpanKind.SERVER), self.spans(SpanKind.CLIENT)
        return server, client


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes."""
    return dict(span.attributes or {})


def completion(request: UpstreamRequest, receiver: Receiver) -> None:
    """A vLLM that speaks REST."""
    choice = {"index": 0, "text": "x", "finish_reason": "stop"}
    usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
    answer = {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    receiver.on_head(200, (("content-type", "application/json"),))
    receiver.on_data(json.dumps(answer).encode())
    receiver.on_end(())


def vllm(answering: Callable[[UpstreamRequest, Receiver], None]) -> Target:
    """A target that generates text."""
    setting, where = Setting(operations=operations), Address("http", "runtime.test", 8000)
    return Target("two", PROFILES["vllm-nvidia"][0], "rest", Runtime(answering), setting=setting, address=where)


def batch(*texts: str) -> bytes:
    """A call of TGIS's API, framed."""
    asked = wire.BatchedGenerationRequest(model_id="m", requests=[wire.GenerationRequest(text=text) for text in texts])
    return b"".join(bytes(part) for part in frame([wire.encode_BatchedGenerationRequest(asked)]))


GENERATE = "/fmaas.GenerationService/Generate"


@pytest.mark.parametrize(("answer", "protocol", "path", "body", "headers"), CORNERS)
def test_the_runtime_gets_a_child_of_our_span(
    answer: Any, protocol: str, path: str, body: bytes, headers: Headers
) -> None:
    """REST, gRPC and Connect: one `traceparent` goes upstream, that of a span below the call's; other contexts stay."""
    runtime = Runtime(answer)
    traced = Traced([target(runtime, protocol=protocol)])
    context = (
        ("traceparent", VALID),
        ("tracestate", "v=1"),
        ("tracestate", "w=2"),
        ("b3", "0"),
        ("grpc-trace-bin", "AA"),
    )
    traced.call(path, body, (*headers, *context))
    server, client = traced.pair
    assert server.parent is not None
    assert client.parent is not None
    assert (f"{server.context.trace_id:032x}", f"{server.parent.span_id:016x}") == (TRACE, PARENT)
    assert client.parent.span_id == server.context.span_id
    assert sent(runtime.sent[0], "traceparent") == [f"00-{TRACE}-{client.context.span_id:016x}-01"]
    assert sent(runtime.sent[0], "tracestate") == ["v=1", "w=2"]
    assert (sent(runtime.sent[0], "b3"), sent(runtime.sent[0], "grpc-trace-bin")) == (["0"], ["AA"])
    assert dict(server.context.trace_state) == {"v": "1", "w": "2"}


@pytest.mark.parametrize(
    "sent_by_client",
    [
        (),
        (("traceparent", VALID.upper()),),
        (("traceparent", VALID + "-more"),),
        (("traceparent", VALID.replace("a", "0")),),
        (("traceparent", VALID), ("traceparent", VALID)),
        (("traceparent", "x" * 10_000),),
    ],
)
def test_an_invalid_context_begins_a_new_trace(sent_by_client: Headers) -> None:
    """Missing, malformed or doubled: the call is answered in a trace of its own, and the old state goes no further."""
    runtime = Runtime(infer_reply)
    traced = Traced([target(runtime)])
    assert traced.call(PATH, INFER, (*sent_by_client, ("tracestate", "v=1"))).status == 200
    server, client = traced.pair
    assert server.parent is None
    assert f"{server.context.trace_id:032x}" not in {TRACE, "0" * 32}
    assert sent(runtime.sent[0], "traceparent") == [
        f"00-{server.context.trace_id:032x}-{client.context.span_id:016x}-01"
    ]
    assert sent(runtime.sent[0], "tracestate") == []


@pytest.mark.parametrize(
    ("sampler", "flags", "recorded"),
    [
        (ParentBased(ALWAYS_ON), "00", False),
        (ParentBased(ALWAYS_OFF), "01", True),
        (ParentBased(ALWAYS_ON), "02", False),
        (ALWAYS_ON, "00", True),
        (ALWAYS_OFF, "01", False),
    ],
)
def test_the_sampler_decides_and_the_runtime_is_told(sampler: Sampler, flags: str, recorded: bool) -> None:
    """What is not sampled leaves no span, and the runtime gets the flag; the access log has our span's ids anyway."""
    runtime = Runtime(infer_reply)
    traced = Traced([target(runtime)], sampler)
    traced.call(PATH, INFER, (("traceparent", f"00-{TRACE}-{PARENT}-{flags}"),))
    assert bool(traced.exporter.get_finished_spans()) == recorded
    (value,) = sent(runtime.sent[0], "traceparent")
    assert int(value[-2:], 16) & 1 == recorded
    line = line_of(traced.kept.one)
    assert line.trace_id == TRACE
    assert line.span_id not in {PARENT, None, value.split("-")[2]}


def test_calls_of_a_batch_have_a_span_each() -> None:
    """Two texts for a runtime that takes one at a time: two children of one span, two contexts; tokens are the sum."""
    upstream = vllm(completion)
    traced = Traced([upstream])
    traced.call(GENERATE, batch("a", "b"), BATCH)
    (server,), clients = traced.spans(SpanKind.SERVER), traced.spans(SpanKind.CLIENT)
    assert [span.parent.span_id for span in clients if span.parent] == [server.context.span_id] * 2
    assert isinstance(upstream.pool, Runtime)
    contexts = [sent(request, "traceparent")[0].split("-")[2] for request in upstream.pool.sent]
    assert contexts == [f"{span.context.span_id:016x}" for span in clients]
    assert len(set(contexts)) == 2
    assert told(server)["gen_ai.usage.output_tokens"] == 2
    assert told(server)["gen_ai.response.finish_reasons"] == ("stop", "stop")
    assert "gen_ai.response.finish_reasons" not in told(clients[0])
    assert "gen_ai.usage.output_tokens" not in told(clients[0])


def events(request: UpstreamRequest, receiver: Receiver) -> None:
    """A vLLM that streams."""
    receiver.on_head(200, (("content-type", "text/event-stream"),))
    receiver.on_data(b'data: {"choices":[{"index":0,"text":"x","finish_reason":"stop"}]}\n\n')
    receiver.on_data(b"data: [DONE]\n\n")
    receiver.on_end(())


def test_a_stream_tells_when_it_began() -> None:
    """The time to the first chunk stands on the runtime's span, and lies within it; the chunks arrive."""
    traced = Traced([vllm(events)])
    client = traced.call("/v1/completions", b'{"model":"m","prompt":"a","stream":true}')
    assert client.body.endswith(b"data: [DONE]\n\n")
    _, span = traced.pair
    assert span.start_time is not None
    assert span.end_time is not None
    assert 0 < told(span)["gen_ai.response.time_to_first_chunk"] <= (span.end_time - span.start_time) / 1e9
    assert told(span)["gen_ai.request.stream"] is True


def models(request: UpstreamRequest, receiver: Receiver) -> None:
    """A vLLM that has one model."""
    receiver.on_head(200, (("content-type", "application/json"),))
    receiver.on_data(b'{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}')
    receiver.on_end(())


def test_calls_for_a_joined_list_have_a_span_each() -> None:
    """Both upstreams that are asked are children of the one call, by their names."""
    traced = Traced([replace(vllm(models), name=name) for name in ("one", "two")])
    assert traced.call("/v1/models", b"", method="GET").status == 200
    (server,), clients = traced.spans(SpanKind.SERVER), traced.spans(SpanKind.CLIENT)
    assert [told(span)["inferbridge.upstream"] for span in clients] == ["one", "two"]
    assert {span.parent.span_id for span in clients if span.parent} == {server.context.span_id}


def test_a_call_that_generates_is_told_as_genai_does() -> None:
    """Operation, model, provider and tokens on the runtime's span, HTTP or RPC on both, and where it went."""
    traced = Traced([vllm(completion)])
    traced.call(GENERATE, batch("a"), (*BATCH, ("x-request-id", "mine")))
    server, client = traced.pair
    assert (server.name, client.name) == (GENERATE[1:], "text_completion m")
    assert told(server) == {
        "rpc.system.name": "grpc", "rpc.method": GENERATE[1:], "rpc.response.status_code": "OK",
        "client.address": "10.0.0.1", "client.port": 5,
        "inferbridge.request_id": "mine", "inferbridge.api": "tgis", "inferbridge.operation": "generate",
    }  # fmt: skip
    assert told(client) == {
        "inferbridge.upstream": "two", "inferbridge.runtime": "vllm-nvidia",
        "server.address": "runtime.test", "server.port": 8000,
        "http.request.method": "POST", "http.response.status_code": 200,
        "gen_ai.operation.name": "text_completion", "gen_ai.provider.name": "vllm-nvidia", "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 2, "gen_ai.usage.output_tokens": 1,
        "gen_ai.response.id": "1", "gen_ai.response.model": "m", "gen_ai.response.finish_reasons": ("stop",),
    }  # fmt: skip
    assert server.status.status_code is client.status.status_code is StatusCode.UNSET
    scope = server.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url) == ("inferbridge", conventions.SCHEMA)


def test_a_rest_call_is_told_as_http_does() -> None:
    """The path is that of the specs; neither the one that was sent nor its query is anywhere."""
    traced = Traced([target(Runtime(infer_reply))])
    traced.call(f"{PATH}?token=secret", INFER)
    server, client = traced.pair
    assert server.name == "POST /v2/models/{model}/infer"
    assert client.name == "inference.GRPCInferenceService/ModelInfer"
    found = told(server)
    assert (found["http.request.method"], found["http.route"]) == ("POST", "/v2/models/{model}/infer")
    assert (found["http.response.status_code"], found["network.protocol.version"]) == (200, "1.1")
    assert told(client)["rpc.response.status_code"] == "OK"
    assert "secret" not in str([told(span) for span in (server, client)])


def test_a_call_that_nobody_waits_for_ends_its_spans() -> None:
    """The client leaves: the runtime's span is cancelled, the call's is no error of ours."""
    traced = Traced([target(Runtime(silent))])
    traced.call(PATH, INFER)
    server, client = traced.pair
    assert told(client)["error.type"] == told(client)["rpc.response.status_code"] == "CANCELLED"
    assert told(server)["inferbridge.flags"] == ("DC",)
    assert (server.status.status_code, client.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)
    assert server.end_time == client.end_time


def test_a_runtime_that_fails_is_an_error_on_both_spans() -> None:
    """Its kind is told, and what it said is not."""
    traced = Traced([target(Runtime(failing_with(Code.UNAVAILABLE, "secret")))])
    assert traced.call(PATH, INFER).status == 503
    server, client = traced.pair
    assert (told(server)["error.type"], told(client)["error.type"]) == ("503", "UNAVAILABLE")
    assert server.status.status_code is client.status.status_code is StatusCode.ERROR
    assert "secret" not in str([(told(span), span.status.description) for span in (server, client)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"protocol": "gRPC", "status": 200, "grpc_status": 5}, ""),
        ({"protocol": "gRPC", "status": 200, "grpc_status": 13}, "INTERNAL"),
        ({"protocol": "gRPC", "status": 200, "grpc_status": 99}, ""),
        ({"protocol": "HTTP/2", "status": 404, "error": "no"}, ""),
        ({"protocol": "HTTP/2", "status": 502}, "502"),
        ({"protocol": "HTTP/2", "status": 200, "error": "cut", "code": Code.UNAVAILABLE}, "UNAVAILABLE"),
        ({"protocol": "HTTP/2", "status": 200, "error": "its own word"}, "_OTHER"),
        ({"protocol": "HTTP/2"}, "_OTHER"),
        ({"protocol": "HTTP/2", "flags": ("DC",)}, ""),
    ],
)
def test_what_is_an_error_of_a_call(changes: dict[str, Any], expected: str) -> None:
    """Faults here and at runtimes are; what the client did wrong, and that it left, are not."""
    assert conventions.server_error(CallRecord(**changes)) == expected


@pytest.mark.parametrize(
    ("operation", "endpoint", "name"),
    [
        ("generate", "chat", "chat m"),
        ("generate", "completions", "text_completion m"),
        ("embed", "embeddings", "embeddings m"),
        ("infer", "model_infer", "POST"),
    ],
)
def test_names_of_operations(operation: str, endpoint: str, name: str) -> None:
    """GenAI's words where it has some; else the method."""
    record = CallRecord(operation=operation, endpoint=endpoint, model="m")
    assert conventions.client_name(record, upstream_call()) == name


def upstream_call(**changes: Any) -> UpstreamCall:
    """A call of a runtime over REST."""
    known = {"upstream": "u", "runtime": "r", "protocol": "rest", "host": "h", "port": 1, "method": "POST", "rpc": ""}
    return UpstreamCall(traceparent=VALID, began=1.0, ended=2.0, **(known | changes))


def test_the_first_piece_of_a_stream_is_timed() -> None:
    """From the runtime's head to the first byte that it answers."""
    record = CallRecord(operation="generate", streamed=True)
    found = conventions.client_attributes(record, upstream_call(first_byte=1.25))
    assert (found["gen_ai.response.time_to_first_chunk"], found["gen_ai.request.stream"]) == (0.25, True)


def test_methods_that_clients_make_up_are_no_names() -> None:
    """What is no method of HTTP is `_OTHER`, so that spans have few names."""
    record = CallRecord(method="BREW", protocol="HTTP/1.1", status=404)
    assert (conventions.server_name(record), conventions.server_attributes(record)["http.request.method"]) == (
        "HTTP", "_OTHER",
    )  # fmt: skip
