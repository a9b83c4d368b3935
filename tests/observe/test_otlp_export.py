"""A proxy on real sockets that sends traces and metrics to a collector; clients and runtimes of both protocols."""

import asyncio
import logging
from pathlib import Path

import grpc.aio
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from gateway.serving import TIMEOUT, curl
from gateway.test_connect import Tgis
from gateway.test_rest_services import Vllm
from inferbridge.config import Listener, Settings, Upstream
from inferbridge.run import running
from inferbridge.upstream.address import Address
from inferbridge_generated.tgis import wire
from observe.collector import Collector, attributes, collecting

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
STATE = "vendor=1,other=2"
GENERATE = "/fmaas.GenerationService/Generate"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """mitmproxy keeps its authority in a folder of the test; metrics are not sent; the SDK has not complained yet."""
    sdk = logging.getLogger("opentelemetry")
    monkeypatch.setattr(sdk, "handlers", [])
    monkeypatch.setattr(sdk, "propagate", True)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    return monkeypatch


def settings(*upstreams: Upstream) -> Settings:
    """Of a proxy on any port."""
    return Settings(listen=(Listener("127.0.0.1", 0),), upstreams=upstreams)


def tgis(port: int) -> Upstream:
    """One that speaks gRPC."""
    return Upstream("one", "tgis", Address("grpc", "127.0.0.1", port))


def vllm(port: int) -> Upstream:
    """One that speaks REST."""
    return Upstream("two", "vllm-nvidia", Address("http", "127.0.0.1", port))


def batch(*texts: str) -> bytes:
    """A call of TGIS's API."""
    asked = wire.BatchedGenerationRequest(model_id="m", requests=[wire.GenerationRequest(text=text) for text in texts])
    return b"".join(bytes(part) for part in wire.encode_BatchedGenerationRequest(asked))


def ids(span: Span) -> tuple[str, str, str]:
    """Trace, span, parent."""
    return span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()


def assert_chain(collector: Collector, arrived: str) -> None:
    """Client's span, the call's, its runtime's, and what that was told: each is the child of the one before."""
    server, client = collector.one(Span.SPAN_KIND_SERVER), collector.one(Span.SPAN_KIND_CLIENT)
    assert ids(server)[0::2] == (TRACE, PARENT)
    assert ids(client)[0::2] == (TRACE, server.span_id.hex())
    assert arrived == f"00-{TRACE}-{client.span_id.hex()}-01"
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    assert server.trace_state == client.trace_state == STATE


async def test_an_http_clients_trace_goes_on_in_a_grpc_runtime(environment: pytest.MonkeyPatch) -> None:
    """The runtime's metadata name the child of our span, which is the child of the client's; the collector has both."""
    runtime = Tgis()
    async with asyncio.timeout(TIMEOUT), collecting() as collector, runtime.serving() as port:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=mine")
        async with running(settings(tgis(port))) as address:
            sent = ("-H", f"traceparent: {SAMPLED}", "-H", f"tracestate: {STATE}", "-H", "b3: 0")
            body = '{"model":"llama","prompt":"a","max_tokens":3}'
            await curl(*sent, "--json", body, f"http://{address}/v1/completions?api_key=x")
    assert_chain(collector, runtime.metadata["traceparent"])
    assert (runtime.metadata["tracestate"], runtime.metadata["b3"]) == (STATE, "0")
    assert collector.headers[0]["x-tenant"] == "mine"
    server, client = collector.one(Span.SPAN_KIND_SERVER), collector.one(Span.SPAN_KIND_CLIENT)
    assert (server.name, client.name) == ("POST /v1/completions", "text_completion llama")
    told = attributes(list(client.attributes))
    assert told["rpc.method"] == GENERATE[1:]
    assert (told["rpc.response.status_code"], told["gen_ai.usage.output_tokens"], told["server.port"]) == (
        "OK",
        3,
        port,
    )


async def test_a_grpc_clients_trace_goes_on_in_a_rest_runtime(environment: pytest.MonkeyPatch) -> None:
    """The same from metadata to headers."""
    runtime = Vllm()
    async with asyncio.timeout(TIMEOUT), collecting() as collector, runtime.serving() as port:
        environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{collector.url}/v1/traces")
        environment.setenv("OTEL_SERVICE_NAME", "bridge")
        async with running(settings(vllm(port))) as address, grpc.aio.insecure_channel(str(address)) as channel:
            metadata = (("traceparent", SAMPLED), ("tracestate", STATE), ("grpc-trace-bin", b"\0\1"))
            await channel.unary_unary(GENERATE)(batch("a"), metadata=metadata)
    headers = runtime.asked[0][2]
    assert_chain(collector, headers["traceparent"])
    assert (headers["tracestate"], headers["grpc-trace-bin"]) == (STATE, "aae")  # the fake lowers what it gets
    server = collector.one(Span.SPAN_KIND_SERVER)
    assert (server.name, attributes(list(server.attributes))["rpc.response.status_code"]) == (GENERATE[1:], "OK")
    assert attributes(list(collector.one(Span.SPAN_KIND_CLIENT).attributes))["http.response.status_code"] == 200
    (resource,) = [each.resource for one in collector.requests for each in one.resource_spans]  # type: ignore[attr-defined]  # only traces are sent
    assert attributes(list(resource.attributes))["service.name"] == "bridge"


