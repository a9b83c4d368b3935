"""The spec set as read from YAML: frozen documents that keep the place of everything a message may point at.

Types in specs follow this grammar::

    type   = scalar | "map<parameter>" | "list<" type ">" | "optional<" scalar ">" | Name
    scalar = "string" | "bool" | "int64" | "double" | "tensor" | "any"
"""

from dataclasses import dataclass, field

from inferbridge_codegen.problems import Mark
from inferbridge_codegen.spec.path_template import PathTemplate

SCALARS = ("string", "bool", "int64", "double", "tensor", "any")
PARAMETERS = "map<parameter>"


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A type as written. `base` is a scalar, `map<parameter>` or the name of a declared type."""

    base: str
    is_list: bool
    is_optional: bool
    mark: Mark

    def __str__(self) -> str:
        if self.is_list:
            return f"list<{self.base}>"
        return f"optional<{self.base}>" if self.is_optional else self.base


@dataclass(frozen=True, slots=True)
class FieldDocument:
    """A field of an operation, of one of its types, or of a REST schema."""

    name: str
    type: TypeRef
    doc: str
    required: bool
    always: bool
    """REST: written even when empty, for clients that expect the key."""
    loss: str
    quirk: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class TypeDocument:
    """A structured type: of operations, or a REST schema."""

    name: str
    doc: str
    fields: dict[str, FieldDocument]
    mark: Mark


@dataclass(frozen=True, slots=True)
class OperationDocument:
    """What is asked for, independent of any API."""

    name: str
    doc: str
    idempotent: bool
    request: dict[str, FieldDocument]
    reply: dict[str, FieldDocument]
    mark: Mark


@dataclass(frozen=True, slots=True)
class LineDocument:
    """One mapping line: a place on the wire and the operation's field it carries.

    `alias`: a second place of a request's field, which must agree with the first and is never written.
    `echo`: a reply's place that repeats a field of the request.
    `constant`: a reply's place that always says the same; anything else from a runtime is an error.
    """

    wire: str
    field: str
    converter: str
    raw: str
    alias: bool
    wire_mark: Mark
    field_mark: Mark
    echo: bool = False
    constant: bool | None = None


@dataclass(frozen=True, slots=True)
class SideDocument:
    """The request or the reply of a binding."""

    schema: TypeRef | None
    lines: tuple[LineDocument, ...]
    status_field: str
    status_mark: Mark | None
    mark: Mark


@dataclass(frozen=True, slots=True)
class RestDocument:
    """An endpoint as verb and paths; the first path whose variables are all set is the one sent."""

    method: str
    paths: tuple[PathTemplate, ...]
    request: SideDocument
    reply: SideDocument
    mark: Mark


@dataclass(frozen=True, slots=True)
class GrpcDocument:
    """An endpoint as service and method."""

    method: str
    method_mark: Mark
    request: SideDocument
    reply: SideDocument
    mark: Mark


@dataclass(frozen=True, slots=True)
class EndpointDocument:
    """One callable thing of an API."""

    name: str
    operation: str
    operation_mark: Mark
    rest: RestDocument | None
    grpc: GrpcDocument | None
    mark: Mark


@dataclass(frozen=True, slots=True)
class VariantDocument:
    """Endpoints of an API whose proto says something else in some runtimes."""

    name: str
    protos: tuple[str, ...]
    endpoints: tuple[EndpointDocument, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class ApiDocument:
    """A family of endpoints with one dialect."""

    name: str
    title: str
    protos: tuple[str, ...]
    errors: str
    schemas: dict[str, TypeDocument]
    endpoints: tuple[EndpointDocument, ...]
    variants: tuple[VariantDocument, ...]
    display: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class RuntimeApiDocument:
    """One API that a runtime speaks, with its quirks there as data."""

    api: str
    api_mark: Mark
    variant: str
    variant_mark: Mark
    ports: dict[str, int]
    quirks: dict[str, object]
    status: dict[str, int]
    codes: dict[int, str]
    details: tuple[tuple[str, str], ...]
    """Beginnings of gRPC error texts, and the code they really mean."""
    not_ready: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RuntimeDocument:
    """A product that speaks APIs."""

    name: str
    title: str
    versions: str
    apis: tuple[RuntimeApiDocument, ...]
    display: str
    mark: Mark


@dataclass(slots=True)
class SpecSet:
    """Everything below one `specs/` folder."""

    types: dict[str, TypeDocument] = field(default_factory=dict)
    operations: dict[str, OperationDocument] = field(default_factory=dict)
    apis: dict[str, ApiDocument] = field(default_factory=dict)
    runtimes: dict[str, RuntimeDocument] = field(default_factory=dict)
