"""Spans of calls: one for each call of a client, and below it one for each call of a runtime that was made for it.

    client's span (traceparent) ─▶ span of the call (SERVER) ─▶ span of an upstream's call (CLIENT) ─▶ the runtime's

Ids are needed when a call begins, and so is the word whether its trace is sampled. All else a span says is known when
the call has ended: it is then made from the record, as the value that the SDK's exporters take. A span of the SDK's own
kind, which is filled while it lasts under a lock, costs more than all else that a call does here (tests/perf/spans.py).

Imported only where traces are wanted: it needs the extra `otel`.
"""

from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.span import TraceState
from opentelemetry.trace.status import Status, StatusCode

from inferbridge.gateway.record import CallRecord, Parent, UpstreamCall
from inferbridge.observe import conventions
from inferbridge.observe.conventions import Attributes

_SAMPLED, _RANDOM = 1, 2
"""Bits of a `traceparent`'s flags; the second says that the trace's id is random, and is its first sender's to say."""
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class CallTrace:
    """The `Trace` of one call."""

    __slots__ = ("_ids", "context", "parent", "sampled")

    def __init__(self, ids: IdGenerator, context: SpanContext, parent: SpanContext | None) -> None:
        self._ids = ids
        self.context = context
        """Of the call's span."""
        self.parent = parent
        self.sampled = bool(context.trace_flags & _SAMPLED)

    def child(self) -> str:
        """As in `Trace`."""
        own = self.context
        return f"00-{own.trace_id:032x}-{self._ids.generate_span_id():016x}-{own.trace_flags:02x}"


class Tracing:
    """Makes the spans; an `Observer` of calls."""

    def __init__(self, provider: TracerProvider, version: str, ended: Callable[[ReadableSpan], None]) -> None:
        """`provider` has the sampler, the ids and the resource; `ended` takes the spans that are sampled."""
        self._sampler = provider.sampler
        self._ids = provider.id_generator
        self._resource = provider.resource
        self._scope = InstrumentationScope("inferbridge", version, conventions.SCHEMA)
        self._ended = ended

    def began(self, record: CallRecord) -> None:
        """Decide where the call stands in which trace; its record has the ids from now on."""
        parent = _remote(record.parent) if record.parent is not None else None
        trace_id = parent.trace_id if parent is not None else self._ids.generate_trace_id()
        around = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        result = self._sampler.should_sample(around, trace_id, record.method or "HTTP", SpanKind.SERVER)
        flags = _SAMPLED if result.decision is Decision.RECORD_AND_SAMPLE else 0
        if parent is not None:
            flags |= parent.trace_flags & _RANDOM
        own = SpanContext(trace_id, self._ids.generate_span_id(), False, TraceFlags(flags), result.trace_state)
        record.trace = CallTrace(self._ids, own, parent)
        record.trace_id, record.span_id = f"{own.trace_id:032x}", f"{own.span_id:016x}"

    def ended(self, record: CallRecord) -> None:
        """Make the spans of a sampled call."""
        trace = record.trace
        if not isinstance(trace, CallTrace) or not trace.sampled:
            return
        for call in record.upstream_calls:
            self._ended(self._client(record, trace, call))
        self._ended(
            self._span(
                conventions.server_name(record),
                SpanKind.SERVER,
                trace.context,
                trace.parent,
                conventions.server_attributes(record),
                (_nanoseconds(record, record.began), _nanoseconds(record, record.ended)),
            )
        )

    def _client(self, record: CallRecord, trace: CallTrace, call: UpstreamCall) -> ReadableSpan:
        own = trace.context
        span_id = int(call.traceparent.split("-")[2], 16)
        return self._span(
            conventions.client_name(record, call),
            SpanKind.CLIENT,
            SpanContext(own.trace_id, span_id, False, own.trace_flags, own.trace_state),
            own,
            conventions.client_attributes(record, call),
            (_nanoseconds(record, call.began), _nanoseconds(record, call.ended or record.ended)),
        )

    def _span(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        times: tuple[int, int],
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=_ERROR if conventions.ERROR_TYPE in attributes else _UNSET,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=self._scope,
        )


def _remote(parent: Parent) -> SpanContext:
    state = TraceState.from_header([parent.state]) if parent.state else None
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), True, TraceFlags(parent.flags), state)


def _nanoseconds(record: CallRecord, moment: float) -> int:
    """Since 1970, of a reading of the clock."""
    return int(record.began_at * 1e9) + int((moment - record.began) * 1e9)
