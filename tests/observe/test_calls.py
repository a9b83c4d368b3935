"""Metrics of calls: bounded whatever clients send, and fed by real calls."""

from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from gateway.test_guard import PATH
from gateway.test_recording import Played
from gateway.test_service import INFER, Runtime, infer_reply
from inferbridge.gateway.record import CallRecord
from inferbridge.observe.calls import CallMetrics
from inferbridge.observe.models import MODELS
from inferbridge.observe.series import OTHER, Histogram, Metric

BUDGET = 2000


@dataclass
class Counted:
    """Metrics and what a scraper sees of them."""

    registry: CollectorRegistry
    calls: CallMetrics

    @property
    def samples(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """All, by name and labels."""
        return {
            (one.name, tuple(sorted(one.labels.items()))): one.value
            for family in self.registry.collect()
            for one in family.samples
            if not one.name.endswith("_created")
        }

    def total(self, name: str, **labels: str) -> float:
        """The sum of what has these labels."""
        wanted = set(labels.items())
        return sum(value for (found, its), value in self.samples.items() if found == name and wanted <= set(its))


@pytest.fixture
def counted() -> Counted:
    """Metrics without a call."""
    registry = CollectorRegistry()
    return Counted(registry, CallMetrics(registry))


def stream(model: str, status: int = 200) -> CallRecord:
    """A streamed call that has ended."""
    record = CallRecord(protocol="HTTP/2", operation="generate", runtime="tgis", upstream_protocol="grpc", model=model)
    record.status, record.streamed, record.messages_out = status, True, 3
    record.began, record.received, record.upstream_began, record.first_byte = 1.0, 1.1, 1.2, 1.5
    record.upstream_ended, record.ended, record.gaps = 2.0, 2.1, [1] * 16
    record.use(1, 2)
    return record


@pytest.mark.parametrize("status", [200, 404])
def test_ten_thousand_random_models_stay_within_the_budget(counted: Counted, status: int) -> None:
    """The series of all metrics together are at most 2 000, and no call or token is missing in the sums."""
    for number in range(10_000):
        record = stream(f"random-{number}", status)
        counted.calls.began(record)
        counted.calls.ended(record)
    assert len(counted.samples) <= BUDGET
    assert counted.total("inferbridge_requests_total") == 10_000
    assert counted.total("inferbridge_requests_total", model=OTHER) == (10_000 - MODELS if status == 200 else 10_000)
    assert counted.total("inferbridge_tokens_total", type="output") == 20_000
    assert counted.total("inferbridge_ttft_seconds_count") == 10_000
    assert counted.total("inferbridge_in_flight") == 0


def test_models_that_nobody_serves_take_no_place(counted: Counted) -> None:
    """After any number of calls that failed, a model that is served still has a label of its own."""
    for number in range(1000):
        counted.calls.ended(stream(f"made-up-{number}", 404))
    counted.calls.ended(stream("real"))
    assert counted.total("inferbridge_requests_total", model="real") == 1


def test_buckets_hold_what_is_not_longer_than_their_end() -> None:
    """As Prometheus defines `le`: a value on the edge belongs to the bucket that it ends, and buckets add up."""
    registry = CollectorRegistry()
    histogram = Histogram(Metric("a_seconds", "histogram", "A.", ("b",), 2, (1.0, 2.0)), registry)
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value, "x")
    histogram.add([1, 0, 1], 9.5, "x")
    assert registry.get_sample_value("a_seconds_bucket", {"b": "x", "le": "1.0"}) == 3
    assert registry.get_sample_value("a_seconds_bucket", {"b": "x", "le": "2.0"}) == 5
    assert registry.get_sample_value("a_seconds_bucket", {"b": "x", "le": "+Inf"}) == 7
    assert registry.get_sample_value("a_seconds_count", {"b": "x"}) == 7
    assert registry.get_sample_value("a_seconds_sum", {"b": "x"}) == 17.0


def test_a_real_call_is_counted(counted: Counted) -> None:
    """What the gateway records of a call arrives in the counters, and a refused one is none of the translated ones."""
    played = Played(Runtime(infer_reply))
    played.recorder._observers = (counted.calls,)
    played.call(PATH, INFER)
    played.call(PATH, INFER)
    assert counted.total("inferbridge_requests_total", code="200", model="m", direction="rest-grpc") == 1
    assert counted.total("inferbridge_requests_total", code="429", direction="rest-none") == 1
    assert counted.total("inferbridge_limits_rejected_total", limit="rate") == 1
    assert counted.total("inferbridge_overhead_seconds_count", operation="infer", phase="map") == 1
    assert counted.total("inferbridge_ttft_seconds_count") == 0
