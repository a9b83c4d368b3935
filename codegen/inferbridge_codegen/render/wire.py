"""Renders straight-line protobuf codecs: one struct, one reader and one writer a message.

The statements of each field are made here, from the descriptor; the template only lays them out. Rules that do not
depend on the field live in `inferbridge.bridge.wire`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge_codegen.model.wire_view import attribute, class_name
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.lines import Lines, wrapped

_VARINTS = {
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_SINT32: "sint32",
    FieldDescriptor.TYPE_SINT64: "sint64",
    FieldDescriptor.TYPE_ENUM: "int32",
}
_FIXED = {
    FieldDescriptor.TYPE_FLOAT: ("FLOAT", 4),
    FieldDescriptor.TYPE_DOUBLE: ("DOUBLE", 8),
    FieldDescriptor.TYPE_FIXED32: ("FIXED32", 4),
    FieldDescriptor.TYPE_FIXED64: ("FIXED64", 8),
    FieldDescriptor.TYPE_SFIXED32: ("SFIXED32", 4),
    FieldDescriptor.TYPE_SFIXED64: ("SFIXED64", 8),
}
_BOUNDS = {
    "int32": (-(1 << 31), (1 << 31) - 1),
    "int64": (-(1 << 63), (1 << 63) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}


@dataclass(frozen=True, slots=True)
class Branch:
    """What a reader does at one tag."""

    tag: int
    lines: Lines


@dataclass(frozen=True, slots=True)
class Slot:
    """One field of a struct."""

    name: str
    type: str
    default: str
    branches: tuple[Branch, ...]
    write: Lines


@dataclass(frozen=True, slots=True)
class Codec:
    """One message."""

    name: str
    full_name: str
    slots: tuple[Slot, ...]
    entries: tuple["Codec", ...]
    """Map entries, read as (key, value)."""

    @property
    def nests(self) -> bool:
        """Whether its writer writes other messages."""
        return self._writes("nested = []")

    @property
    def has_pieces(self) -> bool:
        """Whether its writer writes strings, bytes or runs."""
        return self._writes("piece = ")

    def _writes(self, statement: str) -> bool:
        return any(line.strip().startswith(statement) for slot in self.slots for line in slot.write)


def render_wire(messages: Sequence[Descriptor], sources: Sequence[str]) -> str:
    """Source of a module with a codec for each message; `sources` are named in its header."""
    names = [class_name(message) for message in messages]
    if len(set(names)) != len(names):
        twice = sorted(name for name in set(names) if names.count(name) > 1)
        raise ValueError(f"messages with the same generated name: {', '.join(twice)}")
    return render("wire.py.jinja", codecs=[_codec(message) for message in messages], sources=sources)


def _codec(message: Descriptor) -> Codec:
    entries = [field.message_type for field in message.fields if _is_map(field)]
    fields = sorted(message.fields, key=lambda field: field.number)
    return Codec(
        class_name(message),
        message.full_name,
        tuple(_slot(field) for field in fields),
        tuple(_codec(entry) for entry in entries),
    )


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _is_optional(field: FieldDescriptor) -> bool:
    return field.message_type is not None or field.containing_oneof is not None


def _slot(field: FieldDescriptor) -> Slot:
    if _is_map(field):
        return _map_slot(field)
    return _repeated_slot(field) if field.is_repeated else _single_slot(field)


def _tag(field: FieldDescriptor, wire_type: int) -> int:
    return int(field.number) << 3 | wire_type


def _bytes(tag: int) -> str:
    """A tag as a bytes literal in the form the formatter leaves alone."""
    out = bytearray()
    while tag > 127:
        out.append(tag & 127 | 128)
        tag >>= 7
    out.append(tag)
    text = "".join(f"\\x{octet:02x}" for octet in out)
    return f'b"{text}"'


def _python(field: FieldDescriptor) -> tuple[str, str]:
    """Type and default of a single value."""
    if field.message_type is not None:
        return class_name(field.message_type), "None"
    if field.type == FieldDescriptor.TYPE_STRING:
        return "str", '""'
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "Buffer", 'b""'
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "bool", "False"
    if field.type in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
        return "float", "0.0"
    return "int", "0"


_SIZE = ["size = data[at]", "at += 1", "if size > 127:", "    size, at = wire.length(data, at - 1)", "stop = at + size"]
_VALUE = ["value = data[at]", "at += 1", "if value > 127:", "    value, at = wire.varint(data, at - 1)"]


def _wire_type(field: FieldDescriptor) -> int:
    if field.type in _FIXED:
        return 1 if _FIXED[field.type][1] == 8 else 5
    return 0 if field.type in _VARINTS or field.type == FieldDescriptor.TYPE_BOOL else 2


def _read_value(field: FieldDescriptor) -> tuple[Lines, str, Lines]:
    """Statements before, the value's expression, and statements after."""
    if field.type in _FIXED:
        form, width = _FIXED[field.type]
        return [], f"wire.number(wire.{form}, data, at, end)", [f"at += {width}"]
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _VALUE, "value != 0", []
    if field.type in _VARINTS:
        convert = _VARINTS[field.type]
        return _VALUE, "value" if convert == "uint64" else f"wire.{convert}(value)", []
    if field.type == FieldDescriptor.TYPE_STRING:
        return _SIZE, 'str(data[at:stop], "utf-8")', ["at = stop"]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _SIZE, "wire.take(view, at, stop, end)", ["at = stop"]
    return _SIZE, f"_read_{class_name(field.message_type)}(data, view, at, stop, unknown)", ["at = stop"]


def _single_slot(field: FieldDescriptor) -> Slot:
    kind, default = _python(field)
    optional = _is_optional(field)
    before, value, after = _read_value(field)
    if field.message_type is not None:
        value = value[:-1] + f", m.{attribute(field)})"
    clear = [f"m.{attribute(other)} = None" for other in _others(field)]
    assign = wrapped(f"m.{attribute(field)} = {value}", indent=12)
    branch = Branch(_tag(field, _wire_type(field)), [*before, *clear, *assign, *after])
    annotation = f"{kind} | None" if optional else kind
    return Slot(attribute(field), annotation, "None" if optional else default, (branch,), _write_single(field, optional))


def _others(field: FieldDescriptor) -> list[FieldDescriptor]:
    """The other members of the field's oneof: setting one clears them."""
    members = field.containing_oneof.fields if field.containing_oneof else []
    return [other for other in members if other.name != field.name]


def _write_single(field: FieldDescriptor, optional: bool) -> Lines:
    name = f"m.{attribute(field)}"
    condition = f"if {name} is not None:" if optional else f"if {_is_set(field, name)}:"
    return [condition, *(f"    {line}" for line in _write_value(field, name))]


def _is_set(field: FieldDescriptor, name: str) -> str:
    if field.type in {FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE}:
        return f"{name} or wire.is_negative_zero({name})"
    return f"len({name})" if field.type == FieldDescriptor.TYPE_BYTES else name


def _put(field: FieldDescriptor, name: str) -> str:
    """Expression of the bytes of a varint or fixed-width value."""
    place = f'"{field.name}"'
    if field.type in _FIXED:
        return f"wire.put_number(wire.{_FIXED[field.type][0]}, {name}, {place})"
    if field.type == FieldDescriptor.TYPE_BOOL:
        return f'b"\\x01" if {name} else b"\\x00"'
    kind = _VARINTS[field.type]
    if kind in {"sint32", "sint64"}:
        return f"wire.put_zigzag({name}, {kind[4:]}, {place})"
    low, high = _BOUNDS[kind]
    return f"wire.put_int({name}, {low}, {high}, {place})"


def _write_value(field: FieldDescriptor, name: str) -> Lines:
    """Statements that write tag and value of one element."""
    tag = _tag(field, _wire_type(field))
    width = len(_raw_tag(tag))
    if field.message_type is not None:
        inner = class_name(field.message_type)
        return [
            "nested = []",
            f"size = _write_{inner}({name}, nested)",
            "head = wire.put_varint(size)",
            f"out += ({_bytes(tag)}, head, *nested)",
            f"total += {width} + len(head) + size",
        ]
    if field.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
        text = f'wire.put_text({name}, "{field.name}")' if field.type == FieldDescriptor.TYPE_STRING else name
        return [
            f"piece = {text}",
            "head = wire.put_varint(len(piece))",
            f"out += ({_bytes(tag)}, head, piece)",
            f"total += {width} + len(head) + len(piece)",
        ]
    return [f"head = {_put(field, name)}", f"out += ({_bytes(tag)}, head)", f"total += {width} + len(head)"]


