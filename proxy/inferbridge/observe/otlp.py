"""What leaves over OTLP, as the standard variables `OTEL_*` ask for it; the SDK of OpenTelemetry reads them.

Nothing is sent unless an endpoint is named (`OTEL_EXPORTER_OTLP_ENDPOINT`, or one for traces or metrics alone) or
`OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER` says `otlp`. Until then nothing of the SDK is imported.

    event loop ── span ──▶ queue of the SDK, bounded ──▶ its thread ──▶ collector
                               └─ full: dropped, and said

A collector that is down, slow or wrong costs calls nothing and ends nothing.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from inferbridge.gateway.records.recording import Observer
from inferbridge.observe import conventions
from inferbridge.observe.versions import versions

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 5.0
"""How long the end of the program waits for what is not delivered yet."""
REPEAT_SECONDS = 60.0
"""A complaint of the SDK is told again after this time."""
_GRPC_PORT = 4317
_EXTRA = "pip install 'inferbridge[otel]'"
_PROTOCOLS = {"http/protobuf": "http", "grpc": "grpc"}

type Signal = Literal["traces", "metrics"]
type Close = Callable[[], object]
"""Delivers what is left, and ends; may take long."""


def wanted(environment: Mapping[str, str]) -> tuple[Signal, ...]:
    """What the environment asks for; ValueError for what it asks in vain."""
    if _said(environment, "OTEL_SDK_DISABLED").lower() == "true":
        return ()
    signals: tuple[Signal, ...] = ("traces", "metrics")
    return tuple(signal for signal in signals if _is_wanted(environment, signal))


def _is_wanted(environment: Mapping[str, str], signal: Signal) -> bool:
    name = f"OTEL_{signal.upper()}_EXPORTER"
    exporter = _said(environment, name).lower()
    if exporter not in {"", "otlp", "none"}:
        raise ValueError(f"{name} names an exporter that there is not: say otlp or none")
    if exporter == "none" or not (exporter or _endpoint(environment, signal)[1]):
        return False
    _check(environment, signal)
    return True


def _said(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()


def _endpoint(environment: Mapping[str, str], signal: Signal) -> tuple[str, str]:
    """The variable that names it, and what it says."""
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next(((name, said) for name in names if (said := _said(environment, name))), (names[1], ""))


def _protocol(environment: Mapping[str, str], signal: Signal) -> str:
    own = _said(environment, f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL")
    return own or _said(environment, "OTEL_EXPORTER_OTLP_PROTOCOL")


def _check(environment: Mapping[str, str], signal: Signal) -> None:
    """What the SDK would only complain about later. An endpoint may hold a password: it is not repeated."""
    protocol = _protocol(environment, signal)
    if protocol and protocol not in _PROTOCOLS:
        raise ValueError("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf or grpc")
    name, endpoint = _endpoint(environment, signal)
    if endpoint and protocol != "grpc":
        parts = urlsplit(endpoint)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{name} must be a URL such as http://collector:4318")
        if parts.port == _GRPC_PORT and not protocol:
            _log.warning(
                "%s names port %d, where collectors speak gRPC, and HTTP is spoken to it: "
                "set OTEL_EXPORTER_OTLP_PROTOCOL=grpc, or name port 4318",
                name,
                _GRPC_PORT,
            )


@asynccontextmanager
async def sending(environment: Mapping[str, str]) -> AsyncIterator[tuple[Observer, ...]]:
    """Send what is asked for; the value is who must hear of calls. ValueError for what cannot be done."""
    signals = wanted(environment)
    if not signals:
        yield ()
        return
    try:
        import_module("opentelemetry.sdk.trace")
    except ImportError:
        raise ValueError(f"OTEL_* asks for {' and '.join(signals)}, which need OpenTelemetry: {_EXTRA}") from None
    _hear(logging.getLogger("opentelemetry"))
    started = [_START[signal](environment) for signal in signals]
    try:
        yield tuple(observer for observer, _ in started)
    finally:
        await flush([close for _, close in started])


def _traces(environment: Mapping[str, str]) -> tuple[Observer, Close]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from inferbridge.observe.tracing import Tracing

    exporter = _exporter(environment, "traces", "trace_exporter", "OTLPSpanExporter")
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    processor = BatchSpanProcessor(exporter)
    return Tracing(provider, versions().inferbridge, processor.on_end), processor.shutdown


def _metrics(environment: Mapping[str, str]) -> tuple[Observer, Close]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from inferbridge.observe.otlp_metrics import OtlpMetrics

    exporter = _exporter(environment, "metrics", "metric_exporter", "OTLPMetricExporter")
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], _resource(), shutdown_on_exit=False)
    meter = provider.get_meter("inferbridge", versions().inferbridge, conventions.SCHEMA)
    return OtlpMetrics(meter, latest=conventions.latest_gen_ai(environment)), provider.shutdown


_START: dict[Signal, Callable[[Mapping[str, str]], tuple[Observer, Close]]] = {"traces": _traces, "metrics": _metrics}


def _resource() -> "Resource":
    """Who tells: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, and what they leave open."""
    from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource

    said = Resource.create()
    own = {SERVICE_VERSION: versions().inferbridge, SERVICE_NAME: "inferbridge"}
    unnamed = str(said.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    kept = {name: value for name, value in said.attributes.items() if name != SERVICE_NAME or not unnamed}
    return Resource(own | kept, said.schema_url)


def _exporter(environment: Mapping[str, str], signal: Signal, module: str, kind: str) -> Any:
    """The SDK's exporter for the protocol that is asked for."""
    wire = _PROTOCOLS[_protocol(environment, signal) or "http/protobuf"]
    distribution = f"opentelemetry-exporter-otlp-proto-{wire}"
    try:
        return getattr(import_module(f"opentelemetry.exporter.otlp.proto.{wire}.{module}"), kind)()
    except ImportError:
        fix = _EXTRA if wire == "http" else f"pip install {distribution}, or say http/protobuf (port 4318)"
        raise ValueError(f"OTLP over {wire} needs {distribution}: {fix}") from None


