"""Spans of calls: one for each call of a client, and below it one for each call of a runtime that was made for it.

    client's span (traceparent) ─▶ span of the call (SERVER) ─▶ span of an upstream's call (CLIENT) ─▶ the runtime's

Ids are needed when a call begins, and so is the word whether its trace is sampled. All else a span says is known when
the call has ended: it is then made from the record, as the value that the SDK's exporters take. Spans of the SDK's own
kind, which are filled under a lock while they last, cost a call more (tests/perf/spans.py).

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

from inferbridge.gateway.record import CallRecord, Generation, Parent, UpstreamCall
from inferbridge.observe import conventions
from inferbridge.observe.conventions import Attributes

_SAMPLED, _RANDOM = 1, 2
"""Bits of a `traceparent`'s flags; the second says that the trace's id is random, and is its first sender's to say."""
_UNUSED = Generation()
"""Of all calls that are not sampled: nothing is noted of them."""
_UNSET, _ERROR = Status(StatusCode.UNSET), Status(StatusCode.ERROR)


class CallTrace:
    """The `Trace` of one call. What only a span needs is made when there is one."""

    __slots__ = (
        "_after",
        "_before",
        "_ids",
        "flags",
        "generation",
        "parent",
        "sampled",
        "span_id",
        "state",
        "trace_id",
    )

    def __init__(
        self, ids: IdGenerator, trace_id: str, flags: int, state: TraceState | None, parent: SpanContext | None
    ) -> None:
        self._ids = ids
        self._before, self._after = f"00-{trace_id}-", f"-{flags:02x}"
        self.trace_id = trace_id
        self.span_id = f"{ids.generate_span_id():016x}"
        """Of the call's span."""
        self.flags = flags
        self.state = state
        self.parent = parent
        self.sampled = bool(flags & _SAMPLED)
        self.generation = Generation() if self.sampled else _UNUSED

    def child(self) -> str:
        """As in `Trace`."""
        return f"{self._before}{self._ids.generate_span_id():016x}{self._after}"

    def context(self, span_id: str) -> SpanContext:
        """Of one of its spans."""
        return SpanContext(int(self.trace_id, 16), int(span_id, 16), False, TraceFlags(self.flags), self.state)


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
        if record.parent is None:
            parent, around, flags = None, Context(), 0
            number = self._ids.generate_trace_id()
            trace_id = f"{number:032x}"
        else:
            parent, trace_id = _remote(record.parent), record.parent.trace_id
            around, flags = set_span_in_context(NonRecordingSpan(parent), Context()), parent.trace_flags & _RANDOM
            number = parent.trace_id
        result = self._sampler.should_sample(around, number, record.method or "HTTP", SpanKind.SERVER)
        if result.decision is Decision.RECORD_AND_SAMPLE:
            flags |= _SAMPLED
        record.trace = trace = CallTrace(self._ids, trace_id, flags, result.trace_state, parent)
        record.trace_id, record.span_id = trace_id, trace.span_id

    def ended(self, record: CallRecord) -> None:
        """Make the spans of a sampled call."""
        trace = record.trace
        if not isinstance(trace, CallTrace) or not trace.sampled:
            return
        own = trace.context(trace.span_id)
        for call in record.upstream_calls:
            self._ended(self._client(record, trace, own, call))
        self._ended(
            self._span(
                conventions.server_name(record),
                SpanKind.SERVER,
                own,
                trace.parent,
                conventions.server_attributes(record),
                (_nanoseconds(record, record.began), _nanoseconds(record, record.ended)),
            )
        )

    def _client(self, record: CallRecord, trace: CallTrace, own: SpanContext, call: UpstreamCall) -> ReadableSpan:
        return self._span(
            conventions.client_name(record, call),
            SpanKind.CLIENT,
            trace.context(call.traceparent.split("-")[2]),
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
