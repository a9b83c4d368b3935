"""The metrics: what a scraper reads is well formed, complete and bounded, and the documentation says the same."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from inferbridge.observe import metrics as module
from inferbridge.observe.metrics import AUTH, METRICS, OTHER, Metric, Metrics, markdown_table
from inferbridge.observe.versions import Versions, spec_hash, versions
from packaging_sources import ROOT

VERSIONS = Versions("1.2.3", "3.13.1", "12.2.1", "0123456789abcdef")
NAME = re.compile(r"inferbridge_[a-z0-9]+(_[a-z0-9]+)*")
LABEL = re.compile(r"[a-z]+(_[a-z]+)*")
RESERVED_LABELS = {"job", "instance", "le", "quantile"}
ENDINGS = {"counter": "_total", "info": "_info", "gauge": ""}


def counted() -> Metrics:
    """Metrics of which every one has a value."""
    made = Metrics(VERSIONS)
    made.lost_fields("generate", "openai", "tgis", 2)
    made.lost_fields("generate", "openai", "tgis", 1)
    made.auth("api_key", "denied", "unknown_key")
    made.upstream_up("triton", True)
    made.upstream_up('od"d\n', False)
    return made


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
    kinds = {"counter": "counter", "gauge": "gauge", "info": "gauge"}  # the text format knows no info
    for metric in METRICS:
        assert text.count(f"# HELP {metric.name} {metric.help}\n") == 1
        assert text.count(f"# TYPE {metric.name} {kinds[metric.kind]}\n") == 1
    assert text.count("# TYPE ") == len(METRICS)
    assert {line.partition("{")[0] for line in text.splitlines() if line[0] != "#"} == {one.name for one in METRICS}


@pytest.mark.parametrize("read", [text_families, openmetrics_families])
def test_both_formats_say_what_was_counted(read: Callable[[str], object]) -> None:
    """A parser of either format finds each number with the labels of the table, whatever stands in a label."""
    made = counted()
    text = (made.text() if read is text_families else made.openmetrics()).decode()
    samples = [one for family in read(text) for one in family.samples if not one.name.endswith("_created")]  # type: ignore[attr-defined]  # families of metrics
    assert {(one.name, *sorted(one.labels.items())): one.value for one in samples} == {
        ("inferbridge_build_info", ("spec_hash", "0123456789abcdef"), ("version", "1.2.3")): 1.0,
        ("inferbridge_lost_fields_total", ("api", "openai"), ("operation", "generate"), ("runtime", "tgis")): 3.0,
        ("inferbridge_auth_total", ("method", "api_key"), ("reason", "unknown_key"), ("result", "denied")): 1.0,
        ("inferbridge_upstream_up", ("upstream", "triton")): 1.0,
        ("inferbridge_upstream_up", ("upstream", 'od"d\n')): 0.0,
    }
    assert {one.name: set(one.labels) for one in samples} == {metric.name: set(metric.labels) for metric in METRICS}


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


def test_proxies_in_one_process_do_not_share_numbers() -> None:
    """Each running proxy has its own registry."""
    counted()
    assert b'operation="generate"' not in Metrics(VERSIONS).text()


def test_the_readme_lists_the_metrics() -> None:
    """README's table is that of the code; when they differ, this prints what README must say."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- metrics -->\n")[2].partition("<!-- /metrics -->\n")[0]
    assert block == markdown_table(), f"between the marks of README.md must stand:\n{markdown_table()}"


def test_every_metric_of_the_module_is_in_the_table() -> None:
    """A metric that is declared but left out of the table would be documented nowhere."""
    declared = {value for value in vars(module).values() if isinstance(value, Metric)}
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
