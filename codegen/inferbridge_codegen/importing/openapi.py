"""The skeleton of a REST API from its OpenAPI document, 3.0 or 3.1."""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from inferbridge_codegen.importing.schemas import Schemas
from inferbridge_codegen.importing.skeleton import Endpoint, Place, Side, Skeleton, snake_case, unique
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec import path_template

_VERBS = ("get", "post", "put", "delete", "patch")
_JSON = re.compile(r"application/(?:[\w.-]+\+)?json\b")
_EVENTS = "text/event-stream"


def skeleton_of_openapi(name: str, source: str, document: Any) -> Skeleton:
    """All operations of a document; ValueError when it is none."""
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith(("3.0", "3.1")):
        raise ValueError("not an OpenAPI document of version 3.0 or 3.1")
    skeleton = Skeleton(name, source)
    schemas = Schemas(document, skeleton)
    skeleton.ports = _ports(document)
    taken: set[str] = set()
    for path, item in _map(document.get("paths")).items():
        item = schemas.resolved(item)
        for verb in _VERBS:
            if isinstance(item.get(verb), dict):
                _add(skeleton, schemas, path, verb, item, taken)
    return skeleton


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _ports(document: Mapping[str, Any]) -> dict[str, int]:
    """The port of the first server that has one."""
    for server in document.get("servers") or ():
        try:
            port = urlsplit(str(_map(server).get("url", ""))).port
        except ValueError:
            continue
        if port:
            return {"rest": port}
    return {}


def _add(skeleton: Skeleton, schemas: Schemas, path: str, verb: str, item: Mapping[str, Any], taken: set[str]) -> None:
    operation = item[verb]
    problems = Problems()
    template = path_template.parse(path, Mark(path, 1, 1), problems)
    if template is None:
        skeleton.notes.append(f"{verb.upper()} {path}: {problems.sorted()[0].message}")
        return
    name = unique(snake_case(str(operation.get("operationId") or f"{verb} {path}")), taken)
    endpoint = Endpoint(name, "unary", verb=verb.upper(), path=path)
    parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
    endpoint.request.places = list(_parameters(parameters, endpoint, schemas))
    _request(_map(schemas.resolved(operation.get("requestBody"))), endpoint, schemas)
    _answer(_map(operation.get("responses")), endpoint, schemas)
    skeleton.endpoints.append(endpoint)


def _parameters(parameters: list[Any], endpoint: Endpoint, schemas: Schemas) -> Iterator[Place]:
    for parameter in map(schemas.resolved, parameters):
        where, name = parameter.get("in"), str(parameter.get("name", ""))
        if where in ("path", "query") and re.fullmatch(r"[A-Za-z_]\w*", name):
            yield Place(f"{where}.{name}", "string")
        elif where == "header":
            yield Place(f"header.{name.lower()}", "string")
        else:
            endpoint.notes.append(f"parameter {name!r} in {where}")


def _request(body: Mapping[str, Any], endpoint: Endpoint, schemas: Schemas) -> None:
    content = _map(body.get("content"))
    schema = next((_map(media).get("schema") for kind, media in content.items() if _JSON.match(kind)), None)
    if schema is not None:
        side = schemas.side(schema, f"{endpoint.name}_request", endpoint)
        endpoint.request = Side(side.schema, [*endpoint.request.places, *side.places])
    elif content:
        endpoint.notes.append(f"a request of {', '.join(content)}")


def _answer(responses: Mapping[str, Any], endpoint: Endpoint, schemas: Schemas) -> None:
    """JSON is a reply, events are a stream, both together leave it to the request."""
    good = [responses[status] for status in sorted(responses) if str(status).startswith("2")]
    content = _map(_map(schemas.resolved(good[0] if good else responses.get("default"))).get("content"))
    whole = next((_map(media) for kind, media in content.items() if _JSON.match(kind)), None)
    events = content.get(_EVENTS)
    if events is not None:
        endpoint.mode = "stream" if whole is None else "either"
        endpoint.message = schemas.side(_map(events).get("schema"), f"{endpoint.name}_message", endpoint)
    if events is None or whole is not None:
        schema = whole.get("schema") if whole is not None else None
        endpoint.reply = schemas.side(schema, f"{endpoint.name}_reply", endpoint)
    others = [kind for kind in content if not _JSON.match(kind) and kind != _EVENTS]
    if others:
        endpoint.notes.append(f"an answer of {', '.join(others)}")
