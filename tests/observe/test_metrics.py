"""The metrics: what a scraper reads is well formed, complete and bounded, and the documentation says the same."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from documents import DOCS, read
from inferbridge.bridge.errors import Code
from inferbridge.gateway.record import CallRecord
from inferbridge.observe import calls, metrics
from inferbridge.observe.metrics import AUTH, METRICS, Metrics, markdown_table
from inferbridge.observe.series import OTHER, Metric
from inferbridge.observe.versions import Versions, spec_hash, versions
from inferbridge.upstream.api import Call, Receiver, State, UpstreamRequest

SAMPLES = {"histogram": ("_bucket", "_count", "_sum")}
VERSIONS = Versions("1.2.3", "3.13.1", "12.2.1", "asyncio", "0123456789abcdef")
NAME = re.compile(r"inferbridge_[a-z0-9]+(_[a-z0-9]+)*")
LABEL = re.compile(r"[a-z]+(_[a-z]+)*")
RESERVED_LABELS = {"job", "instance", "le", "quantile"}
ENDINGS = {"counter": "_total", "info": "_info", "gauge": "", "histogram": "_seconds"}

_WAY = ("direction", "grpc-rest"), ("operation", "generate")
_WRONG = ("direction", "rest-none"), ("operation", "infer")
RUNTIME, NO_RUNTIME = ("runtime", "tgis"), ("runtime", "none")
NO_CODE, NO_MODEL = ("code", "none"), ("model", "none")
CALLS_COUNTED = {
    (
        "inferbridge_requests_total",
        ("code", "200"),
        _WAY[0],
        ("grpc_code", "OK"),
        ("model", "m"),
        _WAY[1],
        RUNTIME,
    ): 1.0,
    ("inferbridge_requests_total", NO_CODE, _WRONG[0], ("grpc_code", "none"), NO_MODEL, _WRONG[1], NO_RUNTIME): 2.0,
    ("inferbridge_request_duration_seconds_count", *_WAY, RUNTIME): 1.0,
    ("inferbridge_request_duration_seconds_sum", *_WAY, RUNTIME): 2.5,
    ("inferbridge_request_duration_seconds_count", *_WRONG, NO_RUNTIME): 2.0,
    ("inferbridge_request_duration_seconds_sum", *_WRONG, NO_RUNTIME): 2.0,
    ("inferbridge_overhead_seconds_count", *_WAY, ("phase", "auth")): 1.0,
    ("inferbridge_overhead_seconds_sum", *_WAY, ("phase", "auth")): 0.125,
    ("inferbridge_overhead_seconds_count", *_WAY, ("phase", "map")): 1.0,
    ("inferbridge_overhead_seconds_sum", *_WAY, ("phase", "map")): 0.25,
    ("inferbridge_overhead_seconds_count", *_WAY, ("phase", "encode")): 1.0,
    ("inferbridge_overhead_seconds_sum", *_WAY, ("phase", "encode")): 0.5,
    ("inferbridge_in_flight", ("protocol", "grpc")): 1.0,
    ("inferbridge_in_flight", ("protocol", "rest")): 0.0,
    ("inferbridge_ttft_seconds_count", ("model", "m")): 1.0,
    ("inferbridge_ttft_seconds_sum", ("model", "m")): 1.0,
    ("inferbridge_inter_message_seconds_count", ("model", "m")): 2.0,
    ("inferbridge_inter_message_seconds_sum", ("model", "m")): 200.0,
    ("inferbridge_tokens_total", ("model", "m"), ("type", "input")): 7.0,
    ("inferbridge_tokens_total", ("model", "m"), ("type", "output")): 11.0,
    ("inferbridge_stream_messages_total", ("operation", "generate"), ("side", "answer")): 3.0,
    ("inferbridge_stream_messages_total", ("operation", "generate"), ("side", "request")): 1.0,
    ("inferbridge_translation_errors_total", ("operation", "infer"), ("reason", "invalid_argument")): 1.0,
    ("inferbridge_limits_rejected_total", ("limit", "rate")): 1.0,
    ("inferbridge_limits_rejected_total", ("limit", "stall_timeout")): 1.0,
    ("inferbridge_h2_abuse_total", ("kind", "ping")): 1.0,
}


def counted() -> Metrics:
    """Metrics of which every one has a value."""
    made = Metrics(VERSIONS)
    made.lost_fields("generate", "openai", "tgis", 2)
    made.lost_fields("generate", "openai", "tgis", 1)
    made.auth("api_key", "denied", "unknown_key")
    made.auth_cache("kubernetes", hit=True)
    made.rejected("stall_timeout")
    call = CallRecord(protocol="gRPC", operation="generate", runtime="tgis", model="m", upstream_protocol="rest")
    call.status, call.grpc_status, call.streamed, call.messages_in, call.messages_out = 200, 0, True, 1, 3
    call.began, call.received, call.upstream_began, call.first_byte = 1.0, 1.25, 1.5, 2.0
    call.admitted = 1.125
    call.upstream_ended, call.ended, call.gaps, call.gap_seconds = 3.0, 3.5, [0] * 15 + [2], 200.0
    call.use(7, 11)
    made.calls.began(call)
    made.calls.began(call)
    made.calls.ended(call)
    wrong = CallRecord(operation="infer", began=1.0, ended=2.0)
    for flag in ("TE", "RL"):
        wrong.code, wrong.flags = Code.INVALID_ARGUMENT, (flag,)
        made.calls.began(wrong)
        made.calls.ended(wrong)
    made.captured("file")
    made.capture_dropped("cloudevents", "queue")
    made.abused("ping")
    made.upstream_up("triton", True)
    made.upstream_up('od"d\n', False)
    made.retried("triton", "goaway")
    made.watch("triton", _HalfOpen())
    made.reloaded(success=True)
    made.workers(3)
    made.certificate("127.0.0.1:8443", lambda: 3600.0)
    made.insecure_upstreams(2)
    made.restarted()
    return made


class _HalfOpen:
    """The connections of an upstream that is tried again."""

    connections = 3
    state: State = "half open"

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        raise AssertionError("metrics send nothing")

    async def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: Metric) -> None:
    """As promtool demands: our prefix, the ending of the kind and no other's, a help text, labels in snake case."""
    assert NAME.fullmatch(metric.name)
    assert metric.name.endswith(ENDINGS[metric.kind])
    assert metric.kind != "gauge" or not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket"))
    assert metric.help.endswith(".")
    assert all(LABEL.fullmatch(label) for label in metric.labels)
    assert not RESERVED_LABELS & set(metric.labels)


