"""Renders straight-line protobuf codecs: one struct, one reader and one writer a message.

The statements of each field are made here, from its descriptor; the template lays them out. Rules that do not depend
on the field live in `inferbridge.bridge.wire`. Writers work back to front; see there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge_codegen.model.wire_view import JSON_MESSAGES, attribute, class_name
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.lines import WIDTH, Lines, indented

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: "INT32",
    FieldDescriptor.TYPE_INT64: "INT64",
    FieldDescriptor.TYPE_UINT32: "UINT32",
    FieldDescriptor.TYPE_UINT64: "UINT64",
    FieldDescriptor.TYPE_SINT32: "SINT32",
    FieldDescriptor.TYPE_SINT64: "SINT64",
    FieldDescriptor.TYPE_ENUM: "INT32",
}
_FIXED = {
    FieldDescriptor.TYPE_FLOAT: ("float", "f", 4),
    FieldDescriptor.TYPE_DOUBLE: ("double", "d", 8),
    FieldDescriptor.TYPE_FIXED32: ("fixed32", "I", 4),
    FieldDescriptor.TYPE_FIXED64: ("fixed64", "Q", 8),
    FieldDescriptor.TYPE_SFIXED32: ("sfixed32", "i", 4),
    FieldDescriptor.TYPE_SFIXED64: ("sfixed64", "q", 8),
}
_FLOATS = {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}
_RESERVED = {"Buffer", "Unknown", "annotations", "msgspec", "wire"}
"""Names of the generated module that a message cannot take."""
_SHADOWING = {"Buffer", "bool", "bytes", "dict", "float", "int", "list", "msgspec", "str"}
"""Names that a struct's own body uses, which a field of that name would hide."""
_VARINT, _EIGHT_BYTES, _SIZED, _FOUR_BYTES = 0, 1, 2, 5
"""Wire types."""


@dataclass(frozen=True, slots=True)
class Branch:
    """What a reader does at one tag."""

    tag: int
    lines: Lines


@dataclass(frozen=True, slots=True)
class Slot:
    """One field of a struct. `write` appends its pieces back to front."""

    number: int
    name: str
    label: str
    """The field's name in the proto."""
    type: str
    default: str
    branches: tuple[Branch, ...]
    """How it is read; the first is how it is nearly always written."""
    write: Lines


@dataclass(frozen=True, slots=True)
class Codec:
    """One message."""

    name: str
    full_name: str
    slots: tuple[Slot, ...]
    entries: tuple["Entry", ...]
    is_recursive: bool
    """Whether it can contain itself."""
    can_be_deep: bool
    """Whether it can stand deeper than any limit."""

    @property
    def branches(self) -> list[Branch]:
        """In the order of the tests a reader makes: what is rare comes last."""
        usual = [slot.branches[0] for slot in self.slots]
        return usual + [branch for slot in self.slots for branch in slot.branches[1:]]

    @property
    def locals(self) -> Lines:
        """Declarations of the writer's variables whose first assignment does not show their type."""
        lines = [line for slot in self.slots for line in slot.write]
        return ["piece: Buffer"] if any("piece = " in line or "for piece in" in line for line in lines) else []

    @property
    def encodes_text(self) -> bool:
        """Whether its writer may meet a lone surrogate."""
        return any(".encode()" in line for slot in self.slots for line in slot.write)


@dataclass(frozen=True, slots=True)
class Entry:
    """The entries of a map field, which exist only on the wire."""

    name: str
    full_name: str
    key: Slot
    value: Slot
    value_type: str
    """With None while no value was read: a message."""
    missing_value: str
    """What a missing value stands for, where that is not its default."""
    can_be_deep: bool

    @property
    def branches(self) -> tuple[Branch, ...]:
        return *self.key.branches, *self.value.branches


