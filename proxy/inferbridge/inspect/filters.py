"""Chooses recorded calls by what is known of them.

    filter   = [ term { space term } ]              all terms must hold
    term     = [ "-" ] name ":" value               "-": it must not hold
    value    = word | '"' characters '"'
    name     = "model" | "op" | "api" | "runtime" | "upstream"       value: a glob (`*`, `?`, `[…]`)
             | "status"                                              value: 404, 5xx, grpc:NOT_FOUND or grpc:5
             | "lossy" | "error"                                     value: true or false
             | "ttft" | "duration"                                   value: [ ">" | ">=" | "<" | "<=" ] number unit
    unit     = "ms" | "s" | "m"

A time that is not known is neither above nor below anything, so the term does not hold, and its negation does.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from operator import ge, gt, le, lt
from typing import Any

from inferbridge.bridge.errors import Code

_TERM = re.compile(r'(-?)([^\s:"]*)(:?)("[^"]*"|[^\s"]*)')
_STATUS = re.compile(r"[1-5](?:xx|[0-9]{2})")
_TIME = re.compile(r"(>=|<=|>|<)([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m)")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {">": gt, ">=": ge, "<": lt, "<=": le}
_MILLISECONDS = {"ms": 1.0, "s": 1e3, "m": 60e3}
_GLOBS = {"model": "model", "op": "operation", "api": "api", "runtime": "runtime", "upstream": "upstream"}
_TIMES = {"ttft": "ttft_ms", "duration": "duration_ms"}
_NAMES = (*_GLOBS, "status", "lossy", "error", *_TIMES)

type Record = Mapping[str, Any]
"""What is known of a call, by the names of the access log."""
type _Test = Callable[[Record, Collection[str]], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a call must be."""

    tests: tuple[_Test, ...] = ()

    def matches(self, record: Record, losses: Collection[str] = ()) -> bool:
        """Whether a call is wanted; `losses` are the fields that it has lost."""
        return all(test(record, losses) for test in self.tests)


def parse_filter(text: str) -> Filter:
    """The filter of an expression; ValueError says where it is wrong, and what would be right."""
    tests, at = [], 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        found = _TERM.match(text, at)
        assert found is not None  # every part of it may be empty
        if found.end() < len(text) and not text[found.end()].isspace():
            raise _wrong(found.end(), "a quote is not closed, or something follows it without a space")
        tests.append(_test(found, at))
        at = found.end()
    return Filter(tuple(tests))


def _nearest(word: str, known: Iterable[str]) -> str:
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def _wrong(at: int, reason: str) -> ValueError:
    return ValueError(f"column {at + 1}: {reason}")


def _test(term: re.Match[str], at: int) -> _Test:
    minus, name, colon, quoted = term.groups()
    value, value_at = quoted.strip('"'), term.start(4)
    if name not in _NAMES:
        near = _nearest(name, _NAMES) or f"; there are {', '.join(_NAMES)}"
        raise _wrong(at + len(minus), f"there is no term {name!r}{near}")
    if not colon or not value:
        raise _wrong(value_at, f"{name!r} needs a value, as in {_example(name)}")
    test = _made(name, value, value_at)
    return (lambda record, losses: not test(record, losses)) if minus else test


def _example(name: str) -> str:
    if name in _TIMES:
        return f"{name}:>500ms"
    return {"status": "status:5xx, status:404 or status:grpc:NOT_FOUND", "model": "model:llama*"}.get(
        name, f"{name}:true" if name in ("lossy", "error") else f"{name}:NAME"
    )


def _made(name: str, value: str, at: int) -> _Test:
    if name in _GLOBS:
        key = _GLOBS[name]
        return lambda record, losses: fnmatchcase(str(record.get(key) or ""), value)
    if name in _TIMES:
        return _time(name, value, at)
    if name == "status":
        return _status(value, at)
    if value not in ("true", "false"):
        raise _wrong(at, f"{name!r} is true or false")
    wanted, is_so = value == "true", _is_lossy if name == "lossy" else _is_error
    return lambda record, losses: is_so(record, losses) is wanted


def _is_lossy(record: Record, losses: Collection[str]) -> bool:
    return bool(losses or record.get("losses"))


def _is_error(record: Record, losses: Collection[str]) -> bool:
    return bool(record.get("error") or record.get("grpc_status") or (record.get("status") or 0) >= 400)


def _status(value: str, at: int) -> _Test:
    if value.startswith("grpc:"):
        code = _code(value.removeprefix("grpc:"), at + len("grpc:"))
        return lambda record, losses: record.get("grpc_status") == code
    if not _STATUS.fullmatch(value):
        raise _wrong(at, f"{value!r} is no status; write {_example('status')}")
    return lambda record, losses: str(record.get("status") or "").startswith(value.rstrip("x"))


def _code(text: str, at: int) -> int:
    names = {code.name: int(code) for code in Code}
    if text.upper() in names:
        return names[text.upper()]
    if text.isascii() and text.isdecimal() and len(text) <= 2 and int(text) in names.values():
        return int(text)
    raise _wrong(at, f"{text!r} is no status of gRPC{_nearest(text.upper(), names)}")


def _time(name: str, value: str, at: int) -> _Test:
    found = _TIME.fullmatch(value)
    if found is None:
        raise _wrong(at, f"{value!r} is no comparison with a time; write {_example(name)}, with ms, s or m")
    key, compare, limit = _TIMES[name], _COMPARE[found[1]], float(found[2]) * _MILLISECONDS[found[3]]
    return lambda record, losses: record.get(key) is not None and compare(float(record[key]), limit)
