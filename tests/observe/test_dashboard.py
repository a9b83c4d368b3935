"""The dashboard: Grafana can import it, and each of its queries reads metrics that there are, by labels they have."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from inferbridge.cli import main
from inferbridge.observe.dashboard import dashboard
from inferbridge.observe.metrics import METRICS
from inferbridge.observe.series import Metric
from observe.promql import Reader, Selector

ENDINGS = {"histogram": ("_bucket", "_count", "_sum")}
SERIES = {one.name + ending: one for one in METRICS for ending in ENDINGS.get(one.kind, ("",))}
VARIABLE = re.compile(r"\$\{?([a-z_]+)\}?")


def panels() -> list[dict[str, Any]]:
    """All graphs."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, str, str]]:
    """Title, expression and legend of each query."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"], target["legendFormat"]


TARGETS = list(targets())


def labels_of(name: str) -> set[str]:
    """Labels of a series; a name that there is not fails."""
    metric: Metric = SERIES[name]
    return {*metric.labels, "le"} if name.endswith("_bucket") else set(metric.labels)


def problems(expression: str, legend: str) -> list[str]:
    """All that is wrong with a query."""
    found = Reader(expression).read()
    unknown = [one.name for one in found.selectors if one.name not in SERIES]
    if unknown:
        return [f"no such series: {unknown}"]
    wrong = [f"{one.name} has no label {one.matchers - labels_of(one.name)}" for one in found.selectors
             if one.matchers - labels_of(one.name)]  # fmt: skip
    for by, selectors in found.grouped:
        wrong += [f"{one.name} cannot be told by {by - labels_of(one.name)}" for one in selectors
                  if by - labels_of(one.name)]  # fmt: skip
    wrong += [f"{one.name} needs {'no' if one.is_range else 'a'} rate" for one in found.selectors if _misused(one)]
    shown = set(re.findall(r"\{\{(\w+)\}\}", legend))
    if shown != set(found.labels or ()):
        wrong.append(f"the legend {legend!r} does not tell {sorted(found.labels or ())} apart")
    return wrong


def _misused(selector: Selector) -> bool:
    """A counter without a rate, or a gauge with one."""
    return selector.is_range == (SERIES[selector.name].kind in ("gauge", "info"))


@pytest.mark.parametrize(("title", "expression", "legend"), TARGETS, ids=[f"{one[0]} {one[1][:30]}" for one in TARGETS])
def test_every_query_reads_what_there_is(title: str, expression: str, legend: str) -> None:
    """Metric, ending, matchers and groups of each query are those of the table, and the legend names its labels."""
    assert problems(expression, legend) == [], f"{title}: {expression}"


@pytest.mark.parametrize(
    ("expression", "legend"),
    [
        ("sum(rate(inferbridge_request_total[$__rate_interval]))", ""),
        ("sum(rate(inferbridge_ttft_seconds[$__rate_interval]))", ""),
        ("sum(inferbridge_requests_total)", ""),
        ("sum(rate(inferbridge_in_flight[$__rate_interval]))", ""),
        ('sum(rate(inferbridge_ttft_seconds_count{runtime="a"}[$__rate_interval]))', ""),
        ("sum by (user) (rate(inferbridge_requests_total[$__rate_interval]))", "{{user}}"),
        ("sum by (le) (rate(inferbridge_ttft_seconds_sum[$__rate_interval]))", "{{le}}"),
        ("sum by (model) (rate(inferbridge_requests_total[$__rate_interval]))", "{{runtime}}"),
    ],
)
def test_the_check_finds_what_is_wrong(expression: str, legend: str) -> None:
    """A wrong name, ending, label, group or legend is found, or finding none would mean nothing."""
    assert problems(expression, legend)


@pytest.mark.parametrize(
    "expression",
    [
        "sum(",
        "sum(a))",
        "rate(a)",
        "histogram_quantile(0.5, sum(a))",
        "nothing(a)",
        "a{b=c}",
        'a{b="c"',
        "a[5m]",
        "a b",
    ],
)
def test_the_reader_refuses_what_is_no_promql(expression: str) -> None:
    """An expression that Prometheus would not take is a ValueError."""
    with pytest.raises(ValueError, match=r"\S"):
        Reader(expression).read()


def test_every_metric_is_shown() -> None:
    """A metric that is added to the table belongs on the dashboard."""
    read = {SERIES[one.name].name for _, text, _ in TARGETS for one in Reader(text).read().selectors}
    assert read == {metric.name for metric in METRICS}


def test_variables_are_declared_and_read_real_labels() -> None:
    """Each `$variable` of a query or a data source exists, and is filled from a label of a metric."""
    made = dashboard()
    declared = {one["name"]: one for one in made["templating"]["list"]}
    used = set(VARIABLE.findall(json.dumps(made["panels"]))) - {"__rate_interval"}
    assert used == set(declared)
    for name in used - {"datasource"}:
        found = re.fullmatch(r"label_values\((\w+), (\w+)\)", declared[name]["definition"])
        assert found is not None
        assert found[2] in labels_of(found[1])


def test_panels_stand_in_a_grid_without_overlaps() -> None:
    """Ids are unique, and no two panels share a place of the 24 columns."""
    all_panels = dashboard()["panels"]
    assert len({panel["id"] for panel in all_panels}) == len(all_panels)
    taken: set[tuple[int, int]] = set()
    for panel in all_panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_command_prints_it() -> None:
    """`inferbridge dashboard` writes JSON to stdout, ready to be imported."""
    result = CliRunner().invoke(main, ["dashboard"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == dashboard()