def test_the_text_has_help_and_type_for_every_metric_and_no_other() -> None:
    """In the text format each metric of the table stands once with its HELP and TYPE, and nothing else does."""
    text = counted().text().decode()
    kinds = {
        "counter": "counter",
        "gauge": "gauge",
        "histogram": "histogram",
        "info": "gauge",
    }  # the text format knows no info
    for metric in METRICS:
        assert text.count(f"# HELP {metric.name} {metric.help}\n") == 1
        assert text.count(f"# TYPE {metric.name} {kinds.get(metric.kind, metric.kind)}\n") == 1
    assert text.count("# TYPE ") == len(METRICS)
    names = {re.split("[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"}
    assert names == {one.name + ending for one in METRICS for ending in SAMPLES.get(one.kind, ("",))}


@pytest.mark.parametrize("read", [text_families, openmetrics_families])
def test_both_formats_say_what_was_counted(read: Callable[[str], object]) -> None:
    """A parser of either format finds each number with the labels of the table, whatever stands in a label."""
    made = counted()
    text = (made.text() if read is text_families else made.openmetrics()).decode()
    samples = [
        one
        for family in read(text)  # type: ignore[attr-defined]  # families of metrics
        for one in family.samples
        if not one.name.endswith(("_created", "_bucket"))
    ]
    assert {(one.name, *sorted(one.labels.items())): one.value for one in samples} == {
        ("inferbridge_build_info", ("spec_hash", "0123456789abcdef"), ("version", "1.2.3")): 1.0,
        ("inferbridge_lost_fields_total", ("api", "openai"), ("operation", "generate"), ("runtime", "tgis")): 3.0,
        ("inferbridge_auth_total", ("method", "api_key"), ("reason", "unknown_key"), ("result", "denied")): 1.0,
        **CALLS_COUNTED,
        ("inferbridge_captured_total", ("sink", "file")): 1.0,
        ("inferbridge_capture_dropped_total", ("reason", "queue"), ("sink", "cloudevents")): 1.0,
        ("inferbridge_auth_cache_total", ("cache", "kubernetes"), ("result", "hit")): 1.0,
        ("inferbridge_h2_abuse_total", ("kind", "ping")): 1.0,
        ("inferbridge_upstream_up", ("upstream", "triton")): 1.0,
        ("inferbridge_upstream_up", ("upstream", 'od"d\n')): 0.0,
        ("inferbridge_retries_total", ("reason", "goaway"), ("upstream", "triton")): 1.0,
        ("inferbridge_breaker_state", ("upstream", "triton")): 1.0,
        ("inferbridge_upstream_connections", ("upstream", "triton")): 3.0,
        ("inferbridge_config_reloads_total", ("result", "success")): 1.0,
        ("inferbridge_workers",): 3.0,
        ("inferbridge_tasks",): 0.0,
        ("inferbridge_tls_cert_expiry_seconds", ("listener", "127.0.0.1:8443")): 3600.0,
        ("inferbridge_tls_insecure_upstreams",): 2.0,
        ("inferbridge_worker_restarts_total",): 1.0,
    }
    assert {one.name: set(one.labels) for one in samples} == {
        metric.name + ending: set(metric.labels)
        for metric in METRICS
        for ending in (("_count", "_sum") if metric.kind == "histogram" else ("",))
    }


def test_a_label_that_grows_ends_in_other() -> None:
    """Beyond its number of label sets a counter adds up under `_other`, and loses no count."""
    made = Metrics(VERSIONS)
    for number in range(AUTH.series + 7):
        made.auth("api_key", "denied", f"mistake {number}")
    (family,) = [one for one in text_families(made.text().decode()) if one.name == "inferbridge_auth"]
    counts = {one.labels["reason"]: one.value for one in family.samples}
    assert len(counts) == AUTH.series + 1
    assert counts[OTHER] == 7
    assert sum(counts.values()) == AUTH.series + 7
    assert len(made._auth._children) == AUTH.series + 1, "what has no series of its own takes no memory either"


def test_an_upstream_that_is_gone_has_no_number() -> None:
    """After a reload only the upstreams that there are say whether they are up."""
    made = counted()
    made.upstreams(["triton", "new"])
    text = made.text().decode()
    assert 'inferbridge_upstream_up{upstream="triton"}' in text
    assert text.count("inferbridge_upstream_up{") == 1


def test_proxies_in_one_process_do_not_share_numbers() -> None:
    """Each running proxy has its own registry."""
    counted()
    assert b'operation="generate"' not in Metrics(VERSIONS).text()


def test_the_metrics_are_documented() -> None:
    """The table of docs/observing.md is that of the code; when they differ, this prints what it must say."""
    page = read(DOCS / "observing.md")
    block = page.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->\n")[0]
    assert block == markdown_table(), f"between the marks of docs/observing.md must stand:\n{markdown_table()}"


def test_every_metric_of_the_module_is_in_the_table() -> None:
    """A metric that is declared but left out of the table would be documented nowhere."""
    declared = {value for module in (calls, metrics) for value in vars(module).values() if isinstance(value, Metric)}
    assert declared == set(METRICS)


def test_the_hash_of_the_specs_is_that_of_what_was_generated(tmp_path: Path) -> None:
    """The same generated package has the same hash anywhere, a changed or renamed file another."""
    (tmp_path / "a.py").write_text("x = 1\n")
    first = spec_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert spec_hash(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    renamed = spec_hash(tmp_path)
    (tmp_path / "b.py").write_text("x = 2\n")
    assert len({first, renamed, spec_hash(tmp_path)}) == 3
    assert re.fullmatch(r"[0-9a-f]{16}", versions().spec_hash)
