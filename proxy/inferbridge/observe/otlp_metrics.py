"""Metrics of calls in the names of OpenTelemetry's conventions, made of their records.

Imported only where they are wanted: it needs the extra `otel`. Prometheus' own, on the admin port, are in `calls`.
"""

from opentelemetry.metrics import Histogram, Meter

from inferbridge.gateway.record import CallRecord
from inferbridge.observe import conventions
from inferbridge.observe.conventions import Attributes
from inferbridge.observe.models import Models


class OtlpMetrics:
    """Measures calls; an `Observer` of them."""

    def __init__(self, meter: Meter, *, latest: bool) -> None:
        """`latest`: in the latest names of GenAI."""

        def seconds(name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", what, explicit_bucket_boundaries_advisory=buckets)

        self._http = seconds(conventions.HTTP_DURATION, "Of calls over HTTP.", conventions.CALL_BUCKETS)
        self._rpc = seconds(conventions.RPC_DURATION, "Of calls over gRPC.", conventions.CALL_BUCKETS)
        self._duration = seconds(conventions.GEN_AI_DURATION, "In runtimes.", conventions.GEN_AI_BUCKETS)
        self._first = seconds(
            conventions.GEN_AI_FIRST_TOKEN, "To the first piece of a stream.", conventions.FIRST_TOKEN_BUCKETS
        )
        what = "Of prompts (input) and texts (output)."
        self._tokens = (
            meter.create_counter(conventions.TOKENS_LATEST, "{token}", what).add
            if latest
            else meter.create_histogram(
                conventions.TOKENS, "{token}", what, explicit_bucket_boundaries_advisory=conventions.TOKEN_BUCKETS
            ).record
        )
        self._models = Models()

    def ended(self, record: CallRecord) -> None:
        """Measure what the record says."""
        found = conventions.server_dimensions(record)
        (self._rpc if record.is_grpc else self._http).record(record.duration, found)
        if record.upstream_seconds is not None and conventions.gen_ai_operation(record):
            self._generated(record, record.upstream_seconds, found.get(conventions.ERROR_TYPE))

    def _generated(self, record: CallRecord, seconds: float, error: object) -> None:
        found = conventions.gen_ai_dimensions(record, record.runtime, self._models.label(record))
        failed: Attributes = {conventions.ERROR_TYPE: str(error)} if error is not None else {}
        self._duration.record(seconds, found | failed)
        if record.streamed and record.ttft is not None:
            self._first.record(record.ttft, found)
        for kind, count in (("input", record.tokens_in), ("output", record.tokens_out)):
            if count is not None:
                self._tokens(count, found | {conventions.GEN_AI_TOKEN_TYPE: kind})
