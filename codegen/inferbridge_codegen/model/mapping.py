"""Links the lines of one side of a binding: both ends of every line are found and their types compared.

A line is `wire place: field of the operation`. Places under one list (`inputs[].name`) form a group, which must map
that list to one list of the operation. Whatever no line mentions, on either end, is kept as unmapped, so that the
generated code can refuse or report it when it is set.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from inferbridge_codegen.model.types import Field, Group, Leaf, Side, Struct
from inferbridge_codegen.model.wire_view import WirePlace, WireView
from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.documents import PARAMETERS, LineDocument, SideDocument

CONVERTERS: Mapping[str, str] = {
    "model_state": "string",
    "optional_text": "string",
    "text_or_list": "any",
    "prompt_texts": "any",
    "text_if_text": "any",
    "json_text": "string",
    "json_format": "enum",
    "embedding": "any",
    "encoder_decoder": "enum",
    "serving": "enum",
    "negated": "bool",
    "score_objects": "any",
    "text_documents": "any",
}
"""Named pairs in `inferbridge.bridge.converters`, with the type they work on."""
CONVERTER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "model_state": ("string",),
    "optional_text": ("string",),
    "text_or_list": ("list<string>",),
    "prompt_texts": ("list<string>",),
    "text_if_text": ("string",),
    "json_text": ("any",),
    "json_format": ("optional<bool>",),
    "embedding": ("list<double>",),
    "encoder_decoder": ("bool",),
    "serving": ("bool",),
    "negated": ("optional<bool>",),
    "score_objects": ("list<double>",),
    "text_documents": ("list<any>",),
}
"""Types of the operation's fields that they give and take."""
PATH = "path."


@dataclass(slots=True)
class _Lines:
    """The lines at one level: of the message itself, or of a list's items (`[]` removed from both ends)."""

    leaves: list[Leaf] = field(default_factory=list)
    wires: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class SideContext:
    """What the lines of one side may mention."""

    view: WireView | None
    struct: Struct
    request: Struct
    """For `echo`."""
    types: Mapping[str, Struct]
    variables: tuple[str, ...]
    problems: Problems


def link_side(document: SideDocument, context: SideContext, is_list: bool) -> Side:
    """The linked side; problems are collected, and a side with problems may be incomplete."""
    top, lists = _split(document.lines)
    own = _Lines()
    places = context.view.places() if context.view and not is_list else {}
    for line in top:
        _link_leaf(line, own, context, places, context.struct, line.wire, line.field)
    groups = [_link_group(lines, own, context, is_list) for lines in lists.values()]
    _check_variables(document, own, context)
    _check_raw(document, places, context.problems)
    status = _status_field(document, context)
    if status:
        own.fields.add(status)
    return Side(
        context.view.class_name if context.view else "",
        is_list,
        tuple(own.leaves),
        tuple(group for group in groups if group),
        _unmapped_wire(places, own.wires),
        _unmapped_fields(context.struct, own.fields),
        status,
        document.text,
        next((line.raw for line in document.lines if line.raw), ""),
    )


def _split(lines: Iterable[LineDocument]) -> tuple[list[LineDocument], dict[str, list[LineDocument]]]:
    top: list[LineDocument] = []
    lists: dict[str, list[LineDocument]] = {}
    for line in lines:
        if "[]." in line.wire:
            lists.setdefault(line.wire.partition("[].")[0], []).append(line)
        else:
            top.append(line)
    return top, lists


def _unmapped_wire(places: Mapping[str, WirePlace], mapped: set[str]) -> tuple[Field, ...]:
    return tuple(place.field for name, place in places.items() if name not in mapped)


def _unmapped_fields(struct: Struct, mapped: set[str]) -> tuple[Field, ...]:
    return tuple(item for item in struct.fields if item.name not in mapped)


def _status_field(document: SideDocument, context: SideContext) -> str:
    if not document.status_field:
        return ""
    mark = document.status_mark or document.mark
    found = _field(context.struct, document.status_field, mark, context.problems)
    if found and str(found.type) != "bool":
        context.problems.add(mark, f"status needs a bool field, {found.name} is {found.type}")
    return document.status_field if found else ""


