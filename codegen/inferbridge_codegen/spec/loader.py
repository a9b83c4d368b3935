"""Reads a `specs/` folder into documents; every problem is collected with its place, none is raised."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec import path_template
from inferbridge_codegen.spec.documents import (
    PARAMETERS,
    SCALARS,
    ApiDocument,
    EndpointDocument,
    FieldDocument,
    GrpcDocument,
    LineDocument,
    OperationDocument,
    RestDocument,
    RuntimeApiDocument,
    RuntimeDocument,
    SideDocument,
    SpecSet,
    TypeDocument,
    TypeRef,
    VariantDocument,
)
from inferbridge_codegen.spec.includes import load_with_includes
from inferbridge_codegen.spec.path_template import PathTemplate
from inferbridge_codegen.spec.shape import Pattern, Reader
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar

_TYPE = re.compile(r"(?:(list|optional)<)?([A-Za-z][A-Za-z0-9]*|map<parameter>)(>)?")
_TYPE_NAME = r"[A-Z][A-Za-z0-9]*"
_SPEC_NAME = Pattern(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "lower-case words joined by '-'")
_WIRE = Pattern(
    r"[A-Za-z_][A-Za-z0-9_]*(\[\])?(\.[A-Za-z_][A-Za-z0-9_]*(\[\])?)*|\[\]\.[A-Za-z_][A-Za-z0-9_]*",
    "a dotted path such as inputs[].name",
)
_RPC = Pattern(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*", "package.Service/Method")
_PROTO = Pattern(
    r"([A-Za-z0-9_][A-Za-z0-9_-]*/)*[A-Za-z0-9_][A-Za-z0-9_-]*\.proto",
    "a path below protos/, without '..', such as vendor/service.proto",
)
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
_LOSS = ("reject", "warn", "ignore")
QUIRK_CHECKS = ("model_versions", "ascii_ids")
CODES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def load_specs(root: Path, problems: Problems) -> SpecSet:
    """All operations, APIs and runtimes below `root`."""
    specs = SpecSet()
    for folder, read in (("operations", _operations), ("apis", _api), ("runtimes", _runtime)):
        paths = sorted((root / folder).glob("*.yaml"))
        if not paths:
            problems.add(Mark(folder, 1, 1), f"no {folder}/*.yaml in the spec folder")
        for path in paths:
            node = load_with_includes(path, root, problems)
            if node is not None:
                read(Reader(problems), node, f"{folder}/{path.name}", specs)
    return specs


def _operations(reader: Reader, node: Node, display: str, specs: SpecSet) -> None:
    top = reader.map(node, "an operations file", {"types": False, "operations": True, "include": False})
    for name, key, child in reader.entries(top.get("types"), "types"):
        document = _type(reader, name, key, child)
        _declare(reader, specs.types, name, key, document, "type")
    for name, key, child in reader.entries(top.get("operations"), "operations"):
        reader.check_identifier(name, key)
        parts = reader.map(
            child, f"operation {name}", {"doc": True, "idempotent": False, "request": True, "reply": True}
        )
        operation = OperationDocument(
            name,
            reader.string(parts.get("doc"), "doc") or "",
            reader.boolean(parts.get("idempotent"), "idempotent") or False,
            _fields(reader, parts.get("request"), f"request of {name}"),
            _fields(reader, parts.get("reply"), f"reply of {name}"),
            key,
        )
        _declare(reader, specs.operations, name, key, operation, "operation")


class _Placed(Protocol):
    @property
    def mark(self) -> Mark: ...


def _declare[T: _Placed](reader: Reader, table: dict[str, T], name: str, mark: Mark, value: T, kind: str) -> None:
    first = table.setdefault(name, value)
    if first is not value:
        reader.problems.add(mark, f"{kind} {name!r} is already declared at {first.mark}")


def _type(reader: Reader, name: str, mark: Mark, node: Node) -> TypeDocument:
    reader.check_pattern(name, mark, _TYPE_NAME, "a type name is CamelCase")
    parts = reader.map(node, f"type {name}", {"doc": True, "fields": True})
    return TypeDocument(
        name, reader.string(parts.get("doc"), "doc") or "", _fields(reader, parts.get("fields"), name), mark
    )


def _fields(reader: Reader, node: Node | None, where: str) -> dict[str, FieldDocument]:
    fields = {}
    for name, mark, child in reader.entries(node, where):
        reader.check_identifier(name, mark)
        known = {"type": True, "doc": False, "required": False, "always": False, "loss": False, "quirk": False}
        parts = reader.map(child, f"field {name}", known)
        declared = _type_ref(reader, parts.get("type"))
        if declared is None:
            continue
        fields[name] = FieldDocument(
            name,
            declared,
            reader.string(parts.get("doc"), "doc") or "",
            reader.boolean(parts.get("required"), "required") or False,
            reader.boolean(parts.get("always"), "always") or False,
            reader.choice(parts.get("loss"), "loss", _LOSS) or "warn",
            reader.choice(parts.get("quirk"), "quirk", QUIRK_CHECKS) or "",
            mark,
        )
    return fields


def _type_ref(reader: Reader, node: Node | None) -> TypeRef | None:
    text = reader.string(node, "type")
    if node is None or text is None:
        return None
    found = _TYPE.fullmatch(text)
    if not found or (found[1] is None) != (found[3] is None):
        message = f"type {text!r} is none of {', '.join(SCALARS)}, {PARAMETERS}, list<…>, optional<…> and a type's name"
        reader.problems.add(node.mark, message)
        return None
    return TypeRef(found[2], found[1] == "list", found[1] == "optional", node.mark)


def _api(reader: Reader, node: Node, display: str, specs: SpecSet) -> None:
    known = {"api": True, "title": False, "protos": True, "errors": True, "schemas": False, "endpoints": True,
             "variants": False, "include": False}  # fmt: skip
    top = reader.map(node, "an API", known)
    name = reader.string(top.get("api"), "api", _SPEC_NAME)
    if name is None:
        return
    schemas: dict[str, TypeDocument] = {}
    for schema, key, child in reader.entries(top.get("schemas"), "schemas"):
        reader.check_pattern(schema, key, _TYPE_NAME, "a schema name is CamelCase")
        schemas[schema] = TypeDocument(schema, "", _fields(reader, child, f"schema {schema}"), key)
    api = ApiDocument(
        name,
        reader.string(top.get("title"), "title") or name,
        tuple(reader.strings(top.get("protos"), "protos", _PROTO)),
        reader.string(top.get("errors"), "errors", _SPEC_NAME) or "",
        schemas,
        _endpoints(reader, top.get("endpoints")),
        tuple(_variant(reader, *entry) for entry in reader.entries(top.get("variants"), "variants")),
        display,
        node.mark,
    )
    _declare(reader, specs.apis, name, top["api"].mark, api, "API")


def _variant(reader: Reader, name: str, mark: Mark, node: Node) -> VariantDocument:
    reader.check_identifier(name, mark)
    parts = reader.map(node, f"variant {name}", {"protos": True, "endpoints": True})
    protos = tuple(reader.strings(parts.get("protos"), "protos", _PROTO))
    return VariantDocument(name, protos, _endpoints(reader, parts.get("endpoints")), mark)


def _endpoints(reader: Reader, node: Node | None) -> tuple[EndpointDocument, ...]:
    found: dict[str, EndpointDocument] = {}
    for child in reader.sequence(node, "endpoints"):
        parts = reader.map(child, "an endpoint", {"name": True, "operation": False, "rest": False, "grpc": False})
        name = reader.identifier(parts.get("name"), "name")
        if name is None:
            continue
        if "rest" not in parts and "grpc" not in parts:
            reader.problems.add(child.mark, f"endpoint {name!r} has neither a rest nor a grpc binding")
        operation = parts.get("operation")
        endpoint = EndpointDocument(
            name,
            (reader.identifier(operation, "operation") if operation else None) or name,
            (operation or child).mark,
            _rest(reader, parts["rest"]) if "rest" in parts else None,
            _grpc(reader, parts["grpc"]) if "grpc" in parts else None,
            child.mark,
        )
        _declare(reader, found, name, parts["name"].mark, endpoint, "endpoint")
    _check_routes(reader, found)
    return tuple(found.values())


def _check_routes(reader: Reader, endpoints: Mapping[str, EndpointDocument]) -> None:
    """No two endpoints may answer to the same method and path: the second would never be reached."""
    taken: dict[str, str] = {}
    for endpoint in endpoints.values():
        if endpoint.rest is None:
            continue
        for path in endpoint.rest.paths:
            owner = taken.setdefault(f"{endpoint.rest.method} {path.shape}", endpoint.name)
            if owner != endpoint.name:
                message = f"{endpoint.rest.method} {path.text} is already a path of endpoint {owner!r}"
                reader.problems.add(endpoint.rest.mark, message)


def _rest(reader: Reader, node: Node) -> RestDocument:
    parts = reader.map(node, "a rest binding", {"method": True, "paths": True, "request": False, "reply": True})
    return RestDocument(
        reader.choice(parts.get("method"), "method", _METHODS) or "GET",
        _paths(reader, parts.get("paths")),
        _rest_side(reader, parts.get("request"), node.mark),
        _rest_side(reader, parts.get("reply"), node.mark),
        node.mark,
    )


def _paths(reader: Reader, node: Node | None) -> tuple[PathTemplate, ...]:
    shapes: dict[str, PathTemplate] = {}
    items = reader.sequence(node, "paths")
    for item in items:
        text = reader.string(item, "a path")
        if text is None or not isinstance(item, Scalar):
            continue
        template = path_template.parse(text, item.text_mark, reader.problems)
        if template is not None and shapes.setdefault(template.shape, template) is not template:
            reader.problems.add(item.mark, f"path {text!r} matches the same as {shapes[template.shape].text!r}")
    if isinstance(node, ListNode) and not items:
        reader.problems.add(node.mark, "paths must not be empty")
    return tuple(shapes.values())


def _rest_side(reader: Reader, node: Node | None, mark: Mark) -> SideDocument:
    if node is None:
        return SideDocument(None, (), "", None, mark)
    parts = reader.map(node, "one side of a rest binding", {"schema": False, "map": False, "status": False})
    status = reader.map(parts.get("status"), "status", {"field": True, "unset": False}) if "status" in parts else {}
    field, unset = status.get("field"), status.get("unset")
    if reader.boolean(unset, "unset") is False and unset:
        reader.problems.add(unset.mark, "unset can only be true: the status alone says so")
    return SideDocument(
        _type_ref(reader, parts.get("schema")) if "schema" in parts else None,
        _lines(reader, parts.get("map")),
        (reader.identifier(field, "field") if field else None) or "",
        field.mark if field else None,
        node.mark,
    )


def _grpc(reader: Reader, node: Node) -> GrpcDocument | None:
    parts = reader.map(node, "a grpc binding", {"method": True, "request": False, "reply": True})
    method = parts.get("method")
    rpc = reader.string(method, "method", _RPC)
    sides = [
        SideDocument(None, _lines(reader, side), "", None, side.mark if side else node.mark)
        for side in (parts.get("request"), parts.get("reply"))
    ]
    if method is None or rpc is None:
        return None  # said already; without a method there is nothing that the mapping could be checked against
    return GrpcDocument(rpc, method.mark, sides[0], sides[1], node.mark)


def _lines(reader: Reader, node: Node | None) -> tuple[LineDocument, ...]:
    lines = []
    for wire, mark, child in reader.entries(node, "mapping lines"):
        is_place = reader.check_pattern(wire, mark, _WIRE.regex, f"a place on the wire must be {_WIRE.words}")
        read = _long_line if isinstance(child, MapNode) else _short_line
        line = read(reader, wire, mark, child)
        if line is not None and is_place:
            lines.append(line)
    return tuple(lines)


def _short_line(reader: Reader, wire: str, mark: Mark, node: Node) -> LineDocument | None:
    field = reader.string(node, f"the field of {wire}", _WIRE)
    return None if field is None else LineDocument(wire, field, "", "", False, mark, node.mark)


def _long_line(reader: Reader, wire: str, mark: Mark, node: Node) -> LineDocument | None:
    known = {"field": False, "converter": False, "raw": False, "alias": False, "echo": False, "constant": False}
    parts = reader.map(node, f"mapping of {wire}", known)
    sources = [key for key in ("field", "echo", "constant") if key in parts]
    if len(sources) != 1:
        reader.problems.add(node.mark, f"mapping of {wire} needs exactly one of field, echo and constant")
        return None
    for key in ("converter", "raw", "alias"):
        if key in parts and sources != ["field"]:
            reader.problems.add(parts[key].mark, f"mapping of {wire}: {key} goes with field, not with {sources[0]}")
    if "constant" in parts:
        constant = reader.boolean(parts["constant"], "constant")
        return LineDocument(wire, "", "", "", False, mark, node.mark, constant=constant or False)
    source = parts[sources[0]]
    field = reader.string(source, sources[0], _WIRE)
    if field is None:
        return None
    return LineDocument(
        wire,
        field,
        reader.string(parts.get("converter"), "converter") or "",
        reader.string(parts.get("raw"), "raw") or "",
        reader.boolean(parts.get("alias"), "alias") or False,
        mark,
        source.mark,
        echo="echo" in parts,
    )


def _runtime(reader: Reader, node: Node, display: str, specs: SpecSet) -> None:
    top = reader.map(
        node, "a runtime", {"runtime": True, "title": True, "versions": False, "apis": True, "include": False}
    )
    name = reader.string(top.get("runtime"), "runtime", _SPEC_NAME)
    if name is None:
        return
    apis = tuple(_runtime_api(reader, item) for item in reader.sequence(top.get("apis"), "apis"))
    for index, use in enumerate(apis):
        if use.api and use.api in [earlier.api for earlier in apis[:index]]:
            reader.problems.add(use.api_mark, f"API {use.api!r} is listed twice")
    title = reader.string(top.get("title"), "title") or name
    versions = reader.string(top.get("versions"), "versions") or ""
    runtime = RuntimeDocument(name, title, versions, apis, display, node.mark)
    _declare(reader, specs.runtimes, name, top["runtime"].mark, runtime, "runtime")


def _runtime_api(reader: Reader, node: Node) -> RuntimeApiDocument:
    known = {
        "api": True,
        "variant": False,
        "ports": False,
        "quirks": False,
        "status": False,
        "codes": False,
        "details": False,
        "not_ready": False,
    }
    parts = reader.map(node, "an API of a runtime", known)
    api, variant = parts.get("api"), parts.get("variant")
    ports = reader.map(parts.get("ports"), "ports", {"rest": False, "grpc": False}) if "ports" in parts else {}
    status = reader.map(parts.get("status"), "status", dict.fromkeys(CODES, False)) if "status" in parts else {}
    return RuntimeApiDocument(
        reader.string(api, "api", _SPEC_NAME) or "",
        (api or node).mark,
        (reader.identifier(variant, "variant") if variant else None) or "",
        (variant or node).mark,
        {name: reader.integer(port, name, 1, 65535) or 0 for name, port in ports.items()},
        _quirks(reader, parts.get("quirks")),
        {code: reader.integer(value, code, 400, 599) or 500 for code, value in status.items()},
        _codes(reader, parts.get("codes")),
        tuple(
            (beginning, reader.choice(child, "a gRPC code", CODES) or "UNKNOWN")
            for beginning, _, child in reader.entries(parts.get("details"), "details")
        ),
        tuple(
            reader.integer(item, "not_ready", 400, 599) or 503
            for item in reader.sequence(parts.get("not_ready"), "not_ready")
        ),
    )


def _codes(reader: Reader, node: Node | None) -> dict[int, str]:
    table = {}
    for text, mark, child in reader.entries(node, "codes"):
        if not re.fullmatch(r"[45]\d\d", text):
            reader.problems.add(mark, f"{text!r} is not an HTTP status from 400 to 599")
            continue
        table[int(text)] = reader.choice(child, "a gRPC code", CODES) or "UNKNOWN"
    return table


PARAMETER_TYPES = ("bool", "int64", "uint64", "string", "double")
DATATYPES = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64",
             "BF16", "BYTES")  # fmt: skip
NAN = ("reject", "null", "literal")
_SET_QUIRKS = {"parameter_types": PARAMETER_TYPES, "json_missing": DATATYPES, "missing": DATATYPES}
_BOOLEAN_QUIRKS = ("binary_tensors", "json_doubles", "model_versions", "ascii_ids")


def _quirks(reader: Reader, node: Node | None) -> dict[str, object]:
    if node is None:
        return {}
    parts = reader.map(node, "quirks", dict.fromkeys((*_SET_QUIRKS, *_BOOLEAN_QUIRKS, "nan"), False))
    quirks: dict[str, object] = {}
    for name, child in parts.items():
        if name in _SET_QUIRKS:
            items = [reader.choice(item, name, _SET_QUIRKS[name]) for item in reader.sequence(child, name)]
            quirks[name] = tuple(sorted(item for item in items if item))
        elif name == "nan":
            quirks[name] = reader.choice(child, name, NAN) or "reject"
        else:
            quirks[name] = reader.boolean(child, name) or False
    return quirks
