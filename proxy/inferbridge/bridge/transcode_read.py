"""Parsed JSON into a message of google.protobuf, by its descriptor.

A field is found by either of its names, must not be given twice, and null leaves it unset. The messages of
google.protobuf that have a form of their own in JSON (`Value`, `Timestamp`, `Any` …) are in `_SPECIAL`.
"""

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from inferbridge.bridge.transcode_scalars import Misfit, Reader, exact_double, key_reader, reader, shown, text

MAX_DEPTH = 100
"""Nested messages, the limit of every protobuf parser. In a `Value` an object is three of them and an array two."""
_VALUE = "google.protobuf.Value"
_NULL = "google.protobuf.NullValue"
_REMEMBERED = 4096


def fill(message: Any, value: Any, depth: int) -> None:
    """Set a message from its JSON value; `depth` is its own, the outermost is 1. Raises `Misfit`."""
    if depth > MAX_DEPTH:
        raise Misfit(f"more than {MAX_DEPTH} messages within each other")
    special = _SPECIAL.get(message.DESCRIPTOR.full_name)
    if special is not None:
        special(message, value, depth)
    else:
        _fill_fields(message, _members(value), depth)


def _members(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misfit(f"must be an object, not {shown(value)}")
    return value


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Misfit(f"must be an array, not {shown(value)}")
    return value


@lru_cache(_REMEMBERED)
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """Fields by both names."""
    return {field.name: field for field in descriptor.fields} | {field.json_name: field for field in descriptor.fields}


@lru_cache(_REMEMBERED)
def _reader(field: FieldDescriptor) -> Reader:
    return reader(field)


@lru_cache(_REMEMBERED)
def is_map(field: FieldDescriptor) -> bool:
    """Whether a repeated field of messages is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _field(descriptor: Descriptor, name: str) -> FieldDescriptor:
    field = _fields(descriptor).get(name)
    if field is None and name.startswith("[") and name.endswith("]"):
        field = _extension(descriptor, name[1:-1])
    if field is None:
        raise Misfit(f"{descriptor.full_name} has no such field")
    return field


def _extension(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    try:
        field: FieldDescriptor = descriptor.file.pool.FindExtensionByName(name)
    except KeyError:
        return None
    return field if field.containing_type is descriptor else None


def _fill_fields(message: Any, members: Mapping[str, Any], depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    taken: dict[str, str] = {}
    for name, value in members.items():
        try:
            field = _field(descriptor, name)
            _claim(taken, field.full_name, name)
            if value is not None or _takes_null(field):
                if field.containing_oneof is not None:
                    _claim(taken, f"oneof {field.containing_oneof.full_name}", name)
                _set(message, field, value, depth)
        except Misfit as misfit:
            misfit.steps.append(f".{name}" if len(name) <= 100 else f".{name[:100]}…")
            raise


def _claim(taken: dict[str, str], what: str, name: str) -> None:
    """Each field, and each group of alternatives, once."""
    other = taken.setdefault(what, name)
    if other is not name:
        raise Misfit(f"excludes {other}, and both are given")


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether null is a value and not the absence of one."""
    if field.is_repeated:
        return False
    if field.message_type is not None:
        return bool(field.message_type.full_name == _VALUE)
    return field.enum_type is not None and field.enum_type.full_name == _NULL


def _held(message: Any, field: FieldDescriptor) -> Any:
    return message.Extensions[field] if field.is_extension else getattr(message, field.name)


def _set(message: Any, field: FieldDescriptor, value: Any, depth: int) -> None:
    if is_map(field):
        _fill_map(_held(message, field), field, _members(value), depth + 2)
    elif field.is_repeated:
        _fill_list(_held(message, field), field, _items(value), depth + 1)
    elif field.message_type is not None:
        part = _held(message, field)
        part.SetInParent()
        fill(part, value, depth + 1)
    elif field.is_extension:
        message.Extensions[field] = _reader(field)(value)
    else:
        setattr(message, field.name, _reader(field)(value))


def _fill_list(held: Any, field: FieldDescriptor, items: list[Any], depth: int) -> None:
    index = 0
    try:
        if field.message_type is not None:
            for index, item in enumerate(items):  # noqa: B007  # for the error
                fill(held.add(), item, depth)
        else:
            read, values = _reader(field), []
            for index, item in enumerate(items):  # noqa: B007  # for the error
                values.append(read(item))
            held.extend(values)
    except Misfit as misfit:
        misfit.steps.append(f"[{index}]")
        raise


def entry_of(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Key and value of a map."""
    assert field.message_type is not None
    return field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]


def _fill_map(held: Any, map_field: FieldDescriptor, members: Mapping[str, Any], depth: int) -> None:
    key_field, field = entry_of(map_field)
    read_key = key_reader(key_field)
    for name, value in members.items():
        try:
            key = read_key(name)
            if key in held:  # -0 and 0
                raise Misfit("the key is given twice")
            if field.message_type is not None:
                fill(held[key], value, depth)
            else:
                held[key] = _reader(field)(value)
        except Misfit as misfit:
            misfit.steps.append(_step(name))
            raise


def _step(key: str) -> str:
    return f"[{json.dumps(key[:100], ensure_ascii=False)}]"


def _fill_value(message: Any, value: Any, depth: int) -> None:
    if isinstance(value, dict):
        message.struct_value.SetInParent()
        fill(message.struct_value, value, depth + 1)
    elif isinstance(value, list):
        message.list_value.SetInParent()
        fill(message.list_value, value, depth + 1)
    elif value is None:
        message.null_value = 0
    elif isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, str):
        message.string_value = text(value)
    else:
        message.number_value = exact_double(value)


def _fill_struct(message: Any, value: Any, depth: int) -> None:
    _fill_map(message.fields, message.DESCRIPTOR.fields_by_name["fields"], _members(value), depth + 2)


def _fill_list_value(message: Any, value: Any, depth: int) -> None:
    _fill_list(message.values, message.DESCRIPTOR.fields_by_name["values"], _items(value), depth + 1)


def _fill_wrapper(message: Any, value: Any, depth: int) -> None:
    message.value = _reader(message.DESCRIPTOR.fields_by_name["value"])(value)


def _fill_from_text(message: Any, value: Any, depth: int) -> None:
    """`Timestamp`, `Duration` and `FieldMask` read their own text."""
    try:
        message.FromJsonString(text(value))
    except ValueError as error:
        raise Misfit(str(error)) from None


def _fill_any(message: Any, value: Any, depth: int) -> None:
    members = dict(_members(value))
    if not members:
        return
    url = members.pop("@type", None)
    part = GetMessageClass(any_type(message, url))()
    if part.DESCRIPTOR.full_name not in _SPECIAL:
        if depth >= MAX_DEPTH:
            raise Misfit(f"more than {MAX_DEPTH} messages within each other")
        _fill_fields(part, members, depth + 1)
    elif members.keys() == {"value"}:
        fill(part, members["value"], depth + 1)
    else:
        raise Misfit(f'{part.DESCRIPTOR.full_name} goes into one field "value" beside "@type"')
    message.type_url, message.value = url, part.SerializeToString(deterministic=True)


def any_type(message: Any, url: Any) -> Descriptor:
    """The type that an `Any` names, of the pool that the `Any` is from."""
    if not isinstance(url, str):
        raise Misfit('"@type" must name the type of the message')
    try:
        found: Descriptor = message.DESCRIPTOR.file.pool.FindMessageTypeByName(url.rpartition("/")[2])
    except KeyError:
        raise Misfit(f"the type {shown(url)} is not known") from None
    return found


WRAPPERS = frozenset(
    f"google.protobuf.{kind}Value"
    for kind in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)
TEXTS = frozenset({"google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"})
_SPECIAL: Mapping[str, Callable[[Any, Any, int], None]] = {
    **dict.fromkeys(WRAPPERS, _fill_wrapper),
    **dict.fromkeys(TEXTS, _fill_from_text),
    _VALUE: _fill_value,
    "google.protobuf.Struct": _fill_struct,
    "google.protobuf.ListValue": _fill_list_value,
    "google.protobuf.Any": _fill_any,
}
