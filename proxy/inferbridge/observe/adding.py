"""The numbers of several processes as those of one.

Counters and histograms are added up; a gauge as its `Metric.across` says. What a process has counted stays counted when
it is gone, or Prometheus would take the sum that has become smaller for a restart, and count all of it anew.
"""

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from prometheus_client.metrics_core import Metric as PrometheusFamily
from prometheus_client.registry import Collector

from inferbridge.observe.series import Metric

type _Key = tuple[str, tuple[tuple[str, str], ...]]
_LASTING = frozenset({"counter", "histogram"})


class Family(Struct):
    """One metric of a process, as `prometheus_client` says it."""

    name: str
    kind: str
    help: str
    samples: list[tuple[str, dict[str, str], float]]


def families(registry: Collector) -> list[Family]:
    """All that a registry holds."""
    return [
        Family(one.name, one.type, one.documentation, [(each.name, each.labels, each.value) for each in one.samples])
        for one in registry.collect()
    ]


def lasting(found: Iterable[Family]) -> list[Family]:
    """What stays counted when its process is gone."""
    return [family for family in found if family.kind in _LASTING]


def added(processes: Iterable[Iterable[Family]], metrics: Iterable[Metric]) -> list[Family]:
    """The families of all processes as one; `metrics` says how."""
    across = {metric.name.removesuffix("_info"): metric.across for metric in metrics}  # as prometheus_client has it
    found: dict[str, Family] = {}
    values: dict[str, dict[_Key, float]] = {}
    for process in processes:
        for family in process:
            found.setdefault(family.name, family)
            _merge(values.setdefault(family.name, {}), family, across.get(family.name, "sum"))
    return [Family(one.name, one.kind, one.help, list(_samples(values[one.name]))) for one in found.values()]


def _merge(values: dict[_Key, float], family: Family, across: str) -> None:
    for name, labels, value in family.samples:
        key = (name, tuple(labels.items()))
        known = values.get(key)
        if known is None:
            values[key] = value
        elif family.kind in _LASTING or across == "sum":
            values[key] = known + value
        else:
            values[key] = max(known, value) if across == "max" else min(known, value)


def _samples(values: Mapping[_Key, float]) -> Iterator[tuple[str, dict[str, str], float]]:
    return ((name, dict(labels), value) for (name, labels), value in values.items())


class Collected(Collector):
    """Families as `prometheus_client` writes them out."""

    def __init__(self, found: Iterable[Family]) -> None:
        self._found = found

    def collect(self) -> Iterable[PrometheusFamily]:
        """What a scraper reads."""
        for family in self._found:
            made = PrometheusFamily(family.name, family.help, family.kind)
            for name, labels, value in family.samples:
                made.add_sample(name, labels, value)
            yield made
