"""A Grafana dashboard of the metrics, made of their table so that its queries name what there is.

Grafana imports what `dashboard` answers: it asks for the data source, and variables narrow it by runtime, operation and
model. Panels stand in rows of a grid of 24 columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from inferbridge.observe import calls
from inferbridge.observe.metrics import (
    ABUSE,
    AUTH,
    AUTH_CACHE,
    BREAKER_STATE,
    BUILD_INFO,
    CAPTURE_DROPPED,
    CAPTURED,
    CERTIFICATE,
    CONNECTIONS,
    INSECURE,
    LOST_FIELDS,
    RELOADS,
    RESTARTS,
    RETRIES,
    TASKS,
    UPSTREAM_UP,
    WORKERS,
)
from inferbridge.observe.series import Metric

type Query = tuple[str, str]
"""An expression and the legend of its series."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_VARIABLES = ("runtime", "operation", "model")
_HEIGHT, _WIDTH = 8, 24
_QUANTILES = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph."""

    title: str
    unit: str
    """In Grafana's words."""
    queries: Sequence[Query]
    kind: str = "timeseries"
    note: str = ""


def _selected(metric: Metric, *further: str, ending: str = "") -> str:
    """A metric, narrowed by those variables that it has labels for."""
    chosen = [f'{name}=~"${name}"' for name in _VARIABLES if name in metric.labels]
    matchers = ",".join((*chosen, *further))
    return f"{metric.name}{ending}{{{matchers}}}" if matchers else f"{metric.name}{ending}"


def _rate(metric: Metric, by: Sequence[str] = (), *further: str, ending: str = "") -> str:
    total = f"(rate({_selected(metric, *further, ending=ending)}[$__rate_interval]))"
    return f"sum by ({', '.join(by)}) {total}" if by else f"sum{total}"


def _per_second(metric: Metric, *by: str) -> list[Query]:
    return [(_rate(metric, by), " ".join(f"{{{{{label}}}}}" for label in by))]


def _quantiles(metric: Metric, *by: str) -> list[Query]:
    legend = "".join(f" {{{{{label}}}}}" for label in by)
    summed = _rate(metric, ("le", *by), ending="_bucket")
    return [(f"histogram_quantile({quantile}, {summed})", f"{name}{legend}") for quantile, name in _QUANTILES]


