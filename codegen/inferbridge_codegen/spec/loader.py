"""Reads a `specs/` folder into documents; every problem is collected with its place, none is raised."""

import re
from collections.abc import Sequence
from pathlib import Path

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec.bindings import read_endpoints
from inferbridge_codegen.spec.documents import (
    ApiDocument,
    EnumDocument,
    EnumTableDocument,
    OperationDocument,
    Root,
    RuntimeApiDocument,
    RuntimeDocument,
    SpecSet,
    TypeDocument,
    VariantDocument,
)
from inferbridge_codegen.spec.fields import TYPE_NAME, declare, read_fields, read_type
from inferbridge_codegen.spec.includes import load_with_includes
from inferbridge_codegen.spec.questions import has_questions
from inferbridge_codegen.spec.shape import Pattern, Reader
from inferbridge_codegen.spec.yaml_tree import ListNode, Node

_SPEC_NAME = Pattern(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "lower-case words joined by '-'")
_PROTO = Pattern(
    r"([A-Za-z0-9_][A-Za-z0-9_-]*/)*[A-Za-z0-9_][A-Za-z0-9_-]*\.proto",
    "a path below protos/, without '..', such as vendor/service.proto",
)
_ENUM_VALUE = Pattern(r"[a-z][a-z0-9_]*", "snake_case")
CODES = (
    "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip


def load_specs(root: Path, problems: Problems, more: Sequence[Path] = ()) -> SpecSet:
    """All operations, APIs and runtimes below `root`, and of folders that add to it and need not have all three."""
    specs = SpecSet()
    roots = [Root(root), *(Root(path, f"{path.as_posix()}/") for path in more)]
    found = {place: _read(place, specs, problems) for place in roots}
    for folder, paths in found[roots[0]].items():
        if not paths:
            problems.add(Mark(folder, 1, 1), f"no {folder}/*.yaml in the spec folder")
    for place in roots[1:]:
        if not any(found[place].values()):
            problems.add(Mark(place.path.as_posix(), 1, 1), "no operations, apis or runtimes with *.yaml in it")
    return specs


def _read(root: Root, specs: SpecSet, problems: Problems) -> dict[str, list[Path]]:
    """Read one folder; the files found in each part of it."""
    known, found = set(specs.apis), {}
    for folder, read in (("operations", _operations), ("apis", _api), ("runtimes", _runtime)):
        found[folder] = sorted((root.path / folder).glob("*.yaml"))
        for path in found[folder]:
            node = load_with_includes(path, root.path, problems, root.shown)
            if node is None:
                continue
            if has_questions(node, problems):
                specs.undecided = True
            else:
                read(Reader(problems), node, f"{folder}/{path.name}", specs)
    specs.roots.update(dict.fromkeys(specs.apis.keys() - known, root))
    return found


def _operations(reader: Reader, node: Node, display: str, specs: SpecSet) -> None:
    known = {"types": False, "enums": False, "operations": True, "include": False}
    top = reader.map(node, "an operations file", known)
    for name, key, child in reader.entries(top.get("types"), "types"):
        declare(reader, specs.types, name, key, read_type(reader, name, key, child), "type")
    for name, key, child in reader.entries(top.get("enums"), "enums"):
        reader.check_identifier(name, key)
        values = tuple(reader.strings(child, f"enum {name}", _ENUM_VALUE))
        for value in {value for value in values if values.count(value) > 1}:
            reader.problems.add(child.mark, f"enum {name} has the value {value!r} twice")
        declare(reader, specs.enums, name, key, EnumDocument(name, values, key), "enum")
    for name, key, child in reader.entries(top.get("operations"), "operations"):
        reader.check_identifier(name, key)
        declare(reader, specs.operations, name, key, _operation(reader, name, key, child), "operation")


def _operation(reader: Reader, name: str, mark: Mark, node: Node) -> OperationDocument:
    known = {"doc": True, "idempotent": False, "request": True, "reply": False, "message": False}
    parts = reader.map(node, f"operation {name}", known)
    if "reply" not in parts and "message" not in parts:
        reader.problems.add(node.mark, f"operation {name} needs the key 'reply'")
    return OperationDocument(
        name,
        reader.string(parts.get("doc"), "doc") or "",
        reader.boolean(parts.get("idempotent"), "idempotent") or False,
        read_fields(reader, parts.get("request"), f"request of {name}"),
        read_fields(reader, parts.get("reply"), f"reply of {name}"),
        mark,
        read_fields(reader, parts["message"], f"message of {name}") if "message" in parts else None,
    )


def _api(reader: Reader, node: Node, display: str, specs: SpecSet) -> None:
    known = {"api": True, "title": False, "protos": True, "errors": True, "schemas": False, "endpoints": True,
             "variants": False, "include": False, "enums": False, "lenient_json": False}  # fmt: skip
    top = reader.map(node, "an API", known)
    name = reader.string(top.get("api"), "api", _SPEC_NAME)
    if name is None:
        return
    schemas: dict[str, TypeDocument] = {}
    for schema, key, child in reader.entries(top.get("schemas"), "schemas"):
        reader.check_pattern(schema, key, TYPE_NAME, "a schema name is CamelCase")
        schemas[schema] = TypeDocument(schema, "", read_fields(reader, child, f"schema {schema}", json=True), key)
    api = ApiDocument(
        name,
        reader.string(top.get("title"), "title") or name,
        tuple(reader.strings(top.get("protos"), "protos", _PROTO)),
        reader.string(top.get("errors"), "errors", _SPEC_NAME) or "",
        schemas,
        read_endpoints(reader, top.get("endpoints")),
        tuple(_variant(reader, *entry) for entry in reader.entries(top.get("variants"), "variants")),
        display,
        node.mark,
        dict(_enum_table(reader, *entry) for entry in reader.entries(top.get("enums"), "enums")),
        reader.boolean(top.get("lenient_json"), "lenient_json") or False,
    )
    declare(reader, specs.apis, name, top["api"].mark, api, "API")


def _variant(reader: Reader, name: str, mark: Mark, node: Node) -> VariantDocument:
    reader.check_identifier(name, mark)
    parts = reader.map(node, f"variant {name}", {"protos": True, "endpoints": True})
    protos = tuple(reader.strings(parts.get("protos"), "protos", _PROTO))
    return VariantDocument(name, protos, read_endpoints(reader, parts.get("endpoints")), mark)


def _enum_table(reader: Reader, name: str, mark: Mark, node: Node) -> tuple[str, EnumTableDocument]:
    reader.check_identifier(name, mark)
    parts = reader.map(node, f"enum table {name}", {"of": True, "values": True})
    of = parts.get("of")
    values = [
        (wire, neutral, item.mark)
        for wire, _, child in reader.entries(parts.get("values"), "values")
        for item in (child.items if isinstance(child, ListNode) else (child,))
        if (neutral := reader.string(item, f"the neutral value of {wire}")) is not None
    ]
    document = EnumTableDocument(name, reader.string(of, "of") or "", (of or node).mark, tuple(values), mark)
    return name, document


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
    declare(reader, specs.runtimes, name, top["runtime"].mark, runtime, "runtime")


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
_BOOLEAN_QUIRKS = ("binary_tensors", "json_doubles", "model_versions", "ascii_ids", "drain_streams")


def _quirks(reader: Reader, node: Node | None) -> dict[str, object]:
    if node is None:
        return {}
    parts = reader.map(node, "quirks", dict.fromkeys((*_SET_QUIRKS, *_BOOLEAN_QUIRKS, "lacks", "nan"), False))
    quirks: dict[str, object] = {}
    for name, child in parts.items():
        if name in _SET_QUIRKS:
            items = [reader.choice(item, name, _SET_QUIRKS[name]) for item in reader.sequence(child, name)]
            quirks[name] = tuple(sorted(item for item in items if item))
        elif name == "lacks":
            fields = [reader.identifier(item, "a field of an operation") for item in reader.sequence(child, name)]
            quirks[name] = tuple(sorted(field for field in fields if field))
        elif name == "nan":
            quirks[name] = reader.choice(child, name, NAN) or "reject"
        else:
            quirks[name] = reader.boolean(child, name) or False
    return quirks
