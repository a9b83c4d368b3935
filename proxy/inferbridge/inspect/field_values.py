"""The values of protobuf fields as text: as the type of the field says or, without one, as the wire does."""

import struct
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from inferbridge.bridge.wire import INT32, INT64, SINT32, SINT64, UINT32, WireError, read_varint
from inferbridge.inspect.page import octets, quoted_bytes
from inferbridge.inspect.tensor_values import count_varints
from inferbridge.inspect.wire_fields import DELIMITED, FIXED32, FIXED64, VARINT, WireField

_FIRST = 8
_WIDTHS = {FIXED32: 4, FIXED64: 8}
_NAMES = {VARINT: "varint", FIXED64: "8 bytes", FIXED32: "4 bytes"}
_F = FieldDescriptor
_VARINTS: Mapping[int, Callable[[int], object]] = {
    _F.TYPE_INT32: INT32.of_varint,
    _F.TYPE_INT64: INT64.of_varint,
    _F.TYPE_UINT32: UINT32.of_varint,
    _F.TYPE_UINT64: int,
    _F.TYPE_SINT32: SINT32.of_varint,
    _F.TYPE_SINT64: SINT64.of_varint,
    _F.TYPE_BOOL: lambda value: "true" if value else "false",
    _F.TYPE_ENUM: INT32.of_varint,
}
_FIXED32: Mapping[int, Callable[[int], object]] = {
    # numpy writes no more digits than a float32 has
    _F.TYPE_FLOAT: lambda value: np.uint32(value).view(np.float32),
    _F.TYPE_FIXED32: int,
    _F.TYPE_SFIXED32: INT32.of_varint,
}
_FIXED64: Mapping[int, Callable[[int], object]] = {
    _F.TYPE_DOUBLE: lambda value: struct.unpack("<d", struct.pack("<Q", value))[0],
    _F.TYPE_FIXED64: int,
    _F.TYPE_SFIXED64: INT64.of_varint,
}
_FORMS = {VARINT: _VARINTS, FIXED32: _FIXED32, FIXED64: _FIXED64}
_TEXTS = (_F.TYPE_STRING, _F.TYPE_BYTES)


def known_value(field: WireField, known: FieldDescriptor) -> str | None:
    """The value as the field's type says; None where the wire has another type than the field, or it is a message."""
    if isinstance(field.value, int):
        form = _FORMS[field.wire_type].get(known.type)
        return None if form is None else _plain(form(field.value), known)
    if known.type in _TEXTS:
        return quoted_bytes(field.value, is_text=known.type == _F.TYPE_STRING)
    return _packed(field.value, known) if known.is_repeated and known.type in _WIRE_TYPES else None


_WIRE_TYPES = {kind: wire_type for wire_type, forms in _FORMS.items() for kind in forms}


def _plain(value: object, known: FieldDescriptor) -> str:
    if known.enum_type is None or not isinstance(value, int):
        return str(value)
    named = known.enum_type.values_by_number.get(value)
    return f"{value} (no value of {known.enum_type.name} has this number)" if named is None else str(named.name)


def _packed(run: memoryview, known: FieldDescriptor) -> str:
    wire_type = _WIRE_TYPES[known.type]
    form = _FORMS[wire_type][known.type]
    try:
        values = [_plain(form(value), known) for value in _run(run, wire_type)]
    except (WireError, IndexError):
        return f"broken numbers, {octets(run)}"
    width = _WIDTHS.get(wire_type)
    count = len(run) // width if width else count_varints(run)
    return f"[{', '.join(values)}{f', … ({count} numbers)' if count > len(values) else ''}]"


def _run(run: memoryview, wire_type: int) -> Iterator[int]:
    """The first numbers."""
    at, width = 0, _WIDTHS.get(wire_type)
    for _ in range(_FIRST):
        if at >= len(run):
            return
        if width is None:
            value, at = read_varint(run, at)
        elif at + width > len(run):
            raise WireError("truncated")
        else:
            value, at = int.from_bytes(run[at : at + width], "little"), at + width
        yield value


def unknown_value(field: WireField) -> str:
    """The value as the wire tells it."""
    if isinstance(field.value, int):
        return f"{field.value} ({_NAMES[field.wire_type]})"
    assert field.wire_type == DELIMITED
    return quoted_bytes(field.value)