def _rows() -> Iterator[tuple[str, list[Panel]]]:
    requests = calls.REQUESTS
    failed, told = 'code!~"2.."', 'code=~"2..",grpc_code!~"OK|none"'
    errors = (_rate(requests, ("code", "grpc_code"), one) for one in (failed, told))
    ratio = f"({_rate(requests, (), failed)} or vector(0)) + ({_rate(requests, (), told)} or vector(0))"
    yield (
        "Traffic",
        [
            Panel("Requests", "reqps", _per_second(requests, "operation", "runtime")),
            Panel(
                "Directions",
                "reqps",
                _per_second(requests, "direction"),
                note="The client's protocol, then the upstream's.",
            ),
            Panel("Errors by status", "reqps", [(query, "{{code}} {{grpc_code}}") for query in errors]),
            Panel("Share of errors", "percentunit", [(f"({ratio}) / {_rate(requests)}", "errors")]),
            Panel("In flight", "short", [(f"sum by (protocol) ({calls.IN_FLIGHT.name})", "{{protocol}}")]),
            Panel("Requests by model", "reqps", _per_second(requests, "model")),
        ],
    )
    yield (
        "Latency",
        [
            Panel("Duration", "s", _quantiles(calls.DURATION)),
            Panel("Duration by operation", "s", _quantiles(calls.DURATION, "operation")[1:2]),
            Panel("Overhead of the proxy", "s", _quantiles(calls.OVERHEAD, "phase"), note=calls.OVERHEAD.help),
            Panel("Time to first byte", "s", _quantiles(calls.TTFT), note=calls.TTFT.help),
            Panel("Time between messages", "s", _quantiles(calls.GAPS), note=calls.GAPS.help),
            Panel("Mean duration by runtime", "s", [_mean(calls.DURATION, "runtime")]),
        ],
    )
    yield (
        "Tokens and streams",
        [
            Panel("Tokens", "short", _per_second(calls.TOKENS, "model", "type"), note=calls.TOKENS.help),
            Panel("Messages of streams", "short", _per_second(calls.MESSAGES, "operation", "side")),
        ],
    )
    yield (
        "What does not get through",
        [
            Panel("Fields that were lost", "short", _per_second(LOST_FIELDS, "operation", "api", "runtime")),
            Panel("Not to be translated", "reqps", _per_second(calls.TRANSLATION_ERRORS, "operation", "reason")),
            Panel("Refused by a limit", "reqps", _per_second(calls.REJECTED, "limit")),
            Panel("Authentication", "reqps", _per_second(AUTH, "method", "result", "reason")),
            Panel(
                "Answers about credentials", "reqps", _per_second(AUTH_CACHE, "cache", "result"), note=AUTH_CACHE.help
            ),
            Panel("HTTP/2 floods", "reqps", _per_second(ABUSE, "kind"), note=ABUSE.help),
        ],
    )
    ready = (f"min by (upstream) ({UPSTREAM_UP.name})", "{{upstream}}")
    connections = (f"sum by (upstream) ({CONNECTIONS.name})", "{{upstream}}")
    breakers = (f"max by (upstream) ({BREAKER_STATE.name})", "{{upstream}}")
    certificates = (f"min by (listener) ({CERTIFICATE.name})", "{{listener}}")
    versions = (f"count by (version, spec_hash) ({BUILD_INFO.name})", "{{version}} {{spec_hash}}")
    yield (
        "Upstreams and the proxy",
        [
            Panel("Upstreams that are ready", "bool_yes_no", [ready], "stat"),
            Panel("Connections to upstreams", "short", [connections]),
            Panel("Tasks", "short", [(f"sum ({TASKS.name})", "tasks")], note=TASKS.help),
            Panel("Breakers", "short", [breakers], note=BREAKER_STATE.help),
            Panel("Calls sent again", "reqps", _per_second(RETRIES, "upstream", "reason")),
            Panel("Versions", "short", [versions], "stat"),
            Panel("Worker processes", "short", [(f"sum ({WORKERS.name})", "workers")], "stat"),
            Panel("Workers that were started anew", "reqps", _per_second(RESTARTS)),
            Panel("Reloads", "reqps", _per_second(RELOADS, "result")),
            Panel("Certificates expire in", "s", [certificates], "stat"),
            Panel("Upstreams that are not verified", "short", [(f"max ({INSECURE.name})", "upstreams")], "stat"),
            Panel("Captured payloads", "reqps", _per_second(CAPTURED, "sink")),
            Panel("Captures that were dropped", "reqps", _per_second(CAPTURE_DROPPED, "sink", "reason")),
        ],
    )


def _mean(metric: Metric, by: str) -> Query:
    total, count = (_rate(metric, (by,), ending=ending) for ending in ("_sum", "_count"))
    return f"{total} / {count}", f"{{{{{by}}}}}"


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "inferbridge",
        "uid": "inferbridge",
        "tags": ["inferbridge", "inference"],
        "description": "Calls between any client and any inference runtime, as inferbridge counts them.",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name in _VARIABLES:
        query = f"label_values({calls.REQUESTS.name}, {name})"
        yield {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "definition": query,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
        }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 0, 0
    for title, panels in _rows():
        number += 1
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, _WIDTH, 1)}
        y += 1
        across = 3 if len(panels) % 3 == 0 else 2
        width = _WIDTH // across
        for at, panel in enumerate(panels):
            number += 1
            place = _place(at % across * width, y + at // across * _HEIGHT, width, _HEIGHT)
            yield {"id": number, "gridPos": place, **_panel(panel)}
        y += -(-len(panels) // across) * _HEIGHT


def _place(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }
