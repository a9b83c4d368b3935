"""JSON Schemas of an OpenAPI document as the schemas of a spec, and the places in them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from inferbridge_codegen.importing.skeleton import Endpoint, Place, Side, Skeleton, snake_case

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEPTH = 8
"""Of objects in objects; what is deeper is taken as it comes."""
_SCALARS = {"string": "string", "boolean": "bool", "number": "double"}


class Schemas:
    """Fills the schemas and enums of a skeleton."""

    def __init__(self, document: Mapping[str, Any], skeleton: Skeleton) -> None:
        self._document = document
        self._skeleton = skeleton

    def resolved(self, node: Any) -> dict[str, Any]:
        """What a `$ref` stands for, if it is one; an empty map for what is no map or cannot be found."""
        for _ in range(_DEPTH):
            if not isinstance(node, dict):
                return {}
            if "$ref" not in node:
                return node
            node = self._at(str(node["$ref"]))
        return {}

    def _at(self, pointer: str) -> Any:
        node: Any = self._document
        for step in pointer.removeprefix("#/").split("/"):
            node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
        return node

    def side(self, schema: Any, name: str, endpoint: Endpoint) -> Side:
        """A body. What is no object has no schema."""
        kind = self._type(schema, name, endpoint, 0)
        if kind in self._skeleton.schemas:
            return Side(kind, list(self._places(kind, "", ())))
        if schema:
            endpoint.notes.append(f"a body that is no object with known fields, but {kind}")
        return Side()

    def _places(self, name: str, before: str, within: tuple[str, ...]) -> Iterator[Place]:
        for field, place in self._skeleton.schemas[name].items():
            inner = place.type.removeprefix("list<").removesuffix(">")
            path = f"{before}{field}"
            if inner in self._skeleton.schemas and inner not in within:
                path = f"{path}[]" if inner != place.type else path
                yield from self._places(inner, f"{path}.", (*within, name, inner))
            elif inner not in self._skeleton.schemas:
                yield Place(path, place.type, place.enum)

    def _type(self, node: Any, name: str, endpoint: Endpoint, depth: int) -> str:
        """The type of a spec for a JSON Schema; objects become schemas of the skeleton."""
        schema = _plain(self.resolved(node), self)
        kind = schema.get("type")
        if kind == "integer":
            return "uint64" if schema.get("format") == "uint64" else "int64"
        if kind == "array":
            item = self._type(schema.get("items"), f"{name}_item", endpoint, depth)
            return "any" if item == "any" or item.startswith("list<") else f"list<{item}>"
        if isinstance(schema.get("properties"), dict) and depth < _DEPTH:
            return self._object(node, schema, name, endpoint, depth)
        return _SCALARS.get(kind, "any") if isinstance(kind, str) else "any"

    def _object(self, node: Any, schema: Mapping[str, Any], name: str, endpoint: Endpoint, depth: int) -> str:
        title = str(node["$ref"]).rpartition("/")[2] if isinstance(node, dict) and "$ref" in node else name
        title = camel_case(title)
        if title in self._skeleton.schemas:
            return title
        fields = self._skeleton.schemas[title] = {}
        required = set(schema.get("required") or ())
        for field, inner in schema["properties"].items():
            if not _NAME.fullmatch(field):
                endpoint.notes.append(f"{title}.{field}: not a name for a field")
                continue
            kind = self._type(inner, f"{name}_{field}", endpoint, depth + 1)
            fields[field] = Place(field, kind, self._enum(inner, field), field in required)
        return title

    def _enum(self, node: Any, field: str) -> str:
        """The table of a text that is one of some words."""
        values = _plain(self.resolved(node), self).get("enum")
        if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
            return ""
        name = snake_case(field)
        known = self._skeleton.enums.get(name, ())
        self._skeleton.enums[name] = tuple(dict.fromkeys((*known, *values)))
        return name


def _plain(schema: Mapping[str, Any], schemas: Schemas) -> dict[str, Any]:
    """A schema without the ways of saying that null is allowed too; one of several others is anything."""
    found = dict(schema)
    for key in ("allOf", "anyOf", "oneOf"):
        options = [each for each in map(schemas.resolved, found.get(key) or ()) if each.get("type") != "null"]
        if len(options) == 1:
            found = {**_plain(options[0], schemas), **{name: value for name, value in found.items() if name != key}}
        elif options:
            return {}
    if isinstance(found.get("type"), list):
        kinds = [kind for kind in found["type"] if kind != "null"]
        found["type"] = kinds[0] if len(kinds) == 1 else None
    return found


def camel_case(text: str) -> str:
    """A name for a schema."""
    words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", text)
    name = "".join(word[0].upper() + word[1:] for word in words) or "Schema"
    return name if name[0].isalpha() else f"Schema{name}"
