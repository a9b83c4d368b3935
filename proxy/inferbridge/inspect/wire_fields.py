"""The fields of a protobuf message one by one, as they stand on the wire: nothing is decoded that is not looked at.

A reader of people's eyes wants what a codec refuses: the fields before the place where a message breaks, those that no
proto names, and of a tensor of 100 MB nothing but where it lies. Values of length-delimited fields are views.
"""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge.bridge.wire import WireError, read_size, read_tag, read_varint
from inferbridge.inspect.page import Budget

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: "<Q", FIXED32: "<I"}


class WireField(NamedTuple):
    """One field: an unsigned integer for the numeric wire types, a view for the delimited one."""

    number: int
    wire_type: int
    value: int | memoryview


@lru_cache(1024)
def known_fields(descriptor: Descriptor) -> Mapping[int, FieldDescriptor]:
    """Fields by number; protobuf's own table makes a new object at each look."""
    return {field.number: field for field in descriptor.fields}


def wire_fields(message: memoryview, budget: Budget) -> Iterator[WireField]:
    """The fields in order; `WireError` with the offset, in bytes of the message, where it breaks or the budget ends."""
    at = 0
    while at < len(message):
        budget.fields -= 1
        if budget.fields < 0:
            raise WireError("too many fields to show; the rest begins", "", at)
        try:
            field, stop = _field(message, at)
        except WireError as error:
            raise WireError(error.reason, error.field, at) from None
        except (IndexError, struct.error):
            raise WireError("truncated", "", at) from None
        yield field
        if stop > len(message):
            raise WireError(f"field {field.number} lacks {stop - len(message)} bytes", "", at)
        at = stop


def _field(message: memoryview, at: int) -> tuple[WireField, int]:
    """A field and where it ends, which for a delimited one may be behind the message: then its beginning."""
    tag, at = read_tag(message, at)
    number, wire_type = tag >> 3, tag & 7
    if not number:
        raise WireError("field number 0")
    if wire_type == VARINT:
        value, at = read_varint(message, at)
        return WireField(number, wire_type, value), at
    if wire_type == DELIMITED:
        size, at = read_size(message, at)
        return WireField(number, wire_type, message[at : at + size]), at + size
    if wire_type in _WIDTHS:
        form = _WIDTHS[wire_type]
        return WireField(number, wire_type, struct.unpack_from(form, message, at)[0]), at + struct.calcsize(form)
    raise WireError("a group, which no reader here takes apart" if wire_type in (3, 4) else f"wire type {wire_type}")
