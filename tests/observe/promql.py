"""A reader of the part of PromQL that the dashboard uses: which series an expression reads, and with which labels.

expression = unary *( operator unary )
unary      = aggregation | call | "(" expression ")" | selector | number
aggregation= ("sum" | "min" | …) [ "by" labels ] "(" expression ")"
call       = name "(" expression *( "," expression ) ")"
selector   = name [ "{" matchers "}" ] [ "[" range "]" ]
"""

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|=~|!~|!=|\$__rate_interval|[A-Za-z_:][A-Za-z0-9_:]*|\d+(?:\.\d+)?[smh]?|[-+*/(){}\[\],=])'
)
_AGGREGATIONS = {"sum", "min", "max", "avg", "count"}
_FUNCTIONS = {"rate": 1, "histogram_quantile": 2, "vector": 1}


@dataclass(frozen=True)
class Selector:
    """One series that is read."""

    name: str
    matchers: frozenset[str]
    """Labels that narrow it."""
    is_range: bool


@dataclass
class Read:
    """What an expression reads and answers."""

    selectors: list[Selector] = field(default_factory=list)
    grouped: list[tuple[frozenset[str], list[Selector]]] = field(default_factory=list)
    """Labels of each `by`, and the series behind it."""
    labels: frozenset[str] | None = frozenset()
    """Of the answer; None: those of its series."""


class Reader:
    """Reads one expression; ValueError for what is none."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"not PromQL at {text[at:]!r}")
            self._tokens.append(found[1])
            at = found.end()
        self._at = 0

    def read(self) -> Read:
        """The whole expression."""
        found = self._expression()
        if self._next() is not None:
            raise ValueError(f"not expected: {self._next()}")
        return found

    def _next(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *expected: str) -> str:
        token = self._next()
        if token is None or (expected and token not in expected):
            raise ValueError(f"{token} where one of {expected} belongs")
        self._at += 1
        return token

    def _expression(self) -> Read:
        found = self._unary()
        while self._next() in ("+", "-", "*", "/", "or"):
            self._take()
            other = self._unary()
            labels = found.labels or other.labels
            found = Read(found.selectors + other.selectors, found.grouped + other.grouped, labels)
        return found

    def _unary(self) -> Read:
        token = self._take()
        if token == "(":
            found = self._expression()
            self._take(")")
            return found
        if token[0].isdigit():
            return Read()
        if token in _AGGREGATIONS:
            return self._aggregation()
        if self._next() == "(":
            return self._call(token)
        return self._selector(token)

    def _aggregation(self) -> Read:
        by: frozenset[str] = frozenset()
        if self._next() == "by":
            self._take()
            by = self._labels()
        self._take("(")
        inner = self._expression()
        self._take(")")
        return Read(inner.selectors, [*inner.grouped, (by, inner.selectors)], by)

    def _labels(self) -> frozenset[str]:
        self._take("(")
        names = {self._take()}
        while self._take(",", ")") == ",":
            names.add(self._take())
        return frozenset(names)

    def _call(self, name: str) -> Read:
        if name not in _FUNCTIONS:
            raise ValueError(f"no function {name}")
        self._take("(")
        found = [self._expression()]
        while self._take(",", ")") == ",":
            found.append(self._expression())
        if len(found) != _FUNCTIONS[name]:
            raise ValueError(f"{name} takes {_FUNCTIONS[name]}")
        last = found[-1]
        if name == "rate" and not all(one.is_range for one in last.selectors):
            raise ValueError("rate needs a range")
        if name == "histogram_quantile":
            if last.labels is None or "le" not in last.labels:
                raise ValueError("histogram_quantile needs le")
            return Read(last.selectors, last.grouped, last.labels - {"le"})
        return last

    def _selector(self, name: str) -> Read:
        matchers: set[str] = set()
        if self._next() == "{":
            self._take()
            while True:
                matchers.add(self._take())
                self._take("=", "!=", "=~", "!~")
                if not self._take().startswith('"'):
                    raise ValueError("a matcher needs a text")
                if self._take(",", "}") == "}":
                    break
        is_range = self._next() == "["
        if is_range:
            self._take()
            self._take("$__rate_interval")
            self._take("]")
        return Read([Selector(name, frozenset(matchers), is_range)], [], None)
