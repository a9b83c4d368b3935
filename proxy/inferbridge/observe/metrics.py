"""The metrics of a proxy: one table of all there are, and the numbers of one running proxy."""

import asyncio
from collections.abc import Callable, Collection, Iterator

from prometheus_client import CollectorRegistry, Gauge, Info
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric as PrometheusFamily
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from inferbridge.gateway.counters import AuthResult
from inferbridge.observe.adding import Family, families
from inferbridge.observe.calls import CALLS, CallMetrics
from inferbridge.observe.series import Count, Metric
from inferbridge.observe.versions import Versions
from inferbridge.upstream.api import State, WatchedPool

TEXT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

BUILD_INFO = Metric(
    "inferbridge_build_info",
    "info",
    "Version of inferbridge and hash of the specs it serves.",
    ("version", "spec_hash"),
    across="max",
)
LOST_FIELDS = Metric(
    "inferbridge_lost_fields_total",
    "counter",
    "Fields that could not be carried to the other side and were dropped, each once a call.",
    ("operation", "api", "runtime"),
)
AUTH = Metric(
    "inferbridge_auth_total",
    "counter",
    "Calls by how their client was authenticated, and how that ended.",
    ("method", "result", "reason"),
)
AUTH_CACHE = Metric(
    "inferbridge_auth_cache_total",
    "counter",
    "Looks for a known answer about a credential, before somebody is asked: `hit` or `miss`.",
    ("cache", "result"),
)
UPSTREAM_UP = Metric(
    "inferbridge_upstream_up",
    "gauge",
    "1 when the upstream says that it is ready, else 0.",
    ("upstream",),
    across="max",
)
RETRIES = Metric(
    "inferbridge_retries_total",
    "counter",
    "Calls that were sent to an upstream again; `reason` is `connect`, `goaway`, `refused` or `reset`.",
    ("upstream", "reason"),
)
BREAKER_STATE = Metric(
    "inferbridge_breaker_state",
    "gauge",
    "0 when the upstream is called, 1 when one call is tried, 2 when none is; of several addresses the worst.",
    ("upstream",),
    across="max",
)
CONNECTIONS = Metric("inferbridge_upstream_connections", "gauge", "Open connections to the upstream.", ("upstream",))
TASKS = Metric("inferbridge_tasks", "gauge", "Tasks of the event loop; each client connection has some.")
CAPTURED = Metric("inferbridge_captured_total", "counter", "Captured calls that a sink has taken.", ("sink",))
CAPTURE_DROPPED = Metric(
    "inferbridge_capture_dropped_total",
    "counter",
    "Calls that were to be captured and are not, by the sink that lost them (`all`: none was reached).",
    ("sink", "reason"),
)
ABUSE = Metric(
    "inferbridge_h2_abuse_total",
    "counter",
    "HTTP/2 connections that were ended because of floods: of what is `kind`.",
    ("kind",),
)
RELOADS = Metric(
    "inferbridge_config_reloads_total",
    "counter",
    "Times the configuration was read again while serving: `success`, or `failure` when it could not be used.",
    ("result",),
)
CERTIFICATE = Metric(
    "inferbridge_tls_cert_expiry_seconds",
    "gauge",
    "Until the certificate of a listener expires; negative when it has.",
    ("listener",),
    across="min",
)
INSECURE = Metric(
    "inferbridge_tls_insecure_upstreams",
    "gauge",
    "Upstreams whose certificate is not verified (`verify: false`).",
    across="max",
)
WORKERS = Metric("inferbridge_workers", "gauge", "Processes that serve calls.")
RESTARTS = Metric("inferbridge_worker_restarts_total", "counter", "Worker processes that were started anew.")
METRICS = (
    BUILD_INFO,
    *CALLS,
    LOST_FIELDS,
    AUTH,
    AUTH_CACHE,
    UPSTREAM_UP,
    RETRIES,
    BREAKER_STATE,
    CONNECTIONS,
    TASKS,
    CAPTURED,
    CAPTURE_DROPPED,
    ABUSE,
    CERTIFICATE,
    INSECURE,
    RELOADS,
    WORKERS,
    RESTARTS,
)
"""All there are."""
_STATES: dict[State, int] = {"closed": 0, "half open": 1, "open": 2}


