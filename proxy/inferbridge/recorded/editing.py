"""Changes fields of a recorded request, by their path: JSON of REST, or gRPC messages by the names of their proto.

    edit  = path "=" [ JSON ]              no JSON: the field is removed
    path  = [ "[" index "]" "." ] step { "." step }        the first index is that of a message, where there are several
    step  = name { "[" index "]" }

A name must be one that the request has, or that its proto or spec knows: a typing error must not become a field that a
runtime ignores in silence. Where nothing is known of a call's fields, any name will do.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from inferbridge.bridge.framing import frame
from inferbridge.bridge.transcode import to_message
from inferbridge.bridge.values import join
from inferbridge.inspect.exact_json import exact_json
from inferbridge.inspect.translation import known_places
from inferbridge.recorded.bodies import Body, method_of, request_body
from inferbridge.recorded.calls import described
from inferbridge.recorded.exchanges import Side
from inferbridge.recorded.facts import find_endpoint
from inferbridge_codegen.problems import suggestion

_STEP = re.compile(r"\.?([^.\[\]]+)|\[([0-9]{1,9})\]")
_REMOVED: Any = object()

type _Step = str | int
type _Names = Callable[[tuple[_Step, ...]], Collection[str] | None]
"""Names that are known at a place; None: any."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One field, and what it becomes."""

    text: str
    """As it was given."""
    steps: tuple[_Step, ...]
    value: Any


def parse_edit(text: str) -> Edit:
    """Of `PATH=JSON`; ValueError says what is wrong."""
    path, equals, value = text.partition("=")
    steps, at = [], 0
    while at < len(path) and (found := _STEP.match(path, at)) is not None:
        steps.append(found[1] if found[1] is not None else int(found[2]))
        at = found.end()
    if not equals or not path or at < len(path):
        raise ValueError(f"{text!r}: expected PATH=JSON, such as max_tokens=5 or messages[0].content='\"hi\"'")
    try:
        return Edit(text, tuple(steps), exact_json(value) if value.strip() else _REMOVED)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{text!r}: what follows = is not JSON ({error}); text stands in double quotes") from None


def edited(side: Side, edits: Collection[Edit]) -> bytes:
    """The body with its changes, gRPC messages uncompressed; ValueError or `BridgeError` says what is wrong."""
    if side.protocol == "grpc":
        return _edited_messages(side, edits)
    body = request_body(side)
    if body.kind != "json":
        raise ValueError(f"its body is no JSON that could be changed, but {_called(body)}")
    value = body.value
    for edit in edits:
        _apply(edit, value, edit.steps, _rest_names(side))
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _called(body: Body) -> str:
    return {"empty": "empty", "text": "text", "binary": "bytes"}.get(body.kind, body.kind)


def _edited_messages(side: Side, edits: Collection[Edit]) -> bytes:
    method, texts = described(side)
    messages = [exact_json(text) for text in texts]
    for edit in edits:
        at, steps = _message_of(edit, len(messages))
        _apply(edit, messages[at], steps, lambda path: _proto_names(method.input_type, path))
    wires = [to_message(json.dumps(message).encode(), method.input_type) for message in messages]
    return bytes(join(frame((wire,) for wire in wires)))


def _message_of(edit: Edit, count: int) -> tuple[int, tuple[_Step, ...]]:
    first = edit.steps[0]
    if isinstance(first, int):
        if first >= count:
            raise ValueError(f"{edit.text!r}: the call has {count} messages, the first is [0]")
        return first, edit.steps[1:]
    if count != 1:
        raise ValueError(f"{edit.text!r}: the call has {count} messages; say which, as in [0].{edit.text}")
    return 0, edit.steps


def _apply(edit: Edit, root: Any, steps: tuple[_Step, ...], names: _Names) -> None:
    value = root
    for number, step in enumerate(steps):
        is_last = number == len(steps) - 1
        _check(edit, value, steps[:number], step, names)
        if is_last:
            _set(value, step, edit.value)
            return
        if isinstance(value, dict):
            value = value.setdefault(step, [] if isinstance(steps[number + 1], int) else {})
        else:
            value = value[step]


def _check(edit: Edit, value: Any, before: tuple[_Step, ...], step: _Step, names: _Names) -> None:
    where = _path(before) or "the request"
    if isinstance(step, int):
        if not isinstance(value, list):
            raise ValueError(f"{edit.text!r}: {where} is no list")
        if step >= len(value):
            raise ValueError(f"{edit.text!r}: {where} has {len(value)} items, the first is [0]")
    elif not isinstance(value, dict):
        raise ValueError(f"{edit.text!r}: {where} has no fields")
    else:
        known = names(before)
        if known is not None and step not in known and step not in value:
            there = {*known, *value}
            near = suggestion(step, there) or f"; there are {', '.join(sorted(there))}"
            raise ValueError(f"{edit.text!r}: {where} has no field {step!r}{near}")


def _set(value: Any, step: Any, new: Any) -> None:
    if new is not _REMOVED:
        value[step] = new
    elif isinstance(value, list):
        del value[step]
    else:
        value.pop(step, None)


def _path(steps: tuple[_Step, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _proto_names(descriptor: Descriptor, path: tuple[_Step, ...]) -> Collection[str] | None:
    """None in maps, whose keys are free, and in messages whose JSON is not made of their fields."""
    current: Descriptor | None = descriptor
    at_key = False
    for step in path:
        if isinstance(step, int):
            continue
        if at_key:  # the key of a map
            at_key = False
            continue
        field = _field(current, step)
        if field is None or field.message_type is None:
            return None
        current = field.message_type
        if current.GetOptions().map_entry:
            current, at_key = current.fields_by_name["value"].message_type, True
    if current is None or at_key or current.full_name.startswith("google.protobuf."):
        return None
    return list(current.fields_by_name)


def _field(descriptor: Descriptor | None, name: str) -> FieldDescriptor | None:
    if descriptor is None:
        return None
    found = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
    return found if isinstance(found, FieldDescriptor) else None


def _rest_names(side: Side) -> _Names:
    method = method_of(side)
    if method is not None:  # called with JSON, as Connect does
        return lambda path: _proto_names(method.input_type, path)
    match = find_endpoint("rest", side.asked.method, side.asked.target)
    if match is None:
        return lambda path: None
    places = known_places(match.api.name, match.endpoint.name, "rest")

    def names(path: tuple[_Step, ...]) -> Collection[str] | None:
        shown = re.sub(r"\[[0-9]+\]", "[]", _path(path))
        before = f"{shown}." if shown else ""
        rest = [place.removeprefix(before) for place in places if place.startswith(before)]
        if not rest and any(place in (shown, f"{shown}[]") for place in places):
            return None  # the spec takes all that stands there as it is
        return {re.split(r"[.\[]", place)[0] for place in rest}

    return names