def render_wire(messages: Sequence[Descriptor], sources: Sequence[str]) -> str:
    """Source of a module with a codec for each message; `sources` are named in its header.

    `messages` holds every message that one of them contains. ValueError for one that is missing, for names that
    collide, and for what the codecs do not do: proto2's groups, required fields and closed enums.
    """
    _check_names(messages)
    for message in messages:
        _check_fields(message, {other.full_name for other in messages})
    recursive = [message for message in messages if message.full_name in _contained(message)]
    deep = set().union(*map(_contained, recursive))
    codecs = [_codec(message, deep) for message in messages]
    tags = sorted({_tag(field, _SIZED) for field in _fields_with_heads(messages)})
    return render("wire.py.jinja", codecs=codecs, sources=sources, tags=tags, fit=_fit)


def _check_names(messages: Sequence[Descriptor]) -> None:
    seen: dict[str, str] = dict.fromkeys(_RESERVED, "the generated module itself")
    for message in messages:
        name = class_name(message)
        if name in seen:
            raise ValueError(f"message {message.full_name} has the same generated name {name} as {seen[name]}")
        seen[name] = message.full_name


def _check_fields(message: Descriptor, known: set[str]) -> None:
    for field in message.fields:
        inner = field.message_type
        if field.name in _SHADOWING:
            raise ValueError(f"{field.full_name}: a field cannot be named {field.name}")
        if field.type == FieldDescriptor.TYPE_GROUP or field.is_required:
            raise ValueError(f"{field.full_name}: groups and required fields are not supported")
        if field.enum_type is not None and field.enum_type.is_closed:
            raise ValueError(f"{field.full_name}: closed enums are not supported")
        if inner is not None and _is_entry(inner):
            _check_fields(inner, known)
        elif inner is not None and inner.full_name not in known and inner.full_name not in JSON_MESSAGES:
            raise ValueError(f"{field.full_name}: message {inner.full_name} is not among the messages to render")


def _codec(message: Descriptor, deep: set[str]) -> Codec:
    fields = sorted(message.fields, key=lambda field: field.number)
    return Codec(
        class_name(message),
        message.full_name,
        tuple(_slot(field) for field in fields),
        tuple(_entry(_inner(field), deep) for field in fields if _is_map(field)),
        message.full_name in _contained(message),
        message.full_name in deep,
    )


def _contained(message: Descriptor) -> set[str]:
    """Full names of the messages and map entries inside it, at any depth."""
    found: set[str] = set()
    waiting = [message]
    while waiting:
        inner = [_inner(field) for field in waiting.pop().fields if _is_message(field)]
        waiting.extend(other for other in inner if other.full_name not in found)
        found.update(other.full_name for other in inner)
    return found


def _is_entry(message: Descriptor) -> bool:
    return bool(message.GetOptions().map_entry)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and _is_entry(field.message_type)


def _is_message(field: FieldDescriptor) -> bool:
    """Whether it holds a message that has a codec: what holds any JSON is kept as bytes."""
    return field.message_type is not None and field.message_type.full_name not in JSON_MESSAGES


def _is_octets(field: FieldDescriptor) -> bool:
    return field.type == FieldDescriptor.TYPE_BYTES or (field.message_type is not None and not _is_message(field))


def _inner(field: FieldDescriptor) -> Descriptor:
    """The message that a message field holds."""
    if field.message_type is None:
        raise TypeError(f"{field.full_name} holds no message")
    return field.message_type


def _fields_with_heads(messages: Iterable[Descriptor]) -> list[FieldDescriptor]:
    return [
        field for message in messages for field in message.fields if field.is_repeated or _wire_type(field) == _SIZED
    ]


# Names, tags and types


def _wire_type(field: FieldDescriptor) -> int:
    if field.type in _FIXED:
        return _EIGHT_BYTES if _FIXED[field.type][2] == 8 else _FOUR_BYTES
    return _VARINT if field.type in _INTEGERS or field.type == FieldDescriptor.TYPE_BOOL else _SIZED


def _tag(field: FieldDescriptor, wire_type: int) -> int:
    return int(field.number) << 3 | wire_type


