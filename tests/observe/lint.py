"""What `promtool check metrics` and Prometheus' own parsers demand of an exposition, as one list of complaints."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

_HEAD = re.compile(r"# (HELP|TYPE|UNIT) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: # .*)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_KINDS = {"counter", "gauge", "histogram", "summary", "info", "unknown", "untyped"}
_UNITS = re.compile(r"_(?:milliseconds|ms|minutes|hours|kilobytes|megabytes|kb|mb|percent|microseconds|us|ns)(?:_|$)")
_RESERVED = {"histogram": ("_bucket", "_count", "_sum", "_created"), "counter": ("_total", "_created"),
             "info": ("_info",)}  # fmt: skip


@dataclass
class _Family:
    name: str
    kind: str = ""
    help: str | None = None
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)


def complaints(text: str, *, openmetrics: bool) -> list[str]:
    """All that is wrong with an exposition; nothing when it is as it should be."""
    found: list[str] = []
    if not text.endswith("\n"):
        found.append("the last line has no end")
    if text.endswith("# EOF\n") != openmetrics or text.count("# EOF") != int(openmetrics):
        found.append("# EOF must end OpenMetrics, and only that")
    families: dict[str, _Family] = {}
    current: _Family | None = None
    for line in text.splitlines():
        if line == "# EOF":
            continue
        head = _HEAD.fullmatch(line)
        if head is not None:
            if current is None or current.name != head[2]:
                if head[2] in families:
                    found.append(f"{head[2]} stands in two places")
                current = families[head[2]] = _Family(head[2])
            found += _note(current, head[1], head[3] or "")
        else:
            found += _take(current, line)
    for family in families.values():
        found += _of_family(family, openmetrics)
    return found


def _note(family: _Family, what: str, text: str) -> Iterator[str]:
    if what == "HELP":
        if family.help is not None:
            yield f"{family.name} has two HELP"
        family.help = text
    elif what == "TYPE":
        if family.kind or family.samples:
            yield f"{family.name} has two TYPE, or one behind its samples"
        family.kind = text


def _take(family: _Family | None, line: str) -> Iterator[str]:
    sample = _SAMPLE.fullmatch(line)
    if sample is None:
        yield f"not a line of the format: {line!r}"
        return
    labels = _LABEL.findall(sample[2] or "")
    if "".join(found[0] for found in _LABEL.finditer(sample[2] or "")) != (sample[2] or ""):
        yield f"labels are not well formed: {line!r}"
    if len(dict(labels)) != len(labels):
        yield f"a label stands twice: {line!r}"
    if family is None or not sample[1].startswith(family.name):
        yield f"{sample[1]} has no TYPE of its own"
    else:
        family.samples.append((sample[1], dict(labels), float(sample[3])))


def _of_family(family: _Family, openmetrics: bool) -> Iterator[str]:
    name, kind = family.name, family.kind
    if kind not in _KINDS:
        yield f"{name} is of no kind: {kind!r}"
    if not family.help:
        yield f"{name} has no help text"
    if re.search("[A-Z]", name) or ":" in name:
        yield f"{name} must be in snake case, without colons"
    if _UNITS.search(name):
        yield f"{name} must use base units"
    if re.search(r"_(?:counter|gauge|histogram|summary)(?:_|$)", name):
        yield f"{name} must not say its kind"
    if kind == "counter" and name.endswith("_total") == openmetrics:
        yield f"{name}: a counter ends with _total, which is no part of its family in OpenMetrics"
    if kind in ("gauge", "histogram") and name.endswith(("_total", "_count", "_sum", "_bucket")):
        yield f"{name} has the ending of another kind"
    yield from _of_samples(family, openmetrics)
    if kind == "histogram":
        yield from _of_histogram(family)


def _of_samples(family: _Family, openmetrics: bool) -> Iterator[str]:
    endings = _RESERVED.get(family.kind, ("",)) if openmetrics or family.kind == "histogram" else ("",)
    for name, labels, value in family.samples:
        if name.removeprefix(family.name) not in endings:
            yield f"{name} is no sample of a {family.kind} {family.name}"
        if ("le" in labels) != name.endswith("_bucket"):
            yield f"{name}: le belongs to buckets, and only to them"
        if any(re.search("[A-Z]", label) or label.startswith("__") for label in labels):
            yield f"{name} has a label that is not in snake case or reserved: {sorted(labels)}"
        if family.kind in ("counter", "histogram") and value < 0:
            yield f"{name} is negative"
    seen = Counter((name, *sorted(labels.items())) for name, labels, _ in family.samples)
    yield from (f"a series stands twice: {series}" for series, count in seen.items() if count > 1)
    shapes = {tuple(sorted(labels.keys() - {"le"})) for _, labels, _ in family.samples}
    if len(shapes) > 1:
        yield f"{family.name} has series with different labels: {sorted(shapes)}"


def _of_histogram(family: _Family) -> Iterator[str]:
    series: dict[tuple[tuple[str, str], ...], dict[str, list[tuple[str, float]]]] = {}
    for name, labels, value in family.samples:
        key = tuple(sorted((label, text) for label, text in labels.items() if label != "le"))
        ending = name.removeprefix(family.name)
        series.setdefault(key, {}).setdefault(ending, []).append((labels.get("le", ""), value))
    for parts in series.values():
        ends = [float(le) for le, _ in parts.get("_bucket", [])]
        counts = [count for _, count in parts.get("_bucket", [])]
        if not ends or ends[-1] != float("inf"):
            yield f"{family.name} has no last bucket +Inf"
        if not _grows(ends, strictly=True) or not _grows(counts, strictly=False):
            yield f"{family.name} has buckets that do not grow"
        if [count for _, count in parts.get("_count", [])] != counts[-1:]:
            yield f"{family.name}_count is not the count of its last bucket"
        if len(parts.get("_sum", [])) != 1:
            yield f"{family.name} has no sum"


def _grows(values: Iterable[float], *, strictly: bool) -> bool:
    return all(one < other if strictly else one <= other for one, other in pairwise(values))
