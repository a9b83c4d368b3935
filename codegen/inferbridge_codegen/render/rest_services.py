"""A gRPC service for the endpoints of an API that have no gRPC binding of their own, made of its REST schemas.

One message for each schema, fields under their JSON names, numbered as in `numbering`: a field that is added at the end
changes nothing for clients that exist. All single values have presence, as JSON members do; `any` is a
`google.protobuf.Value`. What stands in the path or the query is a field of the request, numbered from 1001 on. An
endpoint whose answer may be a stream is two methods.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.struct_pb2 import DESCRIPTOR as STRUCT

from inferbridge_codegen.model.tree import Tree
from inferbridge_codegen.model.types import Api, Endpoint, Field, RestBinding, Side, Struct, class_name
from inferbridge_codegen.numbering import numbers_of
from inferbridge_codegen.spec.fields import HIGHEST

_FIRST_SPECIAL = HIGHEST + 1
_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
}
_NAMES = {
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
}
_VALUE = ".google.protobuf.Value"


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the service and the REST call that it stands for."""

    name: str
    rpc: str
    endpoint: Endpoint
    rest: RestBinding
    streams: bool
    request: str
    reply: str
    path: tuple[str, ...]
    """Fields of the request that stand in the path."""
    query: tuple[str, ...]
    status: str
    """The field of the reply that is true where the HTTP status is 200; empty: the reply is the body."""


def file_name(api: Api) -> str:
    """Where the .proto stands in the generated package."""
    return f"{api.package}/rest_service.proto"


def methods(api: Api) -> tuple[Method, ...]:
    """The methods for the endpoints that have a REST binding alone and say what they answer."""
    return tuple(method for endpoint in api.own.endpoints for method in _methods(api, endpoint))


def _methods(api: Api, endpoint: Endpoint) -> Iterator[Method]:
    rest = endpoint.rest
    if rest is None or endpoint.grpc is not None:
        return
    modes = {"unary": (False,), "stream": (True,), "either": (False, True)}[endpoint.mode]
    for streams in modes:
        answer = rest.message if streams else rest.reply
        if answer is None or not (_status(answer) or _class_of(answer)):
            continue
        name = class_name(endpoint.name) + ("Stream" if streams and endpoint.mode == "either" else "")
        path, query = _specials(rest.request, "path"), _specials(rest.request, "query")
        plain = not (path or query) and _class_of(rest.request) and not _is_list(rest.request)
        wrapped = _status(answer) or _is_list(answer)
        yield Method(
            name,
            f"/{_package(api)}.{_service(api)}/{name}",
            endpoint,
            rest,
            streams,
            _class_of(rest.request) if plain else f"{class_name(endpoint.name)}Call",
            f"{name}Answer" if wrapped else _class_of(answer),
            path,
            query,
            _status(answer),
        )


def _package(api: Api) -> str:
    return f"inferbridge.{api.package}"


def _service(api: Api) -> str:
    return f"{class_name(api.package)}Service"


def _class_of(side: Side | Tree) -> str:
    if isinstance(side, Side):
        return side.wire_class
    return side.body.wire_class if side.body is not None else ""


def _is_list(side: Side | Tree) -> bool:
    return side.is_list


def _status(side: Side | Tree) -> str:
    return side.status_field if isinstance(side, Side) and not side.wire_class else ""


def _specials(side: Side | Tree, *places: str) -> tuple[str, ...]:
    """Names of what stands in these places, in the order of the lines."""
    if isinstance(side, Side):
        return tuple(leaf.key for leaf in side.leaves if leaf.kind == "variable") if "path" in places else ()
    return tuple(special.name for special in side.specials if special.place in places)


# descriptors


def descriptors(api: Api) -> FileDescriptorSet:
    """The service's file, after the one it imports; empty where there is nothing to serve."""
    found = methods(api)
    if not found:
        return FileDescriptorSet()
    file = FileDescriptorProto(name=file_name(api), package=_package(api), syntax="proto3")
    schemas = {schema.name: schema for schema in api.schemas}
    made: dict[str, DescriptorProto] = {}
    for method in found:
        made.setdefault(method.request, _request(api, method, schemas))
        made.setdefault(method.reply, _reply(api, method, schemas))
    for name in _reachable(made.values(), schemas, api):
        made.setdefault(name, _message(api, schemas[name]))
    file.message_type.extend(made.values())
    service = file.service.add(name=_service(api))
    for method in found:
        service.method.add(
            name=method.name,
            input_type=f".{_package(api)}.{method.request}",
            output_type=f".{_package(api)}.{method.reply}",
            server_streaming=method.streams or None,
        )
    if not any(field.type_name == _VALUE for message in file.message_type for field in message.field):
        return FileDescriptorSet(file=[file])
    file.dependency.append(STRUCT.name)
    imported = FileDescriptorProto()
    STRUCT.CopyToProto(imported)
    return FileDescriptorSet(file=[imported, file])


