"""What a descriptor knows of some JSON: answers of a runtime may say more than the schema of the API."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_WELL_KNOWN = "google.protobuf."
"""Messages whose JSON is not an object of their fields."""


def known_part(value: Any, descriptor: Descriptor, place: str, lost: list[str]) -> Any:
    """`value` without null and without what the message has no field for; `lost` takes the places of the latter.

    A member that is null says nothing, so it is not lost.
    """
    if not isinstance(value, dict) or descriptor.full_name.startswith(_WELL_KNOWN):
        return value
    kept: dict[str, Any] = {}
    for name, member in value.items():
        field = _field(descriptor, name)
        if member is None:
            continue
        if field is None:
            lost.append(f"{place}{name}")
        else:
            kept[name] = _known_member(member, field, f"{place}{name}", lost)
    return kept


def _known_member(member: Any, field: FieldDescriptor, place: str, lost: list[str]) -> Any:
    inner = field.message_type
    if inner is None or inner.GetOptions().map_entry:
        return member
    if field.is_repeated and isinstance(member, list):
        return [known_part(item, inner, f"{place}[].", lost) for item in member]
    return known_part(member, inner, f"{place}.", lost)


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    names: Mapping[str, FieldDescriptor] = descriptor.fields_by_name
    return names.get(name) or descriptor.fields_by_camelcase_name.get(name)