def _check_raw(document: SideDocument, places: Mapping[str, WirePlace], problems: Problems) -> None:
    """`raw` names the message's list of bytes that holds the tensors' elements."""
    for line in document.lines:
        kind = places[line.raw].kind if line.raw in places else "no field"
        if line.raw and kind != "list<bytes>":
            names = [name for name, place in places.items() if place.kind == "list<bytes>"]
            problems.add(
                line.field_mark, f"raw {line.raw!r} must be a list<bytes>, it is {kind}{suggestion(line.raw, names)}"
            )


def _check_tensor(lines: list[LineDocument], group: Group, problems: Problems) -> None:
    """A tensor's elements cannot be read without its other fields."""
    tensor = next((leaf for leaf in group.leaves if leaf.kind == "tensor"), None)
    for name in ("name", "datatype", "shape", "parameters") if tensor else ():
        if group.leaf(name) is None:
            problems.add(lines[0].wire_mark, f"{group.wire}[] has a tensor, so its {name!r} must be mapped too")
    if tensor is not None and tensor.factory and not any(line.raw for line in lines):
        problems.add(lines[0].wire_mark, f"{group.wire}[].{tensor.wire} needs `raw`, the list of raw elements")


def _check_variables(document: SideDocument, own: _Lines, context: SideContext) -> None:
    mapped = {leaf.key for leaf in own.leaves if leaf.kind == "variable"}
    for name in context.variables:
        if name not in mapped:
            context.problems.add(document.mark, f"path variable {name!r} is not mapped; add a line path.{name}: …")


def _link_group(lines: list[LineDocument], own: _Lines, context: SideContext, is_list: bool) -> Group | None:
    first = lines[0]
    wire = first.wire.partition("[].")[0]
    place = _list_place(first, wire, context, is_list)
    target = _list_target(lines, context)
    if place is None or target is None or place.item is None:
        return None
    own.wires.add(wire)
    own.fields.add(target.name)
    items = _Lines()
    struct = context.types[target.type.base]
    places = place.item.places()
    for line in lines:
        wire_name, field_name = line.wire.partition("[].")[2], line.field.partition("[].")[2]
        _link_leaf(line, items, context, places, struct, wire_name, field_name, title=place.item.title)
    group = Group(
        wire,
        place.item.class_name,
        target,
        struct.name,
        tuple(items.leaves),
        _unmapped_wire(places, items.wires),
        _unmapped_fields(struct, items.fields),
        place.field.required,
        place.field.always,
    )
    _check_tensor(lines, group, context.problems)
    return group


def _list_place(line: LineDocument, wire: str, context: SideContext, is_list: bool) -> WirePlace | None:
    if context.view is None:
        context.problems.add(line.wire_mark, f"{line.wire}: this side has no body")
        return None
    if is_list != (wire == ""):
        form = "[].field, the body is an array" if is_list else "field[].field, the body is an object"
        context.problems.add(line.wire_mark, f"{line.wire}: write {form}")
        return None
    if is_list:
        return WirePlace("", "list<message>", context.struct.fields[0], context.view)
    place = _place(line, wire, context.view.places(), context.view.title, context.problems)
    if place is not None and place.kind != "list<message>":
        context.problems.add(line.wire_mark, f"{wire} is {place.kind}, not a list of messages")
        return None
    return place


def _list_target(lines: list[LineDocument], context: SideContext) -> Field | None:
    names = {line.field.partition("[].")[0] for line in lines}
    first = lines[0]
    for line in lines:
        if "[]." not in line.field:
            context.problems.add(line.field_mark, f"{line.wire} is in a list but {line.field or 'its field'} is not")
            return None
        if line.field.partition("[].")[0] != first.field.partition("[].")[0]:
            context.problems.add(
                line.field_mark,
                f"the list {line.wire.partition('[].')[0]} maps to two lists: {', '.join(sorted(names))}",
            )
            return None
    target = _field(context.struct, first.field.partition("[].")[0], first.field_mark, context.problems)
    if target is not None and (not target.type.is_list or target.type.base not in context.types):
        context.problems.add(first.field_mark, f"{target.name} is {target.type}, not a list of a declared type")
        return None
    return target


