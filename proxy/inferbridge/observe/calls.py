"""The metrics of calls, made of their records.

Names of models as labels are bounded, see `Models`.
"""

from prometheus_client import CollectorRegistry, Gauge

from inferbridge.bridge.errors import Code
from inferbridge.gateway.record import GAP_SECONDS, CallRecord
from inferbridge.observe.models import Models
from inferbridge.observe.series import Buckets, Count, Histogram, Metric, Number

_NONE = "none"
_DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_FIRST_BYTES = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OVERHEADS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 1.0)

REQUESTS = Metric(
    "inferbridge_requests_total",
    "counter",
    "Calls that have ended; `code` and `grpc_code` are what the client got.",
    ("direction", "operation", "runtime", "model", "code", "grpc_code"),
)
DURATION = Metric(
    "inferbridge_request_duration_seconds",
    "histogram",
    "From the client's head to the end of the answer.",
    ("direction", "operation", "runtime"),
    50,
    _DURATIONS,
)
OVERHEAD = Metric(
    "inferbridge_overhead_seconds",
    "histogram",
    "What the proxy takes: until it knows who calls (`auth`), to the call of a runtime (`map`), all else (`encode`).",
    ("direction", "operation", "phase"),
    150,
    _OVERHEADS,
)
IN_FLIGHT = Metric(
    "inferbridge_in_flight", "gauge", "Calls that have begun and not ended, by the client's protocol.", ("protocol",)
)
TTFT = Metric(
    "inferbridge_ttft_seconds",
    "histogram",
    "From the client's head to the first byte of a streamed answer's body.",
    ("model",),
    32,
    _FIRST_BYTES,
)
GAPS = Metric(
    "inferbridge_inter_message_seconds",
    "histogram",
    "Between two pieces of a streamed answer.",
    ("model",),
    32,
    GAP_SECONDS,
)
TOKENS = Metric(
    "inferbridge_tokens_total",
    "counter",
    "Tokens of prompts (`input`) and texts (`output`), where they are known.",
    ("model", "type"),
)
MESSAGES = Metric(
    "inferbridge_stream_messages_total",
    "counter",
    "Messages of streams: the client's (`request`) and those that it got (`answer`).",
    ("operation", "side"),
)
TRANSLATION_ERRORS = Metric(
    "inferbridge_translation_errors_total",
    "counter",
    "Calls that ended because something could not be translated; `reason` is the gRPC code.",
    ("operation", "reason"),
)
REJECTED = Metric(
    "inferbridge_limits_rejected_total",
    "counter",
    "What a limit ended: calls by a `rate` of the caller or a `size`; connections and their calls by the limit's name.",
    ("limit",),
)
CALLS = (REQUESTS, DURATION, OVERHEAD, IN_FLIGHT, TTFT, GAPS, TOKENS, MESSAGES, TRANSLATION_ERRORS, REJECTED)
_KINDS = 500
"""Sets of labels whose places are remembered."""
_LIMITS = {"RL": "rate", "LR": "size"}
_CODES = {int(code): code.name for code in Code}


type _Key = tuple[str, str, str, str, str, int | None, int | None]


class _Kind:
    """Where calls of the same labels are counted."""

    __slots__ = ("_labels", "_overhead", "auth", "duration", "encode", "map", "requests")

    def __init__(self, requests: Number, duration: Buckets, overhead: Histogram, labels: tuple[str, str]) -> None:
        self.requests = requests
        self.duration = duration
        self._overhead = overhead
        self._labels = labels
        self.auth: Buckets | None = None
        self.map: Buckets | None = None
        self.encode: Buckets | None = None

    def admitted(self, seconds: float) -> None:
        """It is known who calls."""
        if self.auth is None:  # series of what never happens are not shown
            self.auth = self._overhead.child(*self._labels, "auth")
        self.auth.observe(seconds)

    def translated(self, mapped: float, encoded: float) -> None:
        """The rest of what the proxy has taken, for a call that has reached a runtime."""
        if self.map is None or self.encode is None:
            self.map = self._overhead.child(*self._labels, "map")
            self.encode = self._overhead.child(*self._labels, "encode")
        self.map.observe(mapped)
        self.encode.observe(encoded)