async def test_what_the_client_does_not_sample_is_not_sent(environment: pytest.MonkeyPatch) -> None:
    """Without the flag nothing reaches the collector, and the runtime is told so, as the child of a span of ours."""
    runtime = Tgis()
    async with asyncio.timeout(TIMEOUT), collecting() as collector, runtime.serving() as port:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        async with running(settings(tgis(port))) as address:
            sent = ("-H", f"traceparent: {NOT_SAMPLED}")
            await curl(*sent, "--json", '{"model":"m","prompt":"a"}', f"http://{address}/v1/completions")
    assert collector.requests == []
    version, trace, span, flags = runtime.metadata["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")
    assert span != PARENT


@pytest.mark.parametrize("off", [{}, {"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
async def test_without_traces_the_context_crosses_untouched(
    environment: pytest.MonkeyPatch, off: dict[str, str]
) -> None:
    """Nobody has asked for traces, or somebody has said no: what the client sends is what the runtime gets."""
    runtime = Tgis()
    async with asyncio.timeout(TIMEOUT), collecting() as collector, runtime.serving() as port:
        if off:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        for name, value in off.items():
            environment.setenv(name, value)
        async with running(settings(tgis(port))) as address:
            sent = ("-H", f"traceparent: {SAMPLED}", "-H", f"tracestate: {STATE}")
            await curl(*sent, "--json", '{"model":"m","prompt":"a"}', f"http://{address}/v1/completions")
    assert (runtime.metadata["traceparent"], runtime.metadata["tracestate"]) == (SAMPLED, STATE)
    assert collector.requests == []


async def test_a_dead_collector_costs_nothing_but_a_few_lines(
    environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls are answered, what the log says is bounded and repeats no password, and the end is not held up."""
    environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@127.0.0.1:9")
    environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    environment.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    runtime = Tgis()
    async with asyncio.timeout(TIMEOUT), runtime.serving() as port, running(settings(tgis(port))) as address:
        for _ in range(20):
            answer = await curl("-i", "--json", '{"model":"m","prompt":"a"}', f"http://{address}/v1/completions")
            assert answer.startswith(b"HTTP/1.1 200")
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert 1 <= len(told) <= 4
    assert "Failed to export spans batch due to timeout, max retries or shutdown." in told
    assert not any("secret" in line or "127.0.0.1" in line for line in told)


@pytest.mark.parametrize(
    ("opted", "tokens"),
    [("", "gen_ai.client.token.usage"), ("http,gen_ai_latest_experimental", "gen_ai.client.inference.tokens")],
)
async def test_metrics_are_sent_in_the_names_of_the_conventions(
    environment: pytest.MonkeyPatch, opted: str, tokens: str
) -> None:
    """Durations with the buckets of the conventions, and tokens; the latest names only for who asks for them."""
    runtime = Vllm()
    async with asyncio.timeout(TIMEOUT), collecting() as collector, runtime.serving() as port:
        environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        environment.setenv("OTEL_METRICS_EXPORTER", "otlp")
        environment.setenv("OTEL_TRACES_EXPORTER", "none")
        environment.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", opted)
        async with running(settings(vllm(port))) as address, grpc.aio.insecure_channel(str(address)) as channel:
            await channel.unary_unary(GENERATE)(batch("a"))
            await curl(f"http://{address}/nothing")
    assert set(collector.metrics) == {
        "http.server.request.duration", "rpc.server.call.duration", "gen_ai.client.operation.duration", tokens,
    }  # fmt: skip
    (rpc,) = collector.metrics["rpc.server.call.duration"].histogram.data_points
    assert (rpc.count, rpc.explicit_bounds[0], rpc.explicit_bounds[-1]) == (1, 0.005, 10.0)
    assert attributes(list(rpc.attributes))["rpc.method"] == GENERATE[1:]
    (http,) = collector.metrics["http.server.request.duration"].histogram.data_points
    assert attributes(list(http.attributes))["http.response.status_code"] == 404
    counted = collector.metrics[tokens]
    points = counted.sum.data_points if opted else counted.histogram.data_points
    assert {attributes(list(point.attributes))["gen_ai.token.type"] for point in points} == {"input", "output"}
    assert collector.spans == []
