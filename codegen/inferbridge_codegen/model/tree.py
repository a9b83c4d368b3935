"""A structured side of a binding, linked: where each value stands on the wire, and which field of the operation it is.

The wire is a tree of messages. Every message that holds a mapped value is a `Message`: its own values are `Value`s, its
single messages are again `Message`s, its lists of messages are `Items`. On the other end the operation is a tree too;
a `Target` says where in it a value belongs, seen from the struct that the surrounding list makes (or from the
operation's request, reply or message at the top).
"""

from dataclasses import dataclass
from typing import Literal

from inferbridge_codegen.model.types import Field
from inferbridge_codegen.spec.documents import Constant

type Kind = Literal[
    "string", "bool", "integer", "float32", "double", "bytes", "any", "enum", "struct", "value", "strings", "message"
]  # fmt: skip
"""What a value is on the wire; `struct` and `value` are google.protobuf's, `strings` is a map of strings."""


@dataclass(frozen=True, slots=True)
class Target:
    """A field of the operation.

    `path` are the names from the scope's struct: one, or two for a field of an optional struct (`length_penalty`,
    `start_index`), or for a field of the only item of a list, then `single` is True (`choices`, `text`; or `prompts`
    alone where the list holds plain values).
    """

    path: tuple[str, ...]
    field: Field
    """The last of them."""
    owner: Field | None = None
    """The optional struct or list that `path` leads through."""
    single: bool = False

    @property
    def name(self) -> str:
        """As errors and tables call it."""
        return ("[]." if self.single else ".").join(self.path)


@dataclass(frozen=True, slots=True)
class Value:
    """One value in a message."""

    wire: str
    """Its name in the message's generated class."""
    label: str
    """Its name on the wire."""
    kind: Kind
    is_list: bool
    presence: bool
    """Protobuf: absent and empty differ. REST: always so."""
    target: Target | None
    """None: a constant."""
    required: bool = False
    always: bool = False
    alias: bool = False
    echo: bool = False
    nullable: bool = False
    constant: Constant = None
    unset: Constant = None
    enum: str = ""
    unit: str = ""
    converter: str = ""
    entries: tuple[tuple[str | int, str], ...] = ()
    """Of an enum: the wire's value and the neutral one."""
    default: Constant = None
    """Of a nullable place in a request: what leaving it out means, while null says nothing."""
    number: int = 0
    """Protobuf: the field's."""


@dataclass(frozen=True, slots=True)
class Special:
    """A value outside of the body: `path`, `query`, `header` or `metadata`."""

    place: Literal["path", "query", "header", "metadata"]
    name: str
    target: Target


@dataclass(frozen=True, slots=True)
class Message:
    """A message on the wire, the body itself included."""

    wire: str
    """Its name in the surrounding message; empty for the body."""
    label: str
    wire_class: str
    values: tuple[Value, ...]
    messages: tuple["Message", ...]
    items: tuple["Items", ...]
    unmapped: tuple[Field, ...]
    """What no line carries."""
    owner: str = ""
    """The optional struct of the operation whose fields it holds; present exactly when that is."""
    first: bool = False
    """It is the only one in a list of messages."""
    absent: str = ""
    """The bool field of the operation that is true where that list is empty."""
    unions: tuple[tuple[str, ...], ...] = ()
    """Names of mapped members of which a protobuf message holds only one."""
    required: bool = False
    """REST: it is written even where nothing in it is set."""
    floats: Literal["", "single", "double"] = ""
    """Of two members of a union for one list of numbers: `single` is written where all are float32, else `double`."""

    def walk(self) -> tuple["Message", ...]:
        """This message and the single messages in it, at any depth, outer ones first."""
        return (self, *(inner for message in self.messages for inner in message.walk()))


@dataclass(frozen=True, slots=True)
class Part:
    """An optional struct, or the only item of a list, that some lines lead through, and what no line carries of it."""

    owner: Field
    single: bool
    unmapped: tuple[Field, ...]

    @property
    def prefix(self) -> str:
        """What stands before the names of its fields."""
        return f"{self.owner.name}{'[]' if self.single else ''}."


@dataclass(frozen=True, slots=True)
class Items:
    """A list of messages, and the list of the operation that it carries."""

    wire: str
    label: str
    message: Message
    target: Target
    item_class: str
    """Class of the operation's items; empty where they are plain values, then the message holds one value."""
    required: bool
    always: bool
    unmapped_fields: tuple[Field, ...]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Tree:
    """One side, in both directions."""

    body: Message | None
    is_list: bool
    """REST: the body is a JSON array; `body` then has one `Items` without a name."""
    specials: tuple[Special, ...]
    unmapped_fields: tuple[Field, ...]
    defaults: tuple[tuple[str, Constant], ...] = ()
    """What the API does where the client says nothing: field of the operation, and neutral value."""
    parts: tuple[Part, ...] = ()