def _octets(tag: int, *more: int) -> str:
    """A tag and the bytes after it as a literal in the form that the formatter leaves alone."""
    out = bytearray()
    while tag > 127:
        out.append(tag & 127 | 128)
        tag >>= 7
    return 'b"' + "".join(f"\\x{octet:02x}" for octet in (*out, tag, *more)) + '"'


def _place(field: FieldDescriptor) -> str:
    """How errors of encoding name the field, as a literal."""
    message = field.containing_type
    return f'"{class_name(message)}.{field.name}"' if message is not None else f'"{field.name}"'


def _python(field: FieldDescriptor) -> tuple[str, str]:
    """Type and default of a single value."""
    if _is_message(field):
        return class_name(_inner(field)), "None"
    if field.type == FieldDescriptor.TYPE_STRING:
        return "str", '""'
    if _is_octets(field):
        return "Buffer", 'b""'
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "bool", "False"
    return ("float", "0.0") if field.type in _FLOATS else ("int", "0")


def _fit(indent: int, line: str) -> str:
    """`line`, `indent` columns further in, broken where the formatter would: inside its outermost call."""
    margin = " " * (indent + len(line) - len(line.lstrip()))
    return "\n".join(margin + piece for piece in _broken(line.lstrip(), WIDTH - len(margin)))


def _broken(statement: str, width: int) -> Lines:
    if len(statement) <= width or not statement.endswith(")"):
        return [statement]
    opening = statement.index("(")
    arguments = statement[opening + 1 : -1]
    if len(arguments) <= width - 4:
        inner = [arguments]
    else:
        parts = _arguments(arguments)
        comma = "," if len(parts) > 1 else ""
        inner = [line for part in parts for line in _broken(part + comma, width - 4)]
    return [f"{statement[:opening]}(", *indented(inner), ")"]


def _arguments(text: str) -> Lines:
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        parts[-1] += character
        if character == "," and not depth:
            parts.append("")
    return [part.strip(", ") for part in parts]


# Reading

_READ_SIZE: Lines = [
    "size = data[at]",
    "at += 1",
    "if size > 127:",
    "    size, at = wire.read_size(data, at - 1)",
    "stop = at + size",
]


def _read_value(field: FieldDescriptor, into: str = "") -> tuple[Lines, str, Lines]:
    """Statements before, the value's expression, and statements after. `into`: the message to merge into."""
    if field.type in _FIXED:
        form, _, width = _FIXED[field.type]
        return [], f"wire.read_{form}(data, at)[0]", [f"at += {width}"]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _read_varint("wire.read_varint(data, at - 1)"), "value != 0", []
    if field.type in _INTEGERS:
        kind = _INTEGERS[field.type]
        if kind == "UINT64":
            return _read_varint("wire.read_varint(data, at - 1)"), "value", []
        lines = _read_varint(f"wire.read_integer(data, at - 1, wire.{kind})")
        if kind in {"SINT32", "SINT64"}:
            lines += ["else:", "    value = (value >> 1) ^ -(value & 1)"]
        return lines, "value", []
    if field.type == FieldDescriptor.TYPE_STRING:
        return _READ_SIZE, 'str(data[at:stop], "utf-8")', ["at = stop"]
    if _is_octets(field):
        return _READ_SIZE, "wire.take(data, at, stop, end)", ["at = stop"]
    into = f", {into}" if into else ""
    return (
        _READ_SIZE,
        f"_read_{class_name(_inner(field))}(data, at, stop, depth + 1, unknown{into})",
        ["at = stop"],
    )


def _read_varint(long: str) -> Lines:
    return ["value = data[at]", "at += 1", "if value > 127:", f"    value, at = {long}"]


def _read_single(field: FieldDescriptor, target: str) -> Branch:
    before, value, after = _read_value(field, target if _is_message(field) else "")
    if field.message_type is not None and _is_octets(field):
        value = f'wire.append_run({target} or b"", {value})'  # messages that come in parts are merged
    return Branch(_tag(field, _wire_type(field)), [*before, f"{target} = {value}", *after])


