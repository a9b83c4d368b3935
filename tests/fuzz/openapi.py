"""An OpenAPI document of the REST facade, from the specs and from the structs that are generated of them."""

import importlib
from typing import Any

import msgspec

from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.model.tree import Tree
from inferbridge_codegen.model.types import Api, RestBinding, Side
from inferbridge_codegen.places import default_specs

_TEXT = {"type": "string", "minLength": 1, "maxLength": 20}
_TEXTS = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 3}
_MESSAGE = {
    "type": "object",
    "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": _TEXT},
    "required": ["role", "content"],
}
_USUAL = {
    "prompt": {"anyOf": [_TEXT, _TEXTS]},
    "input": {"anyOf": [_TEXT, _TEXTS]},
    "text_1": _TEXT,
    "text_2": _TEXTS,
    "documents": _TEXTS,
    "messages": {"type": "array", "items": _MESSAGE, "minItems": 1, "maxItems": 3},
}
"""What clients say where the structs take any JSON, by the name of the field: else next to nothing would be a call."""
_VARIABLE = {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,15}$"}


def document() -> dict[str, Any]:
    """All endpoints with a REST binding; the bodies are those that our readers decode."""
    paths: dict[str, dict[str, Any]] = {}
    schemas: dict[str, Any] = {}
    for api in load_model(default_specs()).apis:
        for endpoint in api.own.endpoints:
            if endpoint.rest is not None:
                _add(api, endpoint.name, endpoint.rest, paths, schemas)
    info = {"title": "REST facade", "version": "1"}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _add(api: Api, name: str, binding: RestBinding, paths: dict[str, dict[str, Any]], schemas: dict[str, Any]) -> None:
    for template in binding.paths:
        path, names = template.text, template.variables
        operation: dict[str, Any] = {
            "operationId": f"{api.name} {name} {path}",
            "parameters": [{"name": each, "in": "path", "required": True, "schema": _VARIABLE} for each in names],
            "responses": {"default": {"description": "any"}},
        }
        struct = _struct(binding.request)
        if struct:
            content = {"application/json": {"schema": _schema(api, struct, binding.request.is_list, schemas)}}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(path, {})[binding.method.lower()] = operation


def _struct(side: Side | Tree) -> str:
    """The name of the body's struct; empty where there is no body."""
    if isinstance(side, Side):
        return side.wire_class
    return side.body.wire_class if side.body is not None else ""


def _schema(api: Api, struct_name: str, is_list: bool, schemas: dict[str, Any]) -> dict[str, Any]:
    struct = getattr(importlib.import_module(f"inferbridge_generated.{api.package}.rest"), struct_name)
    place = f"#/components/schemas/{api.package}_{{name}}"
    (schema,), components = msgspec.json.schema_components([struct], ref_template=place)
    for name, component in components.items():
        properties = component.get("properties", {})
        usual = {key: _USUAL[key] for key, value in properties.items() if key in _USUAL and "type" not in value}
        if "input" in usual:
            usual.pop("messages", None)  # one or the other
        required = {"required": sorted({*component.get("required", ()), *usual})} if usual else {}
        schemas[f"{api.package}_{name}"] = {**component, "properties": {**properties, **usual}, **required}
    return {"type": "array", "items": schema} if is_list else dict(schema)
