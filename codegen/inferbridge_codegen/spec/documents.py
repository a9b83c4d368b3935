"""The spec set as read from YAML: frozen documents that keep the place of everything a message may point at.

Types in specs follow this grammar::

    type   = scalar | "map<parameter>" | "list<" type ">" | "optional<" type ">" | Name
    scalar = "string" | "bool" | "int64" | "uint64" | "double" | "bytes" | "tensor" | "any"

A `Name` is a declared type or enum.
"""

from dataclasses import dataclass, field
from pathlib import Path

from inferbridge_codegen.problems import Mark
from inferbridge_codegen.spec.path_template import PathTemplate

SCALARS = ("string", "bool", "int64", "uint64", "double", "bytes", "tensor", "any")
PARAMETERS = "map<parameter>"

type Constant = str | bool | int | float | None
"""A plain value in a spec."""


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
    off: Constant = None
    """The value that means "no effect": to set it is no loss where a runtime has no place for the field."""
    number: int = 0
    """REST: of the field in a message made of the schema; 0: its place among those that give none."""


@dataclass(frozen=True, slots=True)
class EnumDocument:
    """Named values of operations: what they may be, lower case."""

    name: str
    values: tuple[str, ...]
    mark: Mark


@dataclass(frozen=True, slots=True)
class EnumTableDocument:
    """How an API writes the values of an enum: the wire's value, and the neutral one."""

    name: str
    of: str
    of_mark: Mark
    values: tuple[tuple[str, str, Mark], ...]
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
    message: dict[str, FieldDocument] | None = None
    """One message of a streamed answer; None: the operation never streams."""


@dataclass(frozen=True, slots=True)
class LineDocument:
    """One mapping line: a place on the wire and the operation's field it carries.

    `alias`: a second place of a request's field, which must agree with the first and is never written.
    `echo`: a reply's place that repeats a field of the request.
    `constant`: a reply's place that always says the same; where it is a bool, anything else from a runtime is an error.
    `unset`: the wire's value that means "not said". `default`: what the API does when the client says nothing; at a
    place that is `nullable`, when it is left out, while null there means that nothing is said.
    `enum`: the table that translates the value. `unit`: of a time on the wire; the operation's are seconds.
    `nullable`: REST, written as null instead of being left out. `absent`: of a place `x[0]`, the bool field that is
    true where the list is empty.
    """

    wire: str
    field: str
    converter: str
    raw: str
    alias: bool
    wire_mark: Mark
    field_mark: Mark
    echo: bool = False
    constant: Constant = None
    unset: Constant = None
    default: Constant = None
    enum: str = ""
    unit: str = ""
    nullable: bool = False
    absent: str = ""


@dataclass(frozen=True, slots=True)
class SideDocument:
    """The request or the reply of a binding."""

    schema: TypeRef | None
    lines: tuple[LineDocument, ...]
    status_field: str
    status_mark: Mark | None
    mark: Mark
    text: str = ""
    """REST reply without a schema whose status says all: the plain text of a body where it is true."""


@dataclass(frozen=True, slots=True)
class FramingDocument:
    """How an API's events look."""

    event: str
    crlf: bool
    done: str
    """The data of the event that marks success; empty: there is none."""
    error_event: str


@dataclass(frozen=True, slots=True)
class RestDocument:
    """An endpoint as verb and paths; the first path whose variables are all set is the one sent."""

    method: str
    paths: tuple[PathTemplate, ...]
    request: SideDocument
    reply: SideDocument
    mark: Mark
    message: SideDocument | None = None
    """One event of a streamed answer."""
    framing: FramingDocument | None = None
    aliases: tuple[PathTemplate, ...] = ()
    """Further paths that clients may use; nothing is ever sent there."""


@dataclass(frozen=True, slots=True)
class EnvelopeDocument:
    """What the messages of a gRPC stream are wrapped in: each holds a message or the text of an error."""

    message: str
    """Field of the wrapped message, whose type the mapping lines are about."""
    error: str
    """Field of an error's text; empty: it is none."""
    echo: tuple[str, ...]
    """Fields of the operation's request that the message beside an error repeats."""
    mark: Mark


@dataclass(frozen=True, slots=True)
class GrpcDocument:
    """An endpoint as service and method."""

    method: str
    method_mark: Mark
    request: SideDocument
    reply: SideDocument
    mark: Mark
    message: SideDocument | None = None
    """One message of a streamed answer."""
    envelope: EnvelopeDocument | None = None


@dataclass(frozen=True, slots=True)
class EndpointDocument:
    """One callable thing of an API."""

    name: str
    operation: str
    operation_mark: Mark
    rest: RestDocument | None
    grpc: GrpcDocument | None
    mark: Mark
    rule_mark: Mark
    fan_out_mark: Mark
    mode: str = "unary"
    """`unary`, `stream`, or `either`: the request's field `stream` decides."""
    rule: str = ""
    """What the tables cannot say, see `inferbridge.bridge.rules`."""
    fan_out: str = ""
    """As a runtime it takes one item of this list a call."""
    settles: tuple[tuple[str, Mark], ...] = ()
    """Fields of a request that it as a runtime has no place for, but its rule or the gateway sees to."""


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
    enums: dict[str, EnumTableDocument] = field(default_factory=dict)
    lenient_json: bool = False
    """REST bodies may hold numbers as text and the like, as pydantic takes them."""


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


@dataclass(frozen=True, slots=True)
class Root:
    """A spec folder; `shown` stands before the names of its files in messages."""

    path: Path
    shown: str = ""


@dataclass(slots=True)
class SpecSet:
    """Everything below some `specs/` folders."""

    types: dict[str, TypeDocument] = field(default_factory=dict)
    enums: dict[str, EnumDocument] = field(default_factory=dict)
    operations: dict[str, OperationDocument] = field(default_factory=dict)
    apis: dict[str, ApiDocument] = field(default_factory=dict)
    runtimes: dict[str, RuntimeDocument] = field(default_factory=dict)
    roots: dict[str, Root] = field(default_factory=dict)
    """Where the protos of each API are."""
    undecided: bool = False
    """A file has questions, and was not read."""
