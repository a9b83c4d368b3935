"""Reads declarations of types and fields."""

import re
from typing import Protocol

from inferbridge_codegen.problems import Mark
from inferbridge_codegen.spec.documents import PARAMETERS, SCALARS, Constant, FieldDocument, TypeDocument, TypeRef
from inferbridge_codegen.spec.shape import Reader
from inferbridge_codegen.spec.yaml_tree import Node, Scalar

_TYPE = re.compile(r"(?:(list|optional)<)?([A-Za-z][A-Za-z0-9_]*|map<parameter>)(>)?")
TYPE_NAME = r"[A-Z][A-Za-z0-9]*"
_LOSS = ("reject", "warn", "ignore")
QUIRK_CHECKS = ("model_versions", "ascii_ids")
HIGHEST = 1000
"""Number of a schema's field in a message; the generator's own fields have higher ones."""
_JSON_NAME = r"[A-Za-z_][A-Za-z0-9_]*"


class _Placed(Protocol):
    @property
    def mark(self) -> Mark: ...


def declare[T: _Placed](reader: Reader, table: dict[str, T], name: str, mark: Mark, value: T, kind: str) -> None:
    """Add to a table; a problem when the name is taken."""
    first = table.setdefault(name, value)
    if first is not value:
        reader.problems.add(mark, f"{kind} {name!r} is already declared at {first.mark}")


def read_type(reader: Reader, name: str, mark: Mark, node: Node) -> TypeDocument:
    """A type of operations."""
    reader.check_pattern(name, mark, TYPE_NAME, "a type name is CamelCase")
    parts = reader.map(node, f"type {name}", {"doc": True, "fields": True})
    return TypeDocument(
        name, reader.string(parts.get("doc"), "doc") or "", read_fields(reader, parts.get("fields"), name), mark
    )


def read_fields(reader: Reader, node: Node | None, where: str, *, json: bool = False) -> dict[str, FieldDocument]:
    """The fields of an operation, a type, or (`json`) a REST schema, whose names are the wire's."""
    fields = {}
    for name, mark, child in reader.entries(node, where):
        if json:
            reader.check_pattern(name, mark, _JSON_NAME, "a JSON field is named with letters, digits and _")
        else:
            reader.check_identifier(name, mark)
        known = dict.fromkeys(("doc", "required", "always", "loss", "quirk", "off"), False)
        known |= {"number": False} if json else {}
        parts = reader.map(child, f"field {name}", {"type": True, **known})
        declared = type_ref(reader, parts.get("type"))
        if declared is None:
            continue
        off = read_constant(reader, parts.get("off"), "off")
        fields[name] = FieldDocument(
            name,
            declared,
            reader.string(parts.get("doc"), "doc") or "",
            reader.boolean(parts.get("required"), "required") or False,
            reader.boolean(parts.get("always"), "always") or False,
            reader.choice(parts.get("loss"), "loss", _LOSS) or "warn",
            reader.choice(parts.get("quirk"), "quirk", QUIRK_CHECKS) or "",
            mark,
            off,
            reader.integer(parts.get("number"), "number", 1, HIGHEST) or 0,
        )
    return fields


def read_constant(reader: Reader, node: Node | None, where: str) -> Constant:
    """A plain value."""
    if node is None:
        return None
    if isinstance(node, Scalar) and isinstance(node.value, str | bool | int | float):
        return node.value
    reader.problems.add(node.mark, f"{where} must be a string, a number, true or false")
    return None


def type_ref(reader: Reader, node: Node | None) -> TypeRef | None:
    """A type as written."""
    text = reader.string(node, "type")
    if node is None or text is None:
        return None
    found = _TYPE.fullmatch(text)
    if not found or (found[1] is None) != (found[3] is None):
        message = f"type {text!r} is none of {', '.join(SCALARS)}, {PARAMETERS}, list<…>, optional<…> and a type's name"
        reader.problems.add(node.mark, message)
        return None
    return TypeRef(found[2], found[1] == "list", found[1] == "optional", node.mark)