def _raw_tag(tag: int) -> bytes:
    return bytes(1 if tag < 1 << 7 else 2 if tag < 1 << 14 else 3 if tag < 1 << 21 else 4 if tag < 1 << 28 else 5)


def _repeated_slot(field: FieldDescriptor) -> Slot:
    name = f"m.{attribute(field)}"
    if field.type in _FIXED:
        return _fixed_run_slot(field, name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool_run_slot(field, name)
    before, value, after = _read_value(field)
    single = Branch(_tag(field, _wire_type(field)), [*before, f"{name}.append({value})", *after])
    kind, _ = _python(field)
    if field.type not in _VARINTS:
        item = f"{attribute(field)}_item"
        write = [f"for {item} in {name}:", *(f"    {line}" for line in _write_value(field, item))]
        return Slot(attribute(field), f"list[{kind}]", "list", (single,), write)
    convert = _VARINTS[field.type]
    run = Branch(_tag(field, 2), [*_SIZE, f"wire.packed(data, at, stop, end, wire.{convert}, {name})", "at = stop"])
    return Slot(attribute(field), "list[int]", "list", (run, single), _write_run(field, name, _pack_expression(field, name)))


def _pack_expression(field: FieldDescriptor, name: str) -> str:
    kind = _VARINTS[field.type]
    if kind in {"sint32", "sint64"}:
        return f'b"".join([wire.put_zigzag(item, {kind[4:]}, "{field.name}") for item in {name}])'
    low, high = _BOUNDS[kind]
    return f'wire.put_packed({name}, {low}, {high}, "{field.name}")'


def _write_run(field: FieldDescriptor, name: str, piece: str) -> Lines:
    tag = _tag(field, 2)
    return [
        f"if len({name}):",
        f"    piece = {piece}",
        "    head = wire.put_varint(len(piece))",
        f"    out += ({_bytes(tag)}, head, piece)",
        f"    total += {len(_raw_tag(tag))} + len(head) + len(piece)",
    ]


def _fixed_run_slot(field: FieldDescriptor, name: str) -> Slot:
    _, width = _FIXED[field.type]
    run = f"wire.fixed_run(view, at, stop, end, {width})"
    packed = Branch(_tag(field, 2), [*_SIZE, f"{name} = wire.joined({name}, {run})", "at = stop"])
    one = f"wire.fixed_run(view, at, at + {width}, end, {width})"
    single = Branch(_tag(field, _wire_type(field)), [f"{name} = wire.joined({name}, {one})", f"at += {width}"])
    return Slot(attribute(field), "Buffer", 'b""', (packed, single), _write_run(field, name, name))


def _bool_run_slot(field: FieldDescriptor, name: str) -> Slot:
    run = "wire.packed_bools(data, at, stop, end)"
    packed = Branch(_tag(field, 2), [*_SIZE, f"{name} = wire.joined({name}, {run})", "at = stop"])
    one = 'b"\\x01" if value else b"\\x00"'
    single = Branch(_tag(field, 0), [*_VALUE, f"{name} = wire.joined({name}, {one})"])
    return Slot(attribute(field), "Buffer", 'b""', (packed, single), _write_run(field, name, name))


def _map_slot(field: FieldDescriptor) -> Slot:
    entry, name = field.message_type, attribute(field)
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    kind = f"dict[{_python(key)[0]}, {_python(value)[0]}]"
    read = [
        *_SIZE,
        f"{name}_entry = _read_{class_name(entry)}(data, view, at, stop, unknown)",
        f"m.{name}[{name}_entry.key] = {name}_entry.value{_map_default(value)}",
        "at = stop",
    ]
    made = f"{class_name(entry)}({name}_key, {name}_value)"
    write = [
        f"for {name}_key, {name}_value in m.{name}.items():",
        "    nested = []",
        f"    size = _write_{class_name(entry)}({made}, nested)",
        "    head = wire.put_varint(size)",
        f"    out += ({_bytes(_tag(field, 2))}, head, *nested)",
        f"    total += {len(_raw_tag(_tag(field, 2)))} + len(head) + size",
    ]
    return Slot(name, kind, "dict", (Branch(_tag(field, 2), read),), write)


def _map_default(value: FieldDescriptor) -> str:
    return f" or {class_name(value.message_type)}()" if value.message_type is not None else ""
