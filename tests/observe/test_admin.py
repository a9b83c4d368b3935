"""The admin port in memory: bytes of a client in, its pages out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.test_readiness import Clock, message, probe, status, unreachable
from gateway.test_service import Runtime, silent
from inferbridge.config import Admin as AdminSettings
from inferbridge.config import Listener, ListenerTls, Settings
from inferbridge.config.showing import shown
from inferbridge.gateway.calls.readiness import FRESH_SECONDS, Probe, Readiness
from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.observe.admin import LIMITS, Admin
from inferbridge.observe.health import Health
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import Versions
from inferbridge.secret import Secret

VERSIONS = Versions("1.2.3", "3.13.1", "12.2.1", "asyncio", "0123456789abcdef")
LISTENING = ("127.0.0.1:8080",)
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
PAGES = ("/healthz", "/readyz", "/startupz", "/metrics", "/version", "/config")


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Port:
    """An admin port of a proxy with some upstreams, and one client connection to it."""

    def __init__(self, *, settings: Settings = Settings(), listening: tuple[str, ...] = LISTENING, **up: Probe) -> None:  # noqa: B008
        self.metrics = Metrics(VERSIONS)
        self.health = Health(Readiness({name: [each] for name, each in up.items()}), list(up))
        self.health.listening = listening
        admin = Admin(self.health, self.metrics, shown(settings))
        self.connection = ClientConnection(admin, LIMITS, lambda: None)

    def send(self, path: str, method: str = "GET", headers: str = "", body: str = "") -> None:
        """Send a request."""
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.connection.receive(f"{method} {path} HTTP/1.1\r\nhost: a\r\n{length}{headers}\r\n{body}".encode())

    def get(self, path: str, method: str = "GET", headers: str = "", body: str = "") -> Answer:
        """The answer to a request."""
        self.send(path, method, headers, body)
        return self.answer()

    def answer(self) -> Answer:
        """What has come."""
        head, _, content = self.connection.take_output().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(first.split()[1]), fields, content)


def ready() -> Probe:
    """An upstream that is ready."""
    return probe(Runtime(status(200)), "triton", "rest")


def dead() -> Probe:
    """An upstream that nobody can connect to."""
    return probe(Runtime(unreachable), "mlserver", "rest")


def test_alive_asks_nobody() -> None:
    """/healthz is 200 with every upstream dead and before anything listens, and no upstream hears of it."""
    runtime = Runtime(unreachable)
    port = Port(listening=(), one=probe(runtime, "triton", "rest"))
    assert port.get("/healthz").status == 200
    assert runtime.sent == []


def test_started_when_the_listeners_are_bound() -> None:
    """/startupz waits for the listeners, and for nothing else."""
    port = Port(listening=(), one=dead())
    assert port.get("/startupz").status == 503
    port.health.listening = LISTENING
    started = port.get("/startupz")
    assert (started.status, started.json) == (200, {"started": True, "listening": ["127.0.0.1:8080"]})


def test_ready_with_one_upstream() -> None:
    """One upstream that is ready is enough; the answer says which is and which is not."""
    answer = Port(good=ready(), bad=dead()).get("/readyz")
    assert answer.status == 200
    assert answer.json == {
        "ready": True, "reasons": [], "listening": ["127.0.0.1:8080"], "upstreams": {"good": True, "bad": False},
        "stopping": False,
    }  # fmt: skip


def test_not_ready_says_why() -> None:
    """Without listeners and without an upstream that answers it is 503, with a reason for each."""
    answer = Port(listening=(), bad=dead(), worse=dead()).get("/readyz")
    assert (answer.status, answer.json["ready"]) == (503, False)
    assert answer.json["reasons"] == ["the listeners are not bound yet", "no upstream is ready: bad, worse"]


def test_a_proxy_that_stops_is_not_ready() -> None:
    """It is alive and started, but whoever sends traffic should do so elsewhere."""
    port = Port(good=ready())
    port.health.stopping = True
    answer = port.get("/readyz")
    assert (answer.status, answer.json["reasons"]) == (503, ["the proxy is stopping"])
    assert port.get("/healthz").status == port.get("/startupz").status == 200


def test_readiness_follows_the_upstream() -> None:
    """An upstream that comes back makes the proxy ready again."""
    clock, runtime = Clock(), Runtime(unreachable)
    port = Port(one=probe(runtime, "triton", "rest", clock))
    assert port.get("/readyz").status == 503
    runtime.answering, clock.time = status(200), FRESH_SECONDS
    assert port.get("/readyz").status == 200


def test_who_asks_waits_for_the_upstream() -> None:
    """/readyz answers when the upstream has, and a client that left in between is no trouble."""
    asked = probe(Runtime(silent), "triton", "grpc")
    port, gone = Port(one=asked), Port(one=asked)
    port.send("/readyz")
    gone.send("/readyz")
    gone.connection.lost()
    assert port.connection.take_output() == gone.connection.take_output() == b""
    asked._take(True)
    assert port.answer().status == 200
    assert gone.connection.take_output() == b""


def test_an_upstream_that_nobody_can_ask_counts_as_ready() -> None:
    """Where an API has no question for readiness, nothing speaks against sending calls there."""
    port = Port()
    port.health = Health(Readiness({"mute": []}), ["mute"])
    port.health.listening = LISTENING
    admin = Admin(port.health, port.metrics, {})
    port.connection = ClientConnection(admin, LIMITS, lambda: None)
    assert port.get("/readyz").json["upstreams"] == {"mute": True}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        ("text/plain;version=0.0.4", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.4", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=9; q=x", "text/plain; version=0.0.4"),
        ("application/openmetrics-text; version=%00", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_a_scraper_gets_the_format_that_it_prefers(accept: str | None, kind: str) -> None:
    """OpenMetrics for who asks for it, Prometheus' text for all others, always of a version that we write."""
    answer = Port(one=ready()).get("/metrics", headers=f"accept: {accept}\r\n" if accept else "")
    assert (answer.status, answer.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert answer.body.endswith(b"# EOF\n") == kind.startswith("application/openmetrics")


def test_metrics_tell_which_upstreams_are_up() -> None:
    """A scrape asks the upstreams, so that the gauge is not older than the scrape."""
    clock, runtime = Clock(), Runtime(message(b"\x08\x01"))
    port = Port(one=probe(runtime, "triton", "grpc", clock), two=dead())
    body = port.get("/metrics").body
    assert b'inferbridge_upstream_up{upstream="one"} 1.0\n' in body
    assert b'inferbridge_upstream_up{upstream="two"} 0.0\n' in body
    runtime.answering, clock.time = unreachable, FRESH_SECONDS
    assert b'inferbridge_upstream_up{upstream="one"} 0.0\n' in port.get("/metrics").body


def test_what_runs_here() -> None:
    """/version names the versions that decide how a call is carried."""
    expected = {
        "inferbridge": "1.2.3",
        "python": "3.13.1",
        "mitmproxy": "12.2.1",
        "event_loop": "asyncio",
        "spec_hash": "0123456789abcdef",
    }
    assert Port().get("/version").json == expected


def test_no_secret_is_ever_shown() -> None:
    """A canary in every secret of the settings stands on no page, and where it would stand is ***."""
    secret = Secret("canary-4711")
    settings = replace(Settings(), tls=ListenerTls(passphrase=secret), admin=AdminSettings(Listener("127.0.0.1", 1)))
    port = Port(settings=settings, one=ready())
    pages = {path: port.get(path) for path in PAGES}
    assert [path for path, page in pages.items() if b"canary" in page.body or page.status != 200] == []
    assert pages["/config"].json["tls"]["passphrase"] == "***"
    assert pages["/config"].json["admin"] == {"listen": "127.0.0.1:1", "tokens": "translated"}


@pytest.mark.parametrize("path", ["/", "/nothing", "/metrics/", "/config/tls", "/../config", "//metrics", "/v2"])
def test_there_is_nothing_else(path: str) -> None:
    """All other paths are 404, and say what there is without repeating what was sent."""
    answer = Port().get(path)
    assert answer.status == 404
    assert answer.json == {"error": f"there is {', '.join(PAGES)}"}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", PAGES)
def test_pages_are_read_only(method: str, path: str) -> None:
    """Any method but GET and HEAD is 405 with Allow, and asks no upstream."""
    runtime = Runtime(status(200))
    answer = Port(one=probe(runtime, "triton", "rest")).get(path, method, body="x=1")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert runtime.sent == []


@pytest.mark.parametrize("path", PAGES)
def test_head_has_no_body(path: str) -> None:
    """HEAD answers as GET does, without the body."""
    port = Port(one=ready())
    got, head = port.get(path), port.get(path, "HEAD")
    assert (head.status, head.body) == (got.status, b"")
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize("path", PAGES)
def test_answers_are_not_kept_and_not_guessed_at(path: str) -> None:
    """Health of a moment ago is worth nothing, so no cache may keep a page; a query changes nothing."""
    answer = Port(one=ready()).get(f"{path}?verbose=1")
    assert answer.status == 200
    assert (answer.headers["cache-control"], answer.headers["x-content-type-options"]) == ("no-store", "nosniff")


def test_what_is_no_request_is_refused() -> None:
    """A head over the limits or out of grammar is an error with a reason."""
    assert Port().get("/healthz", headers=f"x: {'a' * LIMITS.header_bytes}\r\n").status == 431
    assert Port().get("/healthz", headers="bad header\r\n").json["error"]


def test_a_page_that_fails_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is 500, also where the page is made after the call has been opened."""

    def fail(self: Metrics) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(Metrics, "text", fail)
    asked = probe(Runtime(silent), "triton", "grpc")
    port = Port(one=asked)
    port.send("/metrics")
    asked._take(True)
    assert port.answer().status == 500
