"""Reads endpoints with their bindings and mapping lines."""

from collections.abc import Mapping

from inferbridge_codegen.problems import Mark
from inferbridge_codegen.spec import path_template
from inferbridge_codegen.spec.documents import (
    EndpointDocument,
    EnvelopeDocument,
    FramingDocument,
    GrpcDocument,
    LineDocument,
    RestDocument,
    SideDocument,
)
from inferbridge_codegen.spec.fields import declare, read_constant, type_ref
from inferbridge_codegen.spec.path_template import PathTemplate
from inferbridge_codegen.spec.shape import Pattern, Reader
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PATH = rf"{_NAME}(\[0?\])?(\.{_NAME}(\[0?\])?)*"
_WIRE = Pattern(
    rf"{_PATH}|\[\]\.{_PATH}|(header|metadata)\.[a-z0-9-]+", "a dotted path such as inputs[].name or metadata.x-name"
)
_FIELD = Pattern(rf"{_NAME}(\[0?\])?(\.{_NAME}(\[\])?)*", "a dotted path such as inputs[].name or prompts[0]")
_RPC = Pattern(rf"{_NAME}(\.{_NAME})*/{_NAME}", "package.Service/Method")
_METHODS = ("GET", "POST", "PUT", "DELETE", "PATCH")
MODES = ("unary", "stream", "either")
UNITS = ("s", "ms")
_SOURCES = ("field", "echo", "constant", "absent")
_WITH_FIELD = ("converter", "raw", "alias", "unset", "default", "enum", "unit", "nullable")


def read_endpoints(reader: Reader, node: Node | None) -> tuple[EndpointDocument, ...]:
    """The endpoints of an API or variant; no two answer to the same method and path."""
    found: dict[str, EndpointDocument] = {}
    for child in reader.sequence(node, "endpoints"):
        endpoint = _endpoint(reader, child, found)
        if endpoint is not None:
            found.setdefault(endpoint.name, endpoint)
    _check_routes(reader, found)
    return tuple(found.values())


def _endpoint(reader: Reader, node: Node, found: dict[str, EndpointDocument]) -> EndpointDocument | None:
    known = {"name": True, "operation": False, "rest": False, "grpc": False, "mode": False, "rule": False,
             "fan_out": False, "settles": False}  # fmt: skip
    parts = reader.map(node, "an endpoint", known)
    name = reader.identifier(parts.get("name"), "name")
    if name is None:
        return None
    if "rest" not in parts and "grpc" not in parts:
        reader.problems.add(node.mark, f"endpoint {name!r} has neither a rest nor a grpc binding")
    operation = parts.get("operation")
    mode = reader.choice(parts.get("mode"), "mode", MODES) or "unary"
    endpoint = EndpointDocument(
        name,
        (reader.identifier(operation, "operation") if operation else None) or name,
        (operation or node).mark,
        _rest(reader, parts["rest"], mode) if "rest" in parts else None,
        _grpc(reader, parts["grpc"], mode) if "grpc" in parts else None,
        node.mark,
        parts.get("rule", node).mark,
        parts.get("fan_out", node).mark,
        mode,
        reader.identifier(parts.get("rule"), "rule") or "",
        reader.identifier(parts.get("fan_out"), "fan_out") or "",
        _marked(reader, parts.get("settles")),
    )
    declare(reader, found, name, parts["name"].mark, endpoint, "endpoint")
    return endpoint


def _marked(reader: Reader, node: Node | None) -> tuple[tuple[str, Mark], ...]:
    """Names of fields, and where they stand."""
    found = [(reader.identifier(item, "settles"), item.mark) for item in reader.sequence(node, "settles")]
    return tuple((name, mark) for name, mark in found if name is not None)


def _check_routes(reader: Reader, endpoints: Mapping[str, EndpointDocument]) -> None:
    """No two endpoints may answer to the same method and path: the second would never be reached."""
    taken: dict[str, str] = {}
    for endpoint in endpoints.values():
        if endpoint.rest is None:
            continue
        for path in (*endpoint.rest.paths, *endpoint.rest.aliases):
            owner = taken.setdefault(f"{endpoint.rest.method} {path.shape}", endpoint.name)
            if owner != endpoint.name:
                message = f"{endpoint.rest.method} {path.text} is already a path of endpoint {owner!r}"
                reader.problems.add(endpoint.rest.mark, message)


def _rest(reader: Reader, node: Node, mode: str) -> RestDocument:
    known = {"method": True, "paths": True, "request": False, "reply": mode == "unary", "message": mode == "stream",
             "framing": False, "aliases": False}  # fmt: skip
    parts = reader.map(node, "a rest binding", known)
    _check_mode(reader, parts, mode)
    paths = _paths(reader, parts.get("paths"), "paths", {})
    return RestDocument(
        reader.choice(parts.get("method"), "method", _METHODS) or "GET",
        paths,
        _rest_side(reader, parts.get("request"), node.mark),
        _rest_side(reader, parts.get("reply"), node.mark),
        node.mark,
        _rest_side(reader, parts["message"], node.mark) if "message" in parts else None,
        _framing(reader, parts["framing"]) if "framing" in parts else None,
        _paths(reader, parts.get("aliases"), "aliases", {path.shape: path for path in paths}),
    )


def _check_mode(reader: Reader, parts: Mapping[str, Node], mode: str) -> None:
    """Unary bindings have a reply, streamed ones a message."""
    for key, wrong in (("message", "unary"), ("framing", "unary"), ("envelope", "unary"), ("reply", "stream")):
        if key in parts and mode == wrong:
            reader.problems.add(parts[key].mark, f"{key} does not go with mode {mode}")