def _others(field: FieldDescriptor) -> list[FieldDescriptor]:
    """The other members of the field's oneof: setting one clears them."""
    members = field.containing_oneof.fields if field.containing_oneof else []
    return [other for other in members if other.name != field.name]


# Slots


def _slot(field: FieldDescriptor) -> Slot:
    name = attribute(field)
    if _is_map(field):
        kind, default, branches, write = _map(field, f"m.{name}")
    elif not field.is_repeated:
        kind, default, branches, write = _single(field, f"m.{name}")
    elif field.type in _FIXED or field.type == FieldDescriptor.TYPE_BOOL:
        kind, default, branches, write = _run_of_bytes(field, f"m.{name}")
    elif field.type in _INTEGERS:
        kind, default, branches, write = _run_of_varints(field, f"m.{name}")
    else:
        kind, default, branches, write = _list(field, f"m.{name}")
    return Slot(field.number, name, field.name, kind, default, branches, write)


type _Parts = tuple[str, str, tuple[Branch, ...], Lines]
"""Type, default, branches and write of a slot."""


def _single(field: FieldDescriptor, target: str) -> _Parts:
    kind, default = _python(field)
    branch = _read_single(field, target)
    clear = [f"m.{attribute(other)} = None" for other in _others(field)]
    if _is_message(field):
        # the value read so far is merged into, unless another member of the oneof came between: clear after reading
        branch = Branch(branch.tag, [*branch.lines, *clear])
    else:
        branch = Branch(branch.tag, [*clear, *branch.lines])
    if field.has_presence:
        write = [f"if {target} is not None:", *indented(_write_value(field, target))]
        return f"{kind} | None", "None", (branch,), write
    condition = f"if {_is_set(field, target)}:"
    return kind, default, (branch,), [condition, *indented(_write_value(field, target, is_set=True))]


def _is_set(field: FieldDescriptor, name: str) -> str:
    if field.type in _FLOATS:
        return f"wire.is_set({name})"
    return f"len({name})" if field.type == FieldDescriptor.TYPE_BYTES else name


def _list(field: FieldDescriptor, target: str) -> _Parts:
    before, value, after = _read_value(field)
    branch = Branch(_tag(field, _SIZED), [*before, f"{target}.append({value})", *after])
    item = f"{attribute(field)}_item"
    write = [f"for {item} in reversed({target}):", *indented(_write_value(field, item))]
    return f"list[{_python(field)[0]}]", "list", (branch,), write


def _run_of_varints(field: FieldDescriptor, target: str) -> _Parts:
    kind = f"wire.{_INTEGERS[field.type]}"
    run = [*_READ_SIZE, f"wire.read_run(data, at, stop, end, {kind}, {target})", "at = stop"]
    before, value, after = _read_value(field)
    single = [*before, f"{target}.append({value})", *after]
    branches = Branch(_tag(field, _SIZED), run), Branch(_tag(field, _wire_type(field)), single)
    write = [
        f"if {target}:",
        *indented(_write_sized(field, f"wire.integers_of({target}, {kind}, {_place(field)})")),
    ]
    return "list[int]", "list", branches, write


def _run_of_bytes(field: FieldDescriptor, target: str) -> _Parts:
    if field.type == FieldDescriptor.TYPE_BOOL:
        take = "wire.take_bools(data, at, stop, end)"
        before, _, after = _read_value(field)
        one = r'b"\x01" if value else b"\x00"'
        piece = f"wire.bools_of({target}, {_place(field)})"
    else:
        width = _FIXED[field.type][2]
        take = f"wire.take_run(data, at, stop, end, {width})"
        before, one, after = [], f"wire.take(data, at, at + {width}, end)", [f"at += {width}"]
        piece = f"wire.run_of({target}, {width}, {_place(field)})"
    run = [*_READ_SIZE, f"{target} = wire.append_run({target}, {take})", "at = stop"]
    single = [*before, f"{target} = wire.append_run({target}, {one})", *after]
    branches = Branch(_tag(field, _SIZED), run), Branch(_tag(field, _wire_type(field)), single)
    return "Buffer", 'b""', branches, [f"if len({target}):", *indented(_write_sized(field, piece))]


