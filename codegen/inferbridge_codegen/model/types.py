"""The linked, frozen model: every name resolved, every type checked. Rendering reads it and never changes it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.spec.documents import (
    Constant,
    EnumDocument,
    EnumTableDocument,
    FieldDocument,
    FramingDocument,
    RuntimeDocument,
    TypeRef,
)
from inferbridge_codegen.spec.path_template import PathTemplate

if TYPE_CHECKING:  # a tree is made of these
    from inferbridge_codegen.model.tree import Tree

_DEFAULTS = {
    "string": '""', "bool": "False", "int64": "0", "uint64": "0", "double": "0.0", "tensor": 'b""', "bytes": 'b""',
    "any": "None",
}  # fmt: skip


def class_name(name: str) -> str:
    """The Python class of an operation or enum."""
    return "".join(part.capitalize() for part in name.split("_"))


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an operation, one of its types, or a REST schema."""

    name: str
    type: TypeRef
    doc: str = ""
    required: bool = False
    always: bool = False
    loss: str = "warn"
    quirk: str = ""
    off: Constant = None
    number: int = 0

    @classmethod
    def of(cls, document: FieldDocument) -> "Field":
        """The field as declared."""
        return cls(
            document.name,
            document.type,
            document.doc,
            document.required,
            document.always,
            document.loss,
            document.quirk,
            document.off,
            document.number,
        )

    @property
    def default(self) -> str:
        """Source of the neutral value when nothing is said."""
        if self.type.is_optional:
            return "None"
        return "[]" if self.type.is_list else _DEFAULTS.get(self.type.base, "{}")


@dataclass(frozen=True, slots=True)
class Struct:
    """A structured type: `name` is its class."""

    name: str
    doc: str
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked for, independent of any API."""

    name: str
    doc: str
    idempotent: bool
    request: Struct
    reply: Struct
    message: Struct | None = None
    """One message of a streamed answer."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value: a place on the wire, and the field of the operation it carries.

    `kind` says how: `value`; `parameters` (a map); `tensor`; `variable` (of the path); `key` (one entry lifted out of
    a parameters map); `constant`. `wire` is the attribute in the message, `key` the entry's name or the variable's.
    """

    kind: str
    wire: str
    field: Field
    required: bool = False
    always: bool = False
    key: str = ""
    converter: str = ""
    alias: bool = False
    echo: bool = False
    constant: bool | None = None
    factory: str = ""
    """gRPC: class of a parameters map's values, or of a tensor's contents."""
    number: int = 0
    """gRPC: the field's own."""


@dataclass(frozen=True, slots=True)
class Group:
    """A list of messages on the wire and the list of the operation's types it carries."""

    wire: str
    wire_class: str
    field: Field
    item_class: str
    leaves: tuple[Leaf, ...]
    unmapped_wire: tuple[Field, ...]
    """Fields of the wire's items that no line carries."""
    unmapped_fields: tuple[Field, ...]
    """Fields of the operation's items that no line carries."""
    required: bool = False
    always: bool = False

    def leaf(self, field: str) -> Leaf | None:
        """The leaf that carries the item's `field`."""
        return next((leaf for leaf in self.leaves if leaf.field.name == field and leaf.kind != "key"), None)


@dataclass(frozen=True, slots=True)
class Side:
    """The request or the reply of a binding, in both directions."""

    wire_class: str
    """Class of the wire message; empty: no body. A leading `list ` would say a JSON array; see `is_list`."""
    is_list: bool
    """REST: the body is a JSON array of `wire_class`."""
    leaves: tuple[Leaf, ...]
    groups: tuple[Group, ...]
    unmapped_wire: tuple[Field, ...]
    unmapped_fields: tuple[Field, ...]
    status_field: str = ""
    """REST reply: the boolean field carried by the status."""
    text: str = ""
    """REST reply by status alone: the plain text of its body."""
    raw: str = ""
    """gRPC: the repeated bytes field that holds the tensors' elements, one entry a tensor."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the messages of a gRPC stream are wrapped in."""

    wire_class: str
    message: str
    """Attribute that holds the message."""
    error: str
    """Attribute that holds the text of an error."""
    echo: tuple[str, ...]
    """Fields of the request that the message beside an error repeats."""


@dataclass(frozen=True, slots=True)
class RestBinding:
    """An endpoint as verb and paths."""

    method: str
    paths: tuple[PathTemplate, ...]
    request: "Side | Tree"
    reply: "Side | Tree"
    message: "Side | Tree | None" = None
    framing: FramingDocument | None = None
    aliases: tuple[PathTemplate, ...] = ()
    """Further paths that clients may use; nothing is ever sent there."""


@dataclass(frozen=True, slots=True)
class GrpcBinding:
    """An endpoint as service and method; `request_class` and `reply_class` are the wire codecs' names."""

    rpc: str
    request: "Side | Tree"
    reply: "Side | Tree"
    message: "Side | Tree | None" = None
    client_streaming: bool = False
    envelope: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One callable thing of an API."""

    name: str
    operation: Operation
    rest: RestBinding | None
    grpc: GrpcBinding | None
    mode: str = "unary"
    rule: str = ""
    fan_out: str = ""
    settles: tuple[str, ...] = ()
    """Fields of a request without a place, which its rule or the gateway sees to when it is the runtime's."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Endpoints over one set of protos: an API's own, or a variant of it."""

    name: str
    """Empty for the API's own."""
    endpoints: tuple[Endpoint, ...]
    protos: tuple[str, ...]
    descriptors: FileDescriptorSet
    messages: tuple[Descriptor, ...]
    """What the bindings reach, in file order."""


@dataclass(frozen=True, slots=True)
class Api:
    """A family of endpoints with one dialect of errors."""

    name: str
    title: str
    errors: str
    schemas: tuple[Struct, ...]
    own: Dialect
    variants: tuple[Dialect, ...]
    enums: tuple[EnumTableDocument, ...] = ()
    lenient_json: bool = False

    @property
    def package(self) -> str:
        """Name of its generated package."""
        return self.name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class Model:
    """The whole spec set."""

    enums: tuple[EnumDocument, ...]
    types: tuple[Struct, ...]
    operations: tuple[Operation, ...]
    apis: tuple[Api, ...]
    runtimes: tuple[RuntimeDocument, ...]