def _framing(reader: Reader, node: Node) -> FramingDocument:
    parts = reader.map(node, "framing", {"event": False, "newline": False, "done": False, "error_event": False})
    return FramingDocument(
        reader.string(parts.get("event"), "event") or "",
        reader.choice(parts.get("newline"), "newline", ("lf", "crlf")) == "crlf",
        reader.string(parts.get("done"), "done") or "",
        reader.string(parts.get("error_event"), "error_event") or "",
    )


def _paths(reader: Reader, node: Node | None, key: str, others: Mapping[str, PathTemplate]) -> tuple[PathTemplate, ...]:
    """The paths under a key; none may match the same as another, or as one of `others`, which are by their shape."""
    shapes = dict(others)
    items = reader.sequence(node, key)
    for item in items:
        text = reader.string(item, "a path")
        if text is None or not isinstance(item, Scalar):
            continue
        template = path_template.parse(text, item.text_mark, reader.problems)
        if template is not None and shapes.setdefault(template.shape, template) is not template:
            reader.problems.add(item.mark, f"path {text!r} matches the same as {shapes[template.shape].text!r}")
    if isinstance(node, ListNode) and not items:
        reader.problems.add(node.mark, f"{key} must not be empty")
    return tuple(path for shape, path in shapes.items() if shape not in others)


def _rest_side(reader: Reader, node: Node | None, mark: Mark) -> SideDocument:
    if node is None:
        return SideDocument(None, (), "", None, mark)
    parts = reader.map(
        node, "one side of a rest binding", {"schema": False, "map": False, "status": False, "text": False}
    )
    status = reader.map(parts.get("status"), "status", {"field": True, "unset": False}) if "status" in parts else {}
    field, unset = status.get("field"), status.get("unset")
    if reader.boolean(unset, "unset") is False and unset:
        reader.problems.add(unset.mark, "unset can only be true: the status alone says so")
    return SideDocument(
        type_ref(reader, parts.get("schema")) if "schema" in parts else None,
        _lines(reader, parts.get("map")),
        (reader.identifier(field, "field") if field else None) or "",
        field.mark if field else None,
        node.mark,
        _plain_text(reader, parts),
    )


def _plain_text(reader: Reader, parts: Mapping[str, Node]) -> str:
    """What a body says that has no structure; it goes with an answer by status alone."""
    if "text" in parts and ("schema" in parts or "status" not in parts):
        reader.problems.add(parts["text"].mark, "text goes with status and without a schema")
    return reader.string(parts.get("text"), "text") or ""


def _grpc(reader: Reader, node: Node, mode: str) -> GrpcDocument | None:
    known = {"method": True, "request": False, "reply": mode == "unary", "message": mode == "stream", "envelope": False}
    parts = reader.map(node, "a grpc binding", known)
    _check_mode(reader, parts, mode)
    method = parts.get("method")
    rpc = reader.string(method, "method", _RPC)
    sides = [
        SideDocument(None, _lines(reader, side), "", None, side.mark if side else node.mark)
        for side in (parts.get("request"), parts.get("reply"), parts.get("message"))
    ]
    if method is None or rpc is None:
        return None  # said already; without a method there is nothing that the mapping could be checked against
    message = sides[2] if "message" in parts else None
    envelope = _envelope(reader, parts["envelope"]) if "envelope" in parts else None
    return GrpcDocument(rpc, method.mark, sides[0], sides[1], node.mark, message, envelope)


def _envelope(reader: Reader, node: Node) -> EnvelopeDocument:
    parts = reader.map(node, "envelope", {"message": True, "error": True, "echo": False})
    echoed = [reader.identifier(item, "echo") for item in reader.sequence(parts.get("echo"), "echo")]
    return EnvelopeDocument(
        reader.identifier(parts.get("message"), "message") or "",
        reader.identifier(parts.get("error"), "error") or "",
        tuple(name for name in echoed if name),
        node.mark,
    )


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
    field = reader.string(node, f"the field of {wire}", _FIELD)
    return None if field is None else LineDocument(wire, field, "", "", False, mark, node.mark)


def _long_line(reader: Reader, wire: str, mark: Mark, node: Node) -> LineDocument | None:
    parts = reader.map(node, f"mapping of {wire}", dict.fromkeys((*_SOURCES, *_WITH_FIELD), False))
    sources = [key for key in _SOURCES if key in parts]
    if len(sources) != 1:
        reader.problems.add(node.mark, f"mapping of {wire} needs exactly one of field, echo, constant and absent")
        return None
    for key in _WITH_FIELD:
        if key in parts and sources != ["field"]:
            reader.problems.add(parts[key].mark, f"mapping of {wire}: {key} goes with field, not with {sources[0]}")
    if "constant" in parts:
        constant = read_constant(reader, parts["constant"], "constant")
        if constant is None:
            return None
        return LineDocument(wire, "", "", "", False, mark, node.mark, constant=constant)
    source = parts[sources[0]]
    if "absent" in parts:
        absent = reader.identifier(source, "absent") or ""
        return LineDocument(wire, absent, "", "", False, mark, source.mark, absent=absent)
    field = reader.string(source, sources[0], _FIELD)
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
        unset=read_constant(reader, parts.get("unset"), "unset"),
        default=read_constant(reader, parts.get("default"), "default"),
        enum=reader.identifier(parts.get("enum"), "enum") or "",
        unit=reader.choice(parts.get("unit"), "unit", UNITS) or "",
        nullable=reader.boolean(parts.get("nullable"), "nullable") or False,
    )
