"""The metrics of several processes as one."""

from prometheus_client.parser import text_string_to_metric_families

from inferbridge.observe.adding import Collected, added, lasting
from inferbridge.observe.metrics import METRICS, Metrics, as_openmetrics, as_text
from inferbridge.observe.versions import Versions
from observe.test_metrics import counted

VERSIONS = Versions("1.2.3", "3.13.1", "12.2.1", "asyncio", "0123456789abcdef")


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Each sample by its name and labels."""
    found = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    return {(one.name, *(f"{key}={value}" for key, value in sorted(one.labels.items()))): one.value for one in found}


def test_counters_and_histograms_are_sums() -> None:
    """Of three processes that have counted the same each number is three times that of one, in every bucket.

    But for gauges of which the worst or best counts.
    """
    one = counted()
    whole = Collected(added([one.families() for _ in range(3)], METRICS))
    single, triple = values(one.text()), values(as_text(whole))
    alike = {metric.name for metric in METRICS if metric.across != "sum" or metric.kind == "info"}
    assert single.keys() == triple.keys()
    for key, value in single.items():
        assert triple[key] == value * (1 if key[0] in alike else 3), key
    assert as_openmetrics(whole).endswith(b"# EOF\n")


def test_a_process_with_other_labels_is_added_too() -> None:
    """What only one of them has seen stands in the sum as it is; an upstream is up where one of them finds it up."""
    one, other = Metrics(VERSIONS), Metrics(VERSIONS)
    one.auth("jwt", "allowed", "")
    other.auth("keys", "denied", "unknown_key")
    for metrics, up in ((one, False), (other, True)):
        metrics.upstream_up("triton", up)
    found = values(as_text(Collected(added([one.families(), other.families()], METRICS))))
    assert found[("inferbridge_auth_total", "method=jwt", "reason=", "result=allowed")] == 1
    assert found[("inferbridge_auth_total", "method=keys", "reason=unknown_key", "result=denied")] == 1
    assert found[("inferbridge_upstream_up", "upstream=triton")] == 1
    assert found[("inferbridge_workers",)] == 2


def test_what_is_gone_stays_counted() -> None:
    """Of a process that has ended its counters stay, or the sum would fall; its gauges go with it."""
    gone, left = counted(), Metrics(VERSIONS)
    found = values(as_text(Collected(added([lasting(gone.families()), left.families()], METRICS))))
    assert found[("inferbridge_config_reloads_total", "result=success")] == 1
    assert found[("inferbridge_in_flight", "protocol=grpc")] == 0
    assert ("inferbridge_upstream_up", "upstream=triton") not in found
    assert found[("inferbridge_workers",)] == 1
