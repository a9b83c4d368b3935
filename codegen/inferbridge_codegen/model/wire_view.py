"""One view of a wire message for the linker, whether a REST schema or a protobuf message declares it.

A place's `kind` is written in the type grammar of the specs, so that both ends of a mapping line compare as text:
`string`, `list<int64>`, `map<parameter>`, `tensor`, `list<message>` …
"""

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge_codegen.model.tree import Kind
from inferbridge_codegen.model.types import Field
from inferbridge_codegen.spec.documents import PARAMETERS, TypeDocument, TypeRef

_KINDS = {
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int64",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "int64",
    FieldDescriptor.TYPE_UINT64: "int64",
    FieldDescriptor.TYPE_FLOAT: "double",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
}


JSON_MESSAGES: Mapping[str, Kind] = {"google.protobuf.Struct": "struct", "google.protobuf.Value": "value"}
"""Messages that hold JSON: codecs keep their bytes, `inferbridge.bridge.json_messages` reads them."""
_PROTO_KINDS: Mapping[str, Kind] = {
    "string": "string",
    "bool": "bool",
    "int64": "integer",
    "double": "double",
    "bytes": "bytes",
    "enum": "enum",
}
_JSON_KINDS: Mapping[str, Kind] = {
    "string": "string",
    "bool": "bool",
    "int64": "integer",
    "uint64": "integer",
    "double": "double",
    "any": "any",
}
_TAKEN = frozenset({"bool", "dict", "float", "int", "list", "str", "msgspec"})
"""Names that the body of a generated class uses."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a structured side knows of a field on the wire, see `tree.Value`."""

    kind: Kind
    is_list: bool = False
    presence: bool = False
    numbers: tuple[tuple[str, int], ...] = ()
    """Of an enum: its values."""
    number: int = 0
    """gRPC: the field's own."""


@dataclass(frozen=True, slots=True)
class WirePlace:
    """One field of a wire message."""

    name: str
    kind: str
    field: Field
    item: "WireView | None" = None
    """What a `list<message>` holds."""
    factory: str = ""
    """gRPC: class of a parameters map's values, or of a tensor's contents."""
    attribute: str = ""
    """Its name in the generated class."""
    shape: "Shape" = Shape("message")
    union: str = ""
    """gRPC: the oneof it is a member of."""


class WireView(Protocol):
    """A wire message as the linker sees it."""

    @property
    def class_name(self) -> str:
        """Its generated class."""

    @property
    def title(self) -> str:
        """How errors name it."""

    def places(self) -> Mapping[str, WirePlace]:
        """Its fields by name."""


class SchemaView:
    """A REST schema."""

    def __init__(self, document: TypeDocument, schemas: Mapping[str, TypeDocument]) -> None:
        self._document = document
        self._schemas = schemas

    @property
    def class_name(self) -> str:
        return self._document.name

    @property
    def title(self) -> str:
        return f"schema {self._document.name}"

    def places(self) -> Mapping[str, WirePlace]:
        return {name: self._place(Field.of(field)) for name, field in self._document.fields.items()}

    def _place(self, field: Field) -> WirePlace:
        item = self._schemas.get(field.type.base)
        name = json_attribute(field.name)
        if item is None:
            shape = Shape(_JSON_KINDS.get(field.type.base, "any"), field.type.is_list, presence=True)
            return WirePlace(field.name, str(field.type), field, attribute=name, shape=shape)
        kind = "list<message>" if field.type.is_list else "message"
        shape = Shape("message", field.type.is_list, presence=True)
        return WirePlace(field.name, kind, field, SchemaView(item, self._schemas), attribute=name, shape=shape)


class MessageView:
    """A protobuf message."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor

    @property
    def class_name(self) -> str:
        return class_name(self._descriptor)

    @property
    def title(self) -> str:
        return f"message {self._descriptor.full_name}"

    def places(self) -> Mapping[str, WirePlace]:
        return {field.name: _place(field) for field in self._descriptor.fields}


def class_name(descriptor: Descriptor) -> str:
    """Class of the generated codec: nested names joined by an underscore, without the package."""
    full, package = str(descriptor.full_name), str(descriptor.file.package)
    return full.removeprefix(f"{package}.").replace(".", "_")


def python_attribute(name: str) -> str:
    """A name in generated code: Python's keywords get an underscore."""
    return f"{name}_" if keyword.iskeyword(name) else name


def attribute(field: FieldDescriptor) -> str:
    """The field's name in generated code: Python's keywords get an underscore."""
    return f"{field.name}_" if keyword.iskeyword(field.name) else str(field.name)


def json_attribute(name: str) -> str:
    """The attribute of a JSON field in generated code; names that Python or msgspec use get an underscore."""
    return f"{name}_" if keyword.iskeyword(name) or name in _TAKEN else name


def _shape(field: FieldDescriptor, kind: str) -> Shape:
    message = field.message_type
    if message is not None:
        if kind == "map":
            return Shape("strings")
        return Shape(JSON_MESSAGES.get(message.full_name, "message"), field.is_repeated, True)
    shape: Kind = _PROTO_KINDS.get(kind.removeprefix("list<").removesuffix(">"), "integer")
    if field.type == FieldDescriptor.TYPE_FLOAT:
        shape = "float32"
    numbers = tuple((value.name, int(value.number)) for value in field.enum_type.values) if field.enum_type else ()
    return Shape(shape, field.is_repeated, field.has_presence, numbers, field.number)


def _place(field: FieldDescriptor) -> WirePlace:
    kind, item, factory = _kind(field)
    base = kind.removeprefix("list<").removesuffix(">")
    mark_free = TypeRef(base, kind.startswith("list<"), False, None)  # type: ignore[arg-type]  # no place in a YAML file
    neutral = Field(field.name, mark_free, loss="reject")
    union = field.containing_oneof
    real = str(union.name) if union is not None and len(union.fields) > 1 else ""
    return WirePlace(field.name, kind, neutral, item, factory, attribute(field), _shape(field, kind), real)


def _kind(field: FieldDescriptor) -> tuple[str, WireView | None, str]:
    message = field.message_type
    if message is None:
        kind = _KINDS.get(field.type, "unknown")
        return (f"list<{kind}>" if field.is_repeated else kind), None, ""
    if message.GetOptions().map_entry:
        value = message.fields_by_name["value"].message_type
        if value is not None and "bool_param" in value.fields_by_name:
            return PARAMETERS, None, class_name(value)
        strings = all(inner.type == FieldDescriptor.TYPE_STRING for inner in message.fields)
        return "map" if strings else "map<…>", None, ""
    if message.full_name in JSON_MESSAGES:
        return ("list<json>" if field.is_repeated else "json"), None, ""
    if "fp32_contents" in message.fields_by_name:
        return "tensor", None, class_name(message)
    return ("list<message>" if field.is_repeated else "message"), MessageView(message), ""
