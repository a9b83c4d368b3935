"""The admin port as an `Application`: what it shows is read only, and behind it is no runtime and no client's data."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Protocol

import orjson

from inferbridge.bridge.accept import quality
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.limits import Limits
from inferbridge.observe.health import Report
from inferbridge.observe.metrics import OPENMETRICS_TYPE, TEXT_TYPE
from inferbridge.observe.versions import Versions

log = logging.getLogger(__name__)

LIMITS = Limits(connections=64, idle_seconds=60.0, header_bytes=16 * 1024, streams=16)
"""Of the admin port: probes, scrapers and people are few."""
_METHODS = ("GET", "HEAD")
_ALWAYS: Headers = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Headers = ()


type Show = Callable[[RequestHead, Callable[[Page], None]], None]
"""Makes a page, at once or later."""


def _json(status: int, value: object) -> Page:
    return Page(status, orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


class Reporter(Protocol):
    """Knows how the proxy is."""

    listening: tuple[str, ...]
    """Where clients can connect; empty before they can."""

    def ask(self, then: Callable[[Report], None]) -> None:
        """Call `then` with the report, soon."""


class Numbers(Protocol):
    """Knows the metrics, as they were when a `Reporter` was last asked, or better."""

    versions: Versions

    def upstream_up(self, upstream: str, up: bool) -> None:
        """What the report says of an upstream."""

    def text(self) -> bytes:
        """In Prometheus' text format."""

    def openmetrics(self) -> bytes:
        """As OpenMetrics."""


class Admin:
    """Serves the pages; `config` is the settings without their secrets."""

    def __init__(self, health: Reporter, metrics: Numbers, config: Mapping[str, object]) -> None:
        self._health = health
        self._metrics = metrics
        self.config = config
        """As it is in force."""
        self._pages: Mapping[str, Show] = {
            "/healthz": _at_once(lambda: _json(200, {"status": "ok"})),
            "/readyz": self._ready,
            "/startupz": _at_once(self._started),
            "/metrics": self._scrape,
            "/version": _at_once(lambda: _json(200, asdict(metrics.versions))),
            "/config": _at_once(lambda: _json(200, self.config)),
        }

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins, and has all it needs: no page takes a body."""
        show = self._pages.get(head.target.partition("?")[0])
        if show is None:
            _send(responder, _json(404, {"error": f"there is {', '.join(self._pages)}"}))
        elif head.method not in _METHODS:
            refusal = _json(405, {"error": f"only {' and '.join(_METHODS)} are served here"})
            _send(responder, Page(405, refusal.body, headers=(("allow", ", ".join(_METHODS)),)))
        else:
            show(head, partial(_send, responder))
        return _NOBODY

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer what is no request, or cannot be served."""
        _send(responder, _json(error.status or (500 if error.code is Code.INTERNAL else 400), {"error": error.message}))

    def _started(self) -> Page:
        listening = self._health.listening
        return _json(200 if listening else 503, {"started": bool(listening), "listening": listening})

    def _ready(self, head: RequestHead, send: Callable[[Page], None]) -> None:
        def page(report: Report) -> Page:
            ready = not report.reasons
            return _json(200 if ready else 503, {"ready": ready, "reasons": report.reasons, **asdict(report)})

        self._health.ask(lambda report: send(_guarded(lambda: page(report))))

    def _scrape(self, head: RequestHead, send: Callable[[Page], None]) -> None:
        accept = header(head.headers, "accept") or ""

        def page(report: Report) -> Page:
            for name, up in report.upstreams.items():
                self._metrics.upstream_up(name, up)
            wanted = quality(accept, "application/openmetrics-text")
            if wanted and wanted >= quality(accept, "text/plain"):
                return Page(200, self._metrics.openmetrics(), OPENMETRICS_TYPE)
            return Page(200, self._metrics.text(), TEXT_TYPE)

        self._health.ask(lambda report: send(_guarded(lambda: page(report))))


def _at_once(make: Callable[[], Page]) -> Show:
    return lambda head, send: send(make())


def _guarded(make: Callable[[], Page]) -> Page:
    """The page; what fails after the call has been opened would be answered by nobody else."""
    try:
        return make()
    except Exception:
        log.exception("a page of the admin port failed")
        return _json(500, {"error": "internal error"})


def _send(responder: Responder, page: Page) -> None:
    responder.whole(page.status, (("content-type", page.kind), *page.headers, *_ALWAYS), (page.body,))


class _Nobody:
    """Takes the body of a call that is answered."""

    def on_data(self, data: Buffer) -> None:
        """Nobody asked for it."""

    def on_end(self) -> None:
        """It was answered before."""

    def on_cancel(self) -> None:
        """A late answer is heard by nobody; that of the upstreams is kept for the next who asks."""


_NOBODY = _Nobody()