async def flush(closing: Sequence[Close]) -> None:
    """Deliver what is left, for `FLUSH_SECONDS` at most."""

    def close_all() -> None:
        for close in closing:
            try:
                close()
            except Exception:
                _log.exception("ending the export over OTLP failed")

    # a daemon of its own: the loop waits for its own threads, however long they take
    thread = threading.Thread(target=close_all, name="otlp-flush", daemon=True)
    thread.start()
    await asyncio.get_running_loop().run_in_executor(None, thread.join, FLUSH_SECONDS)
    if thread.is_alive():
        _log.warning("the collector does not take what is left within %.0f s: it is lost", FLUSH_SECONDS)


class Complaints(logging.Handler):
    """Tells what the SDK has to say: each thing once in `REPEAT_SECONDS`, and nothing that others have written.

    It complains of each attempt to reach a collector, in that one's words, and of headers that it cannot read, in full.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(logging.WARNING)
        self._now = now
        self._told: dict[tuple[str, int], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it to our own log, or keep it."""
        place, now = (record.pathname, record.lineno), self._now()
        if now - self._told.get(place, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._told[place] = now
        arguments = record.args if isinstance(record.args, tuple) else ()
        _log.log(record.levelno, str(record.msg), *map(_harmless, arguments), exc_info=record.exc_info)


def _hear(logger: logging.Logger) -> None:
    """Let the SDK complain to us alone, for as long as the program runs: its threads may outlast the proxy."""
    if not any(isinstance(handler, Complaints) for handler in logger.handlers):
        logger.addHandler(Complaints())
        logger.propagate = False


_WORDS = frozenset({"Span", "span", "spans", "Metric", "metrics"})


def _harmless(argument: object) -> object:
    """What a complaint may repeat: numbers, the kind of an error, and what was to be sent."""
    if isinstance(argument, int | float) or (isinstance(argument, str) and argument in _WORDS):
        return argument
    return type(argument).__name__ if isinstance(argument, BaseException) else "…"
