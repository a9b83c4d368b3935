"""A .proto file from its descriptor, as a server's reflection gives it: all that its wire needs, no comments."""

import json
from collections.abc import Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

_TYPES = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
_LABELS = {FieldDescriptorProto.LABEL_REPEATED: "repeated ", FieldDescriptorProto.LABEL_REQUIRED: "required "}
_OPTIONS = ("packed", "deprecated")


def proto_text(file: FileDescriptorProto) -> str:
    """The text of a file in proto2 or proto3; ValueError for a syntax that is neither."""
    syntax = file.syntax or "proto2"
    if syntax not in ("proto2", "proto3"):
        raise ValueError(f"{file.name} is written in {syntax}, which cannot be imported")
    lines = [f'syntax = "{syntax}";', ""]
    if file.package:
        lines += [f"package {file.package};", ""]
    public = set(file.public_dependency)
    imports = [f'import {"public " if at in public else ""}"{name}";' for at, name in enumerate(file.dependency)]
    lines += [*imports, *([""] if imports else [])]
    for enum in file.enum_type:
        lines += [*_enum(enum), ""]
    for message in file.message_type:
        lines += [*_message(message, syntax), ""]
    for service in file.service:
        lines += [*_service(service), ""]
    return "\n".join(lines)


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" for line in lines)


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    if enum.options.allow_alias:
        yield "  option allow_alias = true;"
    yield from (f"  {value.name} = {value.number};" for value in enum.value)
    yield "}"


def _message(message: DescriptorProto, syntax: str) -> Iterator[str]:
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    yield f"message {message.name} {{"
    for enum in message.enum_type:
        yield from _indented(_enum(enum))
    for nested in message.nested_type:
        if nested.name not in maps:
            yield from _indented(_message(nested, syntax))
    yield from _indented(_fields(message, maps, syntax))
    ranges = [
        f"{found.start}" if found.end == found.start + 1 else f"{found.start} to {found.end - 1}"
        for found in message.reserved_range
    ]
    if ranges:
        yield f"  reserved {', '.join(ranges)};"
    if message.reserved_name:
        yield f"  reserved {', '.join(map(json.dumps, message.reserved_name))};"
    yield "}"


def _fields(message: DescriptorProto, maps: dict[str, DescriptorProto], syntax: str) -> Iterator[str]:
    """The fields; those of a oneof stand in it where its first one does."""
    written: set[int] = set()
    for field in message.field:
        in_oneof = field.HasField("oneof_index") and not field.proto3_optional
        if not in_oneof:
            yield _field(field, _map(field, maps), _label(field, syntax))
        elif field.oneof_index not in written:
            written.add(field.oneof_index)
            yield f"oneof {message.oneof_decl[field.oneof_index].name} {{"
            for member in message.field:
                if member.HasField("oneof_index") and member.oneof_index == field.oneof_index:
                    yield f"  {_field(member, None, '')}"
            yield "}"


def _map(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> DescriptorProto | None:
    return maps.get(field.type_name.rpartition(".")[2]) if field.label == field.LABEL_REPEATED else None


def _label(field: FieldDescriptorProto, syntax: str) -> str:
    if field.label in _LABELS:
        return _LABELS[field.label]
    return "optional " if syntax == "proto2" or field.proto3_optional else ""


def _field(field: FieldDescriptorProto, entry: DescriptorProto | None, label: str) -> str:
    kind = f"{label}{_type(field)}"
    if entry is not None:
        kind = f"map<{_type(entry.field[0])}, {_type(entry.field[1])}>"
    known = [(option.name, value) for option, value in field.options.ListFields() if option.name in _OPTIONS]
    options = [f"{name} = {str(value).lower()}" for name, value in known]
    if field.HasField("default_value"):
        quoted = field.type in (field.TYPE_STRING, field.TYPE_BYTES)
        options.append(f"default = {json.dumps(field.default_value) if quoted else field.default_value}")
    return f"{kind} {field.name} = {field.number}{f' [{", ".join(options)}]' if options else ''};"


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name or _TYPES[field.type]


def _service(service: ServiceDescriptorProto) -> Iterator[str]:
    yield f"service {service.name} {{"
    for method in service.method:
        asked = f"{'stream ' if method.client_streaming else ''}{method.input_type}"
        told = f"{'stream ' if method.server_streaming else ''}{method.output_type}"
        yield f"  rpc {method.name}({asked}) returns ({told});"
    yield "}"