class Metrics:
    """The numbers of one running proxy; the `Counters` of its gateway."""

    def __init__(self, versions: Versions) -> None:
        self.versions = versions
        self._registry = CollectorRegistry()
        # prometheus_client adds the ending that tells the kind
        build = Info(BUILD_INFO.name.removesuffix("_info"), BUILD_INFO.help, registry=self._registry)
        build.info({"version": versions.inferbridge, "spec_hash": versions.spec_hash})
        self._lost = Count(LOST_FIELDS, self._registry)
        self._auth = Count(AUTH, self._registry)
        self._auth_cache = Count(AUTH_CACHE, self._registry)
        self._captured = Count(CAPTURED, self._registry)
        self._capture_dropped = Count(CAPTURE_DROPPED, self._registry)
        self._abuse = Count(ABUSE, self._registry)
        self.calls = CallMetrics(self._registry)
        """Hears of every call."""
        self._up = self._gauge(UPSTREAM_UP)
        self._retries = Count(RETRIES, self._registry)
        self._breaker = self._gauge(BREAKER_STATE)
        self._connections = self._gauge(CONNECTIONS)
        self._gauge(TASKS).set_function(_tasks)
        self._reloads = Count(RELOADS, self._registry)
        self._certificate = self._gauge(CERTIFICATE)
        self._insecure = self._gauge(INSECURE)
        self._restarts = Count(RESTARTS, self._registry)
        self._workers = self._gauge(WORKERS)
        self._workers.set(1)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)

    def lost_fields(self, operation: str, api: str, runtime: str, count: int) -> None:
        """As in `Counters`."""
        self._lost.add(operation, api, runtime, count=count)

    def auth(self, method: str, result: AuthResult, reason: str) -> None:
        """As in `Counters`."""
        self._auth.add(method, result, reason)

    def auth_cache(self, cache: str, hit: bool) -> None:
        """As in `Counters`."""
        self._auth_cache.add(cache, "hit" if hit else "miss")

    def retried(self, upstream: str, reason: str) -> None:
        """As in `Counters`."""
        self._retries.add(upstream, reason)

    def watch(self, upstream: str, pool: WatchedPool) -> None:
        """As in `Counters`."""
        self._breaker.labels(upstream).set_function(lambda: _STATES[pool.state])
        self._connections.labels(upstream).set_function(lambda: pool.connections)

    def rejected(self, limit: str) -> None:
        """As in `Counters`."""
        self.calls.rejected(limit)

    def abused(self, kind: str) -> None:
        """As in `Counters`."""
        self._abuse.add(kind)

    def upstream_up(self, upstream: str, up: bool) -> None:
        """An upstream says whether it is ready."""
        self._up.labels(upstream).set(up)

    def captured(self, sink: str) -> None:
        """A captured call was written."""
        self._captured.add(sink)

    def capture_dropped(self, sink: str, reason: str) -> None:
        """One was lost."""
        self._capture_dropped.add(sink, reason)

    def upstreams(self, names: Collection[str]) -> None:
        """There are no other upstreams any more."""
        known = {sample.labels["upstream"] for family in self._up.collect() for sample in family.samples}
        for name in known - set(names):
            self._up.remove(name)

    def certificate(self, listener: str, seconds_left: Callable[[], float]) -> None:
        """A listener has a certificate; each scrape asks how long it is good for."""
        self._certificate.labels(listener).set_function(seconds_left)

    def insecure_upstreams(self, count: int) -> None:
        """The certificates of so many upstreams are not verified."""
        self._insecure.set(count)

    def reloaded(self, *, success: bool) -> None:
        """The configuration was read again."""
        self._reloads.add("success" if success else "failure")

    def restarted(self) -> None:
        """A worker process was started anew."""
        self._restarts.add()

    def workers(self, count: int) -> None:
        """So many of the processes that serve are this one; else it is one."""
        self._workers.set(count)

    def families(self) -> list[Family]:
        """All of it, for another process."""
        return families(self._registry)

    def text(self) -> bytes:
        """All of it in Prometheus' text format 0.0.4."""
        return as_text(self._registry)

    def openmetrics(self) -> bytes:
        """All of it as OpenMetrics 1.0."""
        return as_openmetrics(self._registry)


def _tasks() -> int:
    """How many tasks the loop that asks has; none is asked outside of one."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


def as_text(registry: Collector) -> bytes:
    """What a registry holds in Prometheus' text format 0.0.4."""
    return generate_latest(_Plain(registry))


def as_openmetrics(registry: Collector) -> bytes:
    """What a registry holds as OpenMetrics 1.0."""
    found: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # it has no types
    return found


class _Plain(Collector):
    """The families of a registry without `_created`, which in the text format would be metrics of their own."""

    def __init__(self, registry: Collector) -> None:
        self._registry = registry

    def collect(self) -> Iterator[PrometheusFamily]:
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family


def markdown_table() -> str:
    """The table of all metrics, as docs/observing.md has it."""
    rows = [
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{name}`' for name in one.labels)} | {one.help} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | kind | labels | counts |", "|---|---|---|---|", *rows, ""])