def _link_leaf(
    line: LineDocument,
    lines: _Lines,
    context: SideContext,
    places: Mapping[str, WirePlace],
    struct: Struct,
    wire: str,
    target: str,
    title: str = "",
) -> None:
    if wire in lines.wires or wire in {f"{leaf.wire}.{leaf.key}" for leaf in lines.leaves}:
        context.problems.add(line.wire_mark, f"{line.wire} is mapped twice")
        return
    if wire.startswith(PATH) and context.variables:
        _link_variable(line, lines, context, struct, wire.removeprefix(PATH), target)
        return
    name, _, key = wire.partition(".")
    if context.view is None:
        context.problems.add(line.wire_mark, f"{line.wire}: this side has no body")
        return
    place = _place(line, name, places, title or context.view.title, context.problems)
    if place is None:
        return
    if not key:
        lines.wires.add(name)
    if line.constant is not None:
        _link_constant(line, lines, context, place)
        return
    source = context.request if line.echo else struct
    found = _field(source, target, line.field_mark, context.problems)
    if found is None:
        return
    if not line.alias and not line.echo:
        if found.name in lines.fields:
            context.problems.add(line.field_mark, f"field {found.name} is mapped twice")
        lines.fields.add(found.name)
    kind = _check_types(line, place, key, found, context.problems)
    if kind:
        lines.leaves.append(
            Leaf(
                kind,
                name,
                found,
                place.field.required,
                place.field.always,
                key,
                line.converter,
                line.alias,
                line.echo,
                None,
                place.factory,
                place.shape.number,
            )
        )


def _link_constant(line: LineDocument, lines: _Lines, context: SideContext, place: WirePlace) -> None:
    if place.kind != "bool":
        context.problems.add(line.wire_mark, f"{line.wire} is {place.kind}; a constant is a bool")
        return
    lines.leaves.append(Leaf("constant", place.name, place.field, constant=bool(line.constant)))


def _link_variable(
    line: LineDocument, lines: _Lines, context: SideContext, struct: Struct, name: str, target: str
) -> None:
    if name not in context.variables:
        hint = suggestion(name, context.variables)
        context.problems.add(line.wire_mark, f"no path of this binding has a variable {name!r}{hint}")
        return
    found = _field(struct, target, line.field_mark, context.problems)
    if found is None:
        return
    if str(found.type) != "string":
        context.problems.add(line.field_mark, f"a path variable is a string, {found.name} is {found.type}")
        return
    lines.fields.add(found.name)
    lines.leaves.append(Leaf("variable", "", found, key=name))


def _place(
    line: LineDocument, name: str, places: Mapping[str, WirePlace], title: str, problems: Problems
) -> WirePlace | None:
    place = places.get(name)
    if place is None:
        problems.add(line.wire_mark, f"{title} has no field {name!r}{suggestion(name, places)}")
    return place


def _field(struct: Struct, name: str, mark: Mark, problems: Problems) -> Field | None:
    found = next((item for item in struct.fields if item.name == name), None)
    if found is None:
        names = [item.name for item in struct.fields]
        problems.add(mark, f"{struct.name} has no field {name!r}{suggestion(name, names)}")
    return found


def _check_types(line: LineDocument, place: WirePlace, key: str, found: Field, problems: Problems) -> str:
    """The leaf's kind, or "" after reporting what does not fit."""
    if key:
        if place.kind != PARAMETERS or str(found.type) not in {"bool", "optional<bool>"}:
            problems.add(line.wire_mark, f"{line.wire}: only a bool entry of a map<parameter> can be lifted out")
            return ""
        return "key"
    if line.converter and CONVERTERS.get(line.converter) != place.kind:
        known = f"no converter {line.converter!r} for {place.kind}{suggestion(line.converter, CONVERTERS)}"
        problems.add(line.wire_mark, known)
        return ""
    wanted = found.type.base if found.type.is_optional else str(found.type)
    if place.kind != wanted:
        problems.add(line.wire_mark, f"{line.wire} is {place.kind} but {found.name} is {found.type}")
        return ""
    return {PARAMETERS: "parameters", "tensor": "tensor"}.get(place.kind, "value")