def _reachable(messages: Iterable[DescriptorProto], schemas: dict[str, Struct], api: Api) -> list[str]:
    """Names of the schemas that some messages hold, at any depth."""
    waiting = [field.type_name for message in messages for field in message.field]
    found: list[str] = []
    for type_name in waiting:
        name = type_name.rpartition(".")[2]
        if name in schemas and name not in found:
            found.append(name)
            waiting += [field.type_name for field in _message(api, schemas[name]).field]
    return found


def _request(api: Api, method: Method, schemas: dict[str, Struct]) -> DescriptorProto:
    body = schemas.get(_class_of(method.rest.request))
    if body is not None and body.name == method.request:
        return _message(api, body)
    message = DescriptorProto(name=method.request)
    if body is not None:
        message.CopyFrom(_message(api, body))
        message.name = method.request
    for number, name in enumerate(_specials(method.rest.request, "path", "query"), _FIRST_SPECIAL):
        label = FieldDescriptorProto.LABEL_REPEATED if name in method.query else FieldDescriptorProto.LABEL_OPTIONAL
        message.field.add(
            name=name, json_name=_camel(name), number=number, type=FieldDescriptorProto.TYPE_STRING, label=label
        )
    return message


def _reply(api: Api, method: Method, schemas: dict[str, Struct]) -> DescriptorProto:
    message = DescriptorProto(name=method.reply)
    if method.status:
        message.field.add(
            name=method.status,
            json_name=_camel(method.status),
            number=1,
            type=FieldDescriptorProto.TYPE_BOOL,
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )
        return message
    answer = method.rest.message if method.streams else method.rest.reply
    assert answer is not None
    if not _is_list(answer):
        return _message(api, schemas[_class_of(answer)])
    message.field.add(
        name="items",
        json_name="items",
        number=1,
        type=FieldDescriptorProto.TYPE_MESSAGE,
        type_name=f".{_package(api)}.{_class_of(answer)}",
        label=FieldDescriptorProto.LABEL_REPEATED,
    )
    return message


def _message(api: Api, schema: Struct) -> DescriptorProto:
    message = DescriptorProto(name=schema.name)
    for number, field in zip(numbers_of(field.number for field in schema.fields), schema.fields, strict=True):
        _add(api, message, field, number)
    return message


def _add(api: Api, message: DescriptorProto, field: Field, number: int) -> None:
    made = message.field.add(name=field.name, json_name=_camel(field.name), number=number)
    made.label = FieldDescriptorProto.LABEL_REPEATED if field.type.is_list else FieldDescriptorProto.LABEL_OPTIONAL
    if field.type.base in _SCALARS:
        made.type = _SCALARS[field.type.base]
        if not field.type.is_list:
            made.proto3_optional = True
            made.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field.name}")
        return
    made.type = FieldDescriptorProto.TYPE_MESSAGE
    named = any(schema.name == field.type.base for schema in api.schemas)
    made.type_name = f".{_package(api)}.{field.type.base}" if named else _VALUE


def _camel(name: str) -> str:
    """As protoc makes a field's JSON name."""
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


# text


def render_proto(api: Api) -> str:
    """The .proto that clients compile."""
    file = descriptors(api).file[-1]
    lines = [
        f"// Generated by `inferbridge generate` from apis/{api.name}.yaml. Do not edit.",
        f"// {api.title} as a gRPC service; the gateway answers it in front of any runtime that serves the REST calls.",
        'syntax = "proto3";',
        "",
        f"package {file.package};",
        "",
        *(f'import "{name}";\n' for name in file.dependency),
        f"service {_service(api)} {{",
    ]
    package = f".{file.package}"  # in full: a method may be called as a message is
    for method in methods(api):
        call = f"{method.rest.method} {method.rest.paths[0].text}"
        stream = "stream " if method.streams else ""
        lines += [
            f"  // {call}",
            f"  rpc {method.name}({package}.{method.request}) returns ({stream}{package}.{method.reply});",
        ]
    lines.append("}")
    for message in file.message_type:
        lines += ["", f"message {message.name} {{", *(f"  {_field_text(field)}" for field in message.field), "}"]
    return "\n".join(lines) + "\n"


def _field_text(field: FieldDescriptorProto) -> str:
    kind = _NAMES.get(field.type) or field.type_name.removeprefix(".")
    kind = kind if kind.startswith("google.") else kind.rpartition(".")[2]
    label = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    label = "optional " if field.proto3_optional else label
    return f"{label}{kind} {field.name} = {field.number};"
