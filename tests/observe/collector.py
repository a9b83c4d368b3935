"""A collector of OpenTelemetry that keeps what it is sent: OTLP over HTTP on a real socket, by the official protos."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

KINDS: dict[str, type[Message]] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
}


def attributes(said: "list[KeyValue]") -> dict[str, object]:
    """Attributes as values; those of a list are joined by a comma."""
    return {each.key: _value(each) for each in said}


def _value(said: KeyValue) -> object:
    kind = said.value.WhichOneof("value") or "string_value"
    if kind == "array_value":
        return ",".join(one.string_value for one in said.value.array_value.values)
    return getattr(said.value, kind)


@dataclass
class Collector:
    """What has come."""

    port: int = 0
    requests: list[Message] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """For `OTEL_EXPORTER_OTLP_ENDPOINT`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def spans(self) -> list[Span]:
        """All, in the order in which they came."""
        sent = [one for one in self.requests if isinstance(one, ExportTraceServiceRequest)]
        scopes = [scope for one in sent for each in one.resource_spans for scope in each.scope_spans]
        return [span for scope in scopes for span in scope.spans]

    @property
    def metrics(self) -> dict[str, Metric]:
        """The last of each name."""
        sent = [one for one in self.requests if isinstance(one, ExportMetricsServiceRequest)]
        scopes = [scope for one in sent for each in one.resource_metrics for scope in each.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def one(self, kind: int) -> Span:
        """The only span of a kind."""
        (span,) = [span for span in self.spans if span.kind == kind]
        return span

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                headers = {name.lower(): value for name, value in headers.items()}
                body = await reader.readexactly(int(headers["content-length"]))
                if headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                self.headers.append(headers)
                self.requests.append(KINDS[first.split()[1]].FromString(body))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n")
        writer.close()


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A running collector."""
    collector = Collector()
    server = await asyncio.start_server(collector._handle, "127.0.0.1", 0)
    collector.port = server.sockets[0].getsockname()[1]
    try:
        yield collector
    finally:
        server.close()