class CallMetrics:
    """Counts calls; an `Observer` of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Count(REQUESTS, registry)
        self._duration = Histogram(DURATION, registry)
        self._overhead = Histogram(OVERHEAD, registry)
        gauge = Gauge(IN_FLIGHT.name, IN_FLIGHT.help, IN_FLIGHT.labels, registry=registry)
        self._rest = self._grpc = 0
        """Calls in flight."""
        gauge.labels("rest").set_function(lambda: self._rest)
        gauge.labels("grpc").set_function(lambda: self._grpc)
        self._ttft = Histogram(TTFT, registry)
        self._gaps = Histogram(GAPS, registry)
        self._tokens = Count(TOKENS, registry)
        self._messages = Count(MESSAGES, registry)
        self._translation_errors = Count(TRANSLATION_ERRORS, registry)
        self._rejected = Count(REJECTED, registry)
        self._models = Models()
        self._kinds: dict[_Key, _Kind] = {}

    def began(self, record: CallRecord) -> None:
        """One more is in flight."""
        if record.protocol == "gRPC":
            self._grpc += 1
        else:
            self._rest += 1

    def ended(self, record: CallRecord) -> None:
        """Count all that the record says."""
        if record.protocol == "gRPC":
            self._grpc -= 1
        else:
            self._rest -= 1
        operation, model = record.operation or _NONE, self._models.label(record) or _NONE
        key = (
            record.protocol,
            record.upstream_protocol,
            operation,
            record.runtime,
            model,
            record.status,
            record.grpc_status,
        )
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kind(key, record.direction)
        kind.requests.value += 1
        kind.duration.observe(record.ended - record.began)
        if record.admitted:
            kind.admitted(record.admitted - record.began)
        overhead = record.overhead
        if overhead is not None:
            mapped = record.mapped
            kind.translated(mapped, overhead - mapped if overhead > mapped else 0.0)
        if record.streamed or record.messages_in > 1:
            self._stream(record, operation, model)
        if record.tokens_in is not None:
            self._tokens.add(model, "input", count=record.tokens_in)
            self._tokens.add(model, "output", count=record.tokens_out or 0)
        if record.flags:
            self._flags(record, operation)

    def _kind(self, key: _Key, direction: str) -> "_Kind":
        """What calls of the same labels share; found by their labels for those that are not kept."""
        _, _, operation, named, model, status, grpc_status = key
        runtime = named or _NONE
        code = _NONE if status is None else str(status)
        kind = _Kind(
            self._requests.child(direction, operation, runtime, model, code, _grpc_code(grpc_status)),
            self._duration.child(direction, operation, runtime),
            self._overhead,
            (direction, operation),
        )
        if len(self._kinds) < _KINDS:
            self._kinds[key] = kind
        return kind

    def rejected(self, limit: str) -> None:
        """A limit of connections was met."""
        self._rejected.add(limit)

    def _stream(self, record: CallRecord, operation: str, model: str) -> None:
        self._messages.add(operation, "request", count=record.messages_in)
        self._messages.add(operation, "answer", count=record.messages_out)
        if record.streamed and record.ttft is not None:
            self._ttft.observe(record.ttft, model)
        if record.gaps is not None:
            self._gaps.add(record.gaps, record.gap_seconds, model)

    def _flags(self, record: CallRecord, operation: str) -> None:
        for flag in record.flags:
            if flag in _LIMITS:
                self._rejected.add(_LIMITS[flag])
            elif flag == "TE" and record.code is not None:
                self._translation_errors.add(operation, record.code.name.lower())


def _grpc_code(status: int | None) -> str:
    if status is None:
        return _NONE
    return _CODES.get(status, "UNKNOWN")
