"""What the environment asks for, and the SDK's complaints."""

import logging
import sys
import threading

import pytest

from inferbridge.observe import otlp
from inferbridge.observe.otlp import Complaints, flush, sending, wanted

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ()),
        (ENDPOINT, ("traces", "metrics")),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, ("traces",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("traces",)),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, ()),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, ("metrics",)),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ()),
        ({"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"}, ()),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "zipkin"}, ()),
    ],
)
def test_only_what_is_asked_for_is_sent(environment: dict[str, str], expected: tuple[str, ...]) -> None:
    """An endpoint or an exporter turns a signal on, `none` and OTEL_SDK_DISABLED off; nothing else does either."""
    assert wanted(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}, "http/protobuf or grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "secret:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "ftp://a:secret@b"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT must"),
    ],
)
def test_what_cannot_be_done_stops_the_start(environment: dict[str, str], message: str) -> None:
    """The error names the variable and what may stand there, never what stands there."""
    with pytest.raises(ValueError, match=message) as raised:
        wanted(environment)
    assert "secret" not in str(raised.value)


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for traces and has no OpenTelemetry is told so, instead of getting none."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ValueError, match=r"pip install 'inferbridge\[otel\]'"):
        async with sending(ENDPOINT):
            pass


async def test_grpc_needs_its_own_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP over gRPC is sent where its exporter is installed; else the start names it, and the way without."""
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ValueError, match=r"opentelemetry-exporter-otlp-proto-grpc.*http/protobuf"):
        async with sending(ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}):
            pass


async def test_without_being_asked_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK may be missing where nobody wants it."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    async with sending({}) as observers:
        assert observers == ()


@pytest.mark.parametrize(("protocol", "warned"), [("", True), ("grpc", False), ("http/protobuf", False)])
def test_the_port_of_grpc_is_questioned(caplog: pytest.LogCaptureFixture, protocol: str, warned: bool) -> None:
    """Port 4317 without a protocol is KServe's habit, and would never work over HTTP."""
    endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}
    wanted(endpoint | ({"OTEL_EXPORTER_OTLP_PROTOCOL": protocol} if protocol else {}))
    assert ("4317" in caplog.text) == warned


def complaint(line: int, *arguments: object) -> logging.LogRecord:
    """One of the SDK."""
    return logging.LogRecord("opentelemetry.x", logging.WARNING, "x.py", line, "failed: %s %s", arguments, None)


def test_complaints_are_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """However often a collector is not reached, each kind of complaint is one line in that time."""
    now = [0.0]
    complaints = Complaints(lambda: now[0])
    for second in range(120):
        now[0] = float(second)
        complaints.emit(complaint(1, 1, 2))
        complaints.emit(complaint(2, 1, 2))
    assert len(caplog.records) == 4


def test_complaints_repeat_nothing_of_others(caplog: pytest.LogCaptureFixture) -> None:
    """A server's words, an error's text and a header of the environment stay out; numbers and kinds are told."""
    complaints = Complaints()
    complaints.emit(complaint(1, 401, "secret"))
    complaints.emit(complaint(2, ConnectionError("secret"), "spans"))
    assert [record.getMessage() for record in caplog.records] == ["failed: 401 …", "failed: ConnectionError spans"]


async def test_the_end_waits_no_longer_than_it_says(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A collector that takes nothing does not keep the program alive, and the loss is said."""
    monkeypatch.setattr(otlp, "FLUSH_SECONDS", 0.01)
    held = threading.Event()
    await flush([held.wait])
    held.set()
    assert "it is lost" in caplog.text


async def test_one_that_fails_to_end_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """Each is ended, and what fails is logged."""
    ended: list[int] = []
    await flush([lambda: 1 / 0, lambda: ended.append(1)])
    assert ended == [1]
    assert "ending the export" in caplog.text
