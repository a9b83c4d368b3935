"""Prints what tracing costs a call, and what the same two spans cost when the SDK of OpenTelemetry fills them.

Run with `PYTHONPATH=codegen:proxy:generated:tests python tests/perf/spans.py`; it needs the extra `otel`. Costs are CPU
microseconds on top of the same call with a record that nobody reads, in this process and in memory: a unary REST call
to a gRPC runtime. Nothing is exported, which happens in a thread of its own. Exits 1 when a sampled call costs more
than the SDK's two spans alone, without the contexts that go upstream.
"""

import gc
import sys
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, set_span_in_context

from inferbridge.bridge.context import Policy
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord, UpstreamCall
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe import conventions
from inferbridge.observe.tracing import Tracing
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES
from perf.record import CALLS, INFER, Pool, calling, cheapest, infer

_RECORDED = "not traced"
RECORD = CallRecord(protocol="HTTP/1.1", method="POST", path="/v2/models/{model}/infer", status=200, peer="127.0.0.1:1")
CALL = UpstreamCall(
    traceparent="", upstream="u", runtime="triton", protocol="grpc", host="h", port=1, method="POST",
    rpc="/inference.GRPCInferenceService/ModelInfer", began=1.0, ended=2.0, status=200, grpc_status=0,
)  # fmt: skip


def provider(sampler: Sampler) -> TracerProvider:
    """One whose spans go nowhere."""
    made = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    made.add_span_processor(SpanProcessor())
    return made


def filling(sampler: Sampler) -> Callable[[], None]:
    """Makes the two spans of a call as the SDK's users do."""
    tracer = provider(sampler).get_tracer("inferbridge")

    def call() -> None:
        server = tracer.start_span("POST", Context(), SpanKind.SERVER)
        client = tracer.start_span("POST", set_span_in_context(server, Context()), SpanKind.CLIENT)
        if server.is_recording():
            client.set_attributes(conventions.client_attributes(RECORD, CALL))
            server.set_attributes(conventions.server_attributes(RECORD))
        client.end()
        server.end()

    return call


def main() -> None:
    """Take turns."""
    gc.disable()
    target = Target("triton", PROFILES["triton"][0], "grpc", Pool(infer))
    service = GatewayService([target], APIS, Policy(), Limits())
    ways = {_RECORDED: calling(Recorder(service), "/v2/models/m/infer", INFER)}
    for name, sampler in (("not sampled", ALWAYS_OFF), ("sampled", ALWAYS_ON)):
        tracing = Tracing(provider(sampler), "1", lambda span: None)
        ways[name] = calling(Recorder(service, [tracing]), "/v2/models/m/infer", INFER)
        ways[f"the SDK's spans, {name}"] = filling(sampler)
    found = cheapest(ways, CALLS)
    for name, cost in found.items():
        added = cost if "SDK" in name else cost - found[_RECORDED]
        sys.stdout.write(f"{name:<28} {cost:>8.2f} µs {added:>+8.2f}\n")
    sys.exit(found["sampled"] - found[_RECORDED] > found["the SDK's spans, sampled"])


if __name__ == "__main__":
    main()
