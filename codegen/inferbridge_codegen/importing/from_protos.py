"""The skeleton of gRPC services."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.importing.skeleton import Endpoint, Place, Side, Skeleton, snake_case, unique
from inferbridge_codegen.model.wire_view import JSON_MESSAGES
from inferbridge_codegen.protos.index import ProtoIndex

_SCALARS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_FLOAT: "float",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
_OWN = ("grpc.health.", "grpc.reflection.")
"""Services that the gateway answers itself."""


def skeleton_of_protos(name: str, source: str, protos: tuple[str, ...], descriptors: FileDescriptorSet) -> Skeleton:
    """All methods of the services in a descriptor set; `protos` are the files that an API names."""
    skeleton = Skeleton(name, source, protos)
    taken: set[str] = set()
    for rpc, method in ProtoIndex(descriptors).methods.items():
        if rpc.startswith(_OWN):
            continue
        if method.client_streaming:
            skeleton.notes.append(f"{rpc}, whose client streams")
            continue
        skeleton.endpoints.append(_endpoint(rpc, method, unique(snake_case(method.name), taken), skeleton))
    return skeleton


def _endpoint(rpc: str, method: MethodDescriptor, name: str, skeleton: Skeleton) -> Endpoint:
    endpoint = Endpoint(name, "stream" if method.server_streaming else "unary", rpc)
    endpoint.request = _side(method.input_type, endpoint, skeleton)
    answer = _side(method.output_type, endpoint, skeleton)
    if method.server_streaming:
        endpoint.message = answer
    else:
        endpoint.reply = answer
    return endpoint


def _side(message: Descriptor, endpoint: Endpoint, skeleton: Skeleton) -> Side:
    return Side(places=list(_places(message, "", (message.full_name,), endpoint, skeleton)))


def _places(
    message: Descriptor, before: str, within: tuple[str, ...], endpoint: Endpoint, skeleton: Skeleton
) -> Iterator[Place]:
    for field in message.fields:
        path, inner = f"{before}{field.name}", field.message_type
        if inner is not None and inner.full_name in JSON_MESSAGES and not field.is_repeated:
            yield Place(path, "any")
        elif inner is not None and (fault := _fault(inner, within)):
            endpoint.notes.append(f"{path}, {fault}")
        elif inner is not None:
            path = f"{path}[]" if field.is_repeated else path
            yield from _places(inner, f"{path}.", (*within, inner.full_name), endpoint, skeleton)
        elif field.enum_type is None and field.type not in _SCALARS:
            endpoint.notes.append(f"{path}, of a number type that no mapping line takes")
        else:
            yield _value(field, path, skeleton)


def _fault(message: Descriptor, within: tuple[str, ...]) -> str:
    if message.GetOptions().map_entry:
        return "a map"
    if message.full_name in within:
        return f"{message.full_name} within itself"
    if message.full_name.startswith("google.protobuf."):
        return message.full_name
    return ""


def _value(field: FieldDescriptor, path: str, skeleton: Skeleton) -> Place:
    if field.enum_type is None:
        kind, enum = _SCALARS[field.type], ""
    else:
        kind, enum = field.enum_type.name, snake_case(field.enum_type.name)
        skeleton.enums[enum] = tuple(value.name for value in field.enum_type.values)
    return Place(path, f"list<{kind}>" if field.is_repeated else kind, enum)
