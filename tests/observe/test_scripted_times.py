"""Times and tokens of a call whose runtime keeps to a script, on a clock that the test moves: all of them exact."""

import sys

import pytest
from prometheus_client import CollectorRegistry

from gateway.test_recording import Kept
from gateway.test_service import GRPC, Client
from gateway.test_translating import OK, Upstream, message
from inferbridge.bridge.context import Policy, Setting
from inferbridge.bridge.values import Headers
from inferbridge.gateway import record
from inferbridge.gateway.application import RequestHead, RequestSink
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.records.recording import Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe.access_log import line_of
from inferbridge.observe.calls import CallMetrics
from inferbridge_generated import operations
from inferbridge_generated.registry import APIS
from inferbridge_generated.runtimes import PROFILES

JSON: Headers = (("content-type", "application/json"),)
BODY = b'{"model": "m", "prompt": "a", "temperature": 0, "stream": true}'


class Clock:
    """Seconds, as told; with `step` it goes on by itself at each reading."""

    def __init__(self) -> None:
        self.now = 100.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now

    def at(self, seconds: float) -> None:
        """So long after the call's begin."""
        self.now = 100.0 + seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Whatever times a call goes by it."""
    made = Clock()
    real = record.clock
    for module in list(sys.modules.values()):
        if module.__name__.startswith("inferbridge.") and getattr(module, "clock", None) is real:
            monkeypatch.setattr(module, "clock", made)
    monkeypatch.setattr(Pulse, "start", lambda self: None)
    return made


class Played:
    """A completion that TGIS streams, with metrics and a record."""

    def __init__(self) -> None:
        self.registry, self.kept, self.upstream = CollectorRegistry(), Kept(), Upstream()
        setting = Setting(operations=operations)
        targets = [Target("one", profile, "grpc", self.upstream, setting=setting) for profile in PROFILES["tgis"]]
        service = GatewayService(targets, APIS, Policy(), Limits())
        self.recorder = Recorder(service, [self.kept, CallMetrics(self.registry)])

    def open(self) -> RequestSink:
        """The call begins."""
        return self.recorder.open(RequestHead("POST", "/v1/completions", "a", JSON, "1.1"), Client())

    @property
    def record(self) -> CallRecord:
        """That of the only call."""
        return self.kept.one

    def value(self, name: str, **labels: str) -> float | None:
        """Of a series."""
        value: float | None = self.registry.get_sample_value(name, labels)
        return value


def test_a_stream_is_timed_to_the_millisecond(clock: Clock) -> None:
    """TTFT, the gaps between messages, the runtime's time, the proxy's own, and tokens are those of the script."""
    played = Played()
    sink = played.open()
    sink.on_data(BODY)
    clock.at(0.020)
    sink.on_end()
    receiver = played.upstream.calls[0][1]
    clock.at(0.120)
    receiver.on_head(200, GRPC)
    for moment, said in (
        (0.150, message(text="a", input_token_count=4, generated_token_count=1)),
        (0.157, message(text="b", generated_token_count=2)),
        (0.257, message(text="c", generated_token_count=3, stop_reason=2)),
    ):
        clock.at(moment)
        receiver.on_data(said)
    clock.at(0.260)
    receiver.on_end(OK)
    found, line = played.record, line_of(played.record)
    assert found.ttft == pytest.approx(0.150)
    assert found.upstream_seconds == pytest.approx(0.240)
    assert found.overhead == pytest.approx(0.0)
    assert (line.ttft_ms, line.duration_ms, line.upstream_ms, line.overhead_ms) == pytest.approx((150, 260, 240, 0))
    assert (line.tokens_in, line.tokens_out) == (4, 3)
    assert played.value("inferbridge_ttft_seconds_sum", model="m") == pytest.approx(0.150)
    assert played.value("inferbridge_inter_message_seconds_count", model="m") == 3  # the mark of success comes last
    assert played.value("inferbridge_inter_message_seconds_sum", model="m") == pytest.approx(0.110)
    below = [played.value("inferbridge_inter_message_seconds_bucket", model="m", le=end) for end in ("0.005", "0.01")]
    assert below == [1, 2]
    tokens = [played.value("inferbridge_tokens_total", model="m", type=kind) for kind in ("input", "output")]
    assert tokens == [4, 3]


def test_the_overhead_is_what_the_runtime_and_the_client_did_not_take(clock: Clock) -> None:
    """With a clock that goes on by itself: all from the client's whole body on, but for the runtime's time."""
    clock.step = 0.001
    played = Played()
    sink = played.open()
    sink.on_data(BODY)
    sink.on_end()
    receiver = played.upstream.calls[0][1]
    receiver.on_head(200, GRPC)
    for number in range(1, 6):
        receiver.on_data(message(text="x", generated_token_count=number, stop_reason=2 if number == 5 else 0))
    receiver.on_end(OK)
    found = played.record
    assert found.upstream_seconds is not None
    expected = found.ended - found.received - found.upstream_seconds
    assert expected > 0.0015
    assert found.overhead == pytest.approx(expected)
    assert line_of(found).overhead_ms == pytest.approx(1000 * expected)
    total = sum(
        played.value("inferbridge_overhead_seconds_sum", direction="rest-grpc", operation="generate", phase=phase) or 0
        for phase in ("auth", "map", "encode")
    )
    assert total == pytest.approx(expected)
