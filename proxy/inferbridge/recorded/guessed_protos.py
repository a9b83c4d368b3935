"""A proto of recorded gRPC calls that no proto knows: what their bytes allow, under names that a person must replace.

The wire tells a field's number and its wire type, no more. Each type here is the likeliest that all values of a field
have: an integer, a float or double, a message where all of them read as one, else text, else bytes. A field that occurs
twice in a message is repeated. Packed numbers look like any bytes, and are bytes here.
"""

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.values import header, join
from inferbridge.bridge.wire import WireError
from inferbridge.inspect.page import Budget
from inferbridge.inspect.wire_fields import DELIMITED, FIXED32, FIXED64, VARINT, WireField, wire_fields
from inferbridge.recorded.bodies import LIMIT, is_grpc
from inferbridge.recorded.exchanges import Message, Side

_MOST_FIELDS = 100_000
_DEEPEST = 16
_TYPES = {
    VARINT: FieldDescriptorProto.TYPE_INT64,
    FIXED64: FieldDescriptorProto.TYPE_DOUBLE,
    FIXED32: FieldDescriptorProto.TYPE_FLOAT,
}


def protos_of(sides: Iterable[Side]) -> list[FileDescriptorProto]:
    """A file for each package that was called; methods whose path is none of gRPC's are left out."""
    methods: dict[tuple[str, str, str], list[Side]] = {}
    for side in sides:
        service, _, method = side.asked.target.partition("?")[0].lstrip("/").rpartition("/")
        package, _, name = service.rpartition(".")
        if all(part.isidentifier() and part.isascii() for part in (*service.split("."), method)):
            methods.setdefault((package, name, method), []).append(side)
    files: dict[str, FileDescriptorProto] = {}
    for (package, service, method), some in sorted(methods.items()):
        file = files.setdefault(
            package, FileDescriptorProto(name=f"{package.replace('.', '/') or 'guessed'}.proto", package=package)
        )
        file.syntax = "proto3"
        _add_method(file, service, method, some)
    return list(files.values())


def _add_method(file: FileDescriptorProto, service: str, method: str, sides: list[Side]) -> None:
    asked = [_messages(side.asked) for side in sides]
    told = [_messages(side.told) for side in sides if side.told is not None and is_grpc(side.told)]
    found = next((each for each in file.service if each.name == service), None) or file.service.add(name=service)
    prefix = f".{file.package}." if file.package else "."
    names = f"{service}{method}Request", f"{service}{method}Reply"
    for name, bodies in zip(names, (asked, told), strict=True):
        file.message_type.append(_message(name, [message for body in bodies for message in body], 0))
    found.method.add(
        name=method,
        input_type=prefix + names[0],
        output_type=prefix + names[1],
        client_streaming=any(len(body) > 1 for body in asked),
        server_streaming=any(len(body) > 1 for body in told),
    )


def _messages(message: Message) -> list[bytes]:
    try:
        encoding = header(message.headers, "grpc-encoding") or "identity"
        return [bytes(join(chunks)) if chunks else b"" for chunks in unframe(message.body, encoding, LIMIT)]
    except BridgeError:
        return []


def _message(name: str, messages: list[bytes], depth: int) -> DescriptorProto:
    """One type for some messages."""
    made = DescriptorProto(name=name)
    values: dict[int, list[WireField]] = {}
    repeated = set()
    for message in messages:
        fields = list(_fields(message) or ())
        numbers = [field.number for field in fields]
        repeated |= {number for number in numbers if numbers.count(number) > 1}
        for each in fields:
            values.setdefault(each.number, []).append(each)
    for number, some in sorted(values.items()):
        label = FieldDescriptorProto.LABEL_REPEATED if number in repeated else FieldDescriptorProto.LABEL_OPTIONAL
        field = made.field.add(name=f"field_{number}", number=number, label=label)
        _set_type(made, field, some, depth)
    return made


def _set_type(made: DescriptorProto, field: FieldDescriptorProto, values: list[WireField], depth: int) -> None:
    kinds = {value.wire_type for value in values}
    if kinds != {DELIMITED}:
        field.type = _TYPES[kinds.pop()] if len(kinds) == 1 else FieldDescriptorProto.TYPE_BYTES
        return
    contents = [bytes(value.value) for value in values if isinstance(value.value, memoryview)]
    if all(_is_text(content) for content in contents):
        field.type = FieldDescriptorProto.TYPE_STRING
    elif depth < _DEEPEST and all(_fields(content) is not None for content in contents):
        nested = _message(f"Field{field.number}", contents, depth + 1)
        made.nested_type.append(nested)
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, nested.name
    else:
        field.type = FieldDescriptorProto.TYPE_BYTES


def _fields(message: bytes) -> list[WireField] | None:
    """None for what is no message."""
    try:
        return list(_checked(message))
    except WireError:
        return None


def _checked(message: bytes) -> Iterator[WireField]:
    return wire_fields(memoryview(message), Budget(_MOST_FIELDS))


def _is_text(content: bytes) -> bool:
    """Printable text; a short message often is UTF-8 as well, but with control characters."""
    try:
        return all(letter.isprintable() or letter in "\n\t\r" for letter in content.decode())
    except UnicodeDecodeError:
        return False
