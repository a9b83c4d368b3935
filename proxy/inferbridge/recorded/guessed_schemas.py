"""An OpenAPI document of recorded REST calls: their paths, and for bodies the one shape that all of them have.

A shape is what was seen and no more. A member is required where every object of its place had it; values of different
types have no type at all, which a person has to decide.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from inferbridge.recorded.bodies import EVENTS, Body, reply_body, request_body
from inferbridge.recorded.exchanges import Side

_ID = re.compile(r"[0-9]+|[0-9a-fA-F]{12,}|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=[^/]*[0-9])[A-Za-z]+-[A-Za-z0-9]{16,}")
"""Segments of paths that name one of many: numbers, UUIDs, hashes, `cmpl-…`."""
_DEEPEST = 32


def openapi_of(sides: Iterable[Side], title: str) -> Mapping[str, Any]:
    """The document, for `inferbridge_codegen.importing`."""
    grouped: dict[tuple[str, str], list[Side]] = {}
    for side in sides:
        grouped.setdefault((_template(side.asked.target), side.asked.method.lower()), []).append(side)
    paths: dict[str, dict[str, Any]] = {}
    for (path, verb), some in grouped.items():
        paths.setdefault(path, {})[verb] = _operation(path, some)
    return {"openapi": "3.1.0", "info": {"title": title, "version": "0"}, "paths": paths}


def _template(target: str) -> str:
    segments, number = [], 0
    for segment in target.partition("?")[0].split("/"):
        if _ID.fullmatch(segment):
            number += 1
            segment = "{id}" if number == 1 else f"{{id_{number}}}"
        segments.append(segment)
    return "/".join(segments)


def _operation(path: str, sides: list[Side]) -> Mapping[str, Any]:
    queries = {name for side in sides for name, _ in parse_qsl(side.asked.target.partition("?")[2], True)}
    parameters = [
        *({"name": name, "in": "path", "required": True} for name in re.findall(r"\{(\w+)\}", path)),
        *({"name": name, "in": "query"} for name in sorted(queries)),
    ]
    operation: dict[str, Any] = {"parameters": parameters}
    if content := _content([request_body(side) for side in sides]):
        operation["requestBody"] = {"content": content}
    answers = [reply_body(side) for side in sides if side.told is not None and 200 <= side.told.status < 300]
    operation["responses"] = {"200": {"content": _content(answers)}}
    return operation


def _content(bodies: list[Body]) -> Mapping[str, Any]:
    whole = [body.value for body in bodies if body.kind == "json"]
    events = [event["data"] for body in bodies if body.kind == "events" for event in body.value]
    lines = [value for body in bodies if body.kind == "lines" for value in body.value]
    content: dict[str, Any] = {}
    if whole:
        content["application/json"] = {"schema": shape(whole)}
    if events:  # marks such as [DONE] are none of the messages
        content[EVENTS] = {"schema": shape([data for data in events if not isinstance(data, str)] or events)}
    if lines:
        content["application/x-ndjson"] = {"schema": shape(lines)}
    return content


def shape(values: list[Any], depth: int = 0) -> Mapping[str, Any]:
    """The JSON Schema of some values of one place."""
    said = [value for value in values if value is not None]
    kinds = {_kind(value) for value in said}
    if kinds == {"integer", "number"}:
        kinds = {"number"}
    if len(kinds) != 1 or depth > _DEEPEST:
        return {}
    (kind,) = kinds
    if kind == "array":
        return {"type": kind, "items": shape([item for value in said for item in value], depth + 1)}
    return _object(said, depth) if kind == "object" else {"type": kind}


def _kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def _object(values: list[dict[str, Any]], depth: int) -> Mapping[str, Any]:
    names = list(dict.fromkeys(name for value in values for name in value))
    return {
        "type": "object",
        "properties": {name: shape([value[name] for value in values if name in value], depth + 1) for name in names},
        "required": [name for name in names if all(name in value for value in values)],
    }