def _map(field: FieldDescriptor, target: str) -> _Parts:
    entry, name = _inner(field), attribute(field)
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    read = [
        *_READ_SIZE,
        f"{name}_pair = _read_{class_name(entry)}(data, at, stop, depth + 1, unknown)",
        f"{target}[{name}_pair[0]] = {name}_pair[1]",
        "at = stop",
    ]
    write = [
        f"for {name}_key, {name}_item in reversed({target}.items()):",
        "    before = total",
        *indented(_write_value(value, f"{name}_item")),
        *indented(_write_value(key, f"{name}_key")),
        *indented(_write_head(field, "total - before")),
    ]
    return f"dict[{_python(key)[0]}, {_python(value)[0]}]", "dict", (Branch(_tag(field, _SIZED), read),), write


def _entry(entry: Descriptor, deep: set[str]) -> Entry:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    kind = _python(value)[0]
    is_message = value.message_type is not None
    return Entry(
        class_name(entry),
        entry.full_name,
        _entry_slot(key, "key"),
        _entry_slot(value, "item"),
        kind,
        f"{kind}() if item is None else item" if is_message else "item",
        entry.full_name in deep,
    )


def _entry_slot(field: FieldDescriptor, target: str) -> Slot:
    kind, default = _python(field)
    kind = f"{kind} | None" if field.message_type is not None else kind
    return Slot(field.number, target, field.name, kind, default, (_read_single(field, target),), [])


# Writing


def _write_value(field: FieldDescriptor, name: str, *, is_set: bool = False) -> Lines:
    """Statements that write one value. `is_set`: it is not the default."""
    if _is_message(field):
        return [
            f"size = _write_{class_name(_inner(field))}({name}, out)",
            *_write_head(field, "size"),
            "total += size",
        ]
    if field.type == FieldDescriptor.TYPE_STRING:
        return _write_sized(field, f"{name}.encode()")
    if _is_octets(field):
        lines = _write_sized(field, name)
        return [lines[0], "if piece.__class__ is not bytes:", "    piece = wire.octets(piece)", *lines[1:]]
    tag = _tag(field, _wire_type(field))
    if field.type == FieldDescriptor.TYPE_BOOL:
        true, false = _octets(tag, 1), _octets(tag, 0)
        return [f"out.append({true if is_set else f'{true} if {name} else {false}'})", f"total += {_length(tag) + 1}"]
    if field.type in _FIXED:
        _, form, width = _FIXED[field.type]
        number = f'wire.number({tag}, {name}, "{form}", {_place(field)})'
        return [f"head = {number}", "out.append(head)", f"total += {_length(tag) + width}"]
    kind = f"wire.{_INTEGERS[field.type]}"
    return [f"head = wire.integer({tag}, {name}, {kind}, {_place(field)})", "out.append(head)", "total += len(head)"]


def _write_sized(field: FieldDescriptor, piece: str) -> Lines:
    return [
        f"piece = {piece}",
        "size = len(piece)",
        f"head = {_head(field, 'size')}",
        "out += (piece, head)",
        "total += size + len(head)",
    ]


def _write_head(field: FieldDescriptor, size: str) -> Lines:
    """Tag and length of a message that is already written."""
    assign = [] if size == "size" else [f"size = {size}"]
    return [*assign, f"head = {_head(field, 'size')}", "out.append(head)", "total += len(head)"]


def _head(field: FieldDescriptor, size: str) -> str:
    tag = _tag(field, _SIZED)
    return f"_HEADS_{tag}[{size}] if {size} < 128 else wire.head({tag}, {size})"


def _length(tag: int) -> int:
    """Bytes of a tag."""
    return max(1, -(-tag.bit_length() // 7))
