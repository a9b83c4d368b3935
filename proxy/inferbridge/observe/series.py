"""Metrics as users know them, and numbers for them whose labels are bounded.

Labels come from the specs, from the configuration or from a fixed set of words; the one thing of a client's that may
become one is a model's name, see `calls`. Should a label grow all the same, each metric keeps `Metric.series` sets of
labels, and what comes after them counts under `_other`: a mistake of ours must not fill the memory of the user's
Prometheus.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

OTHER = "_other"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as users know it."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    help: str
    labels: tuple[str, ...] = ()
    series: int = 500
    """Sets of labels that a counter or histogram keeps apart."""
    buckets: tuple[float, ...] = ()
    """Upper ends of a histogram's, without the last one, which has no end."""
    across: Literal["sum", "max", "min"] = "sum"
    """What a gauge is of several worker processes; counters and histograms are sums."""


class Count(Collector):
    """A counter that keeps a bounded number of label sets; why it is our own, see `Histogram`."""

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], Number] = {}
        registry.register(self)

    def child(self, *labels: str) -> "Number":
        """The counter with these labels, for who adds to it often."""
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= self._metric.series:
                labels = (OTHER,) * len(labels)
            child = self._children.setdefault(labels, Number())
        return child

    def add(self, *labels: str, count: int = 1) -> None:
        """Add to the counter with these labels."""
        self.child(*labels).value += count

    def collect(self) -> Iterable[CounterMetricFamily]:
        """What a scraper reads."""
        family = CounterMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for labels, child in self._children.items():
            family.add_metric(labels, child.value)
        yield family


class Number:
    """One set of labels of a counter."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Buckets:
    """One set of labels of a histogram."""

    __slots__ = ("counts", "ends", "total")

    def __init__(self, ends: tuple[float, ...]) -> None:
        self.ends = ends
        self.counts = [0] * (len(ends) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self.ends, value)] += 1
        self.total += value


class Histogram(Collector):
    """A histogram that keeps a bounded number of label sets.

    prometheus_client's own takes a lock and walks its buckets for each value, which costs more than all else that is
    noted of a call; calls are served by one thread.
    """

    def __init__(self, metric: Metric, registry: CollectorRegistry) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], Buckets] = {}
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """Add one value."""
        self.child(*labels).observe(value)

    def add(self, counts: Sequence[int], total: float, *labels: str) -> None:
        """Add values that are counted by bucket already, the last for those beyond all; `total` is their sum."""
        child = self.child(*labels)
        for place, count in enumerate(counts):
            child.counts[place] += count
        child.total += total

    def child(self, *labels: str) -> Buckets:
        """The histogram with these labels, for who adds to it often."""
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= self._metric.series:
                labels = (OTHER,) * len(labels)
            child = self._children.setdefault(labels, Buckets(self._metric.buckets))
        return child

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What a scraper reads."""
        family = HistogramMetricFamily(self._metric.name, self._metric.help, labels=self._metric.labels)
        for labels, child in self._children.items():
            family.add_metric(labels, list(self._cumulated(child)), child.total)
        yield family

    def _cumulated(self, child: Buckets) -> Iterator[tuple[str, float]]:
        below = 0
        for end, count in zip((*self._metric.buckets, float("inf")), child.counts, strict=True):
            below += count
            yield floatToGoString(end), below  # type: ignore[no-untyped-call]  # it has no types
