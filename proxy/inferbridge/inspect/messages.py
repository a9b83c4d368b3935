"""A protobuf message as text: its fields by name, and its tensors.

Messages are read leniently, field by field (`wire_fields`): what is broken is shown up to where it breaks, and fields
that the proto does not know stand under their number.
"""

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import DescriptorPool

from inferbridge.bridge.wire import WireError
from inferbridge.inspect.field_values import known_value, unknown_value
from inferbridge.inspect.page import Budget, Page, octets
from inferbridge.inspect.tensor_places import message_tensors
from inferbridge.inspect.tensors import tensor_lines
from inferbridge.inspect.wire_fields import WireField, known_fields, wire_fields

ANY = "google.protobuf.Any"
_DEEPEST = 32


def add_message(page: Page, message: memoryview, descriptor: Descriptor | None, depth: int = 0) -> None:
    """One message: its tensors, if it has some, then its fields."""
    if descriptor is not None:
        share = Budget(page.budget.fields // 2)  # the rest is for the fields, which are read again
        page.add_all(tensor_lines(message_tensors(message, descriptor, share)), depth)
        page.budget.fields -= page.budget.fields // 2 - share.fields
    _add_fields(page, message, descriptor, depth)


def _add_fields(page: Page, message: memoryview, descriptor: Descriptor | None, depth: int) -> None:
    if descriptor is not None and descriptor.full_name == ANY:
        return _add_any(page, message, descriptor, depth)
    try:
        for field in wire_fields(message, page.budget):
            if page.is_full:
                return None
            _add_field(page, field, descriptor, depth)
    except WireError as error:
        page.add(f"! broken: {error} of {len(message)}", depth)
    return None


def _add_field(page: Page, field: WireField, descriptor: Descriptor | None, depth: int) -> None:
    known = None if descriptor is None else known_fields(descriptor).get(field.number)
    if known is None:
        note = "" if descriptor is None else " ! not in the proto"
        page.add(f"{field.number}: {unknown_value(field)}{note}", depth)
    elif known.message_type is not None and isinstance(field.value, memoryview):
        _add_nested(page, known.name, field.value, known.message_type, depth)
    else:
        value = known_value(field, known)
        note = " ! not of the field's type" if value is None else ""
        page.add(f"{known.name}: {unknown_value(field) if value is None else value}{note}", depth)


def _add_nested(page: Page, name: str, message: memoryview, descriptor: Descriptor, depth: int) -> None:
    if not len(message):
        page.add(f"{name}: {{}}", depth)
    elif depth > _DEEPEST:
        page.add(f"{name}: ! nested too deep to show, {octets(message)}", depth)
    else:
        page.add(f"{name}:", depth)
        _add_fields(page, message, descriptor, depth + 1)


def _add_any(page: Page, message: memoryview, descriptor: Descriptor, depth: int) -> None:
    """The message inside, by name where its type is known."""
    url, value = "", memoryview(b"")
    try:
        for number, _, found in wire_fields(message, page.budget):
            if number == 1 and isinstance(found, memoryview):
                url = bytes(found[:512]).decode(errors="replace")
            elif number == 2 and isinstance(found, memoryview):
                value = found
    except WireError as error:
        page.add(f"! broken: {error} of {len(message)}", depth)
    page.add(f"{url or 'no type'}:", depth)
    _add_fields(page, value, _type_of(descriptor.file.pool, url), depth + 1)


def _type_of(pool: DescriptorPool, url: str) -> Descriptor | None:
    try:
        found: Descriptor = pool.FindMessageTypeByName(url.rpartition("/")[2])
    except (KeyError, TypeError):
        return None
    return found
