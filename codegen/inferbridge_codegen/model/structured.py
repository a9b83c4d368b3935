"""Links the lines of a structured side into a `Tree`: every place and field is found and their types compared.

Both ends of a line are dotted paths. On the wire `a.b` is a field of a single message, `a[].b` of the messages in a
list. In the operation `x[].y` is a field of a list's items, `x.y` of an optional struct, `x[0].y` of a one-item list.
Lines are sorted level by level: what starts with `a[].` makes the items of `a`, what starts with `a.` the message `a`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from inferbridge_codegen.model.checks import (
    check_absent,
    check_default,
    check_one_line_each,
    check_special_line,
    check_value_line,
    is_literal,
)
from inferbridge_codegen.model.mapping import CONVERTERS
from inferbridge_codegen.model.tree import Items, Message, Part, Special, Target, Tree, Value
from inferbridge_codegen.model.types import Field, Struct
from inferbridge_codegen.model.wire_view import SchemaView, Shape, WirePlace, WireView
from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.documents import EnumTableDocument, LineDocument, SideDocument, TypeRef

_FITTING = {
    "string": {"string"},
    "bool": {"bool"},
    "integer": {"int64", "uint64"},
    "float32": {"double"},
    "double": {"double"},
    "bytes": {"bytes"},
    "any": {"any"},
    "struct": {"any"},
    "value": {"any"},
    "strings": {"any"},
}
"""Types of the operation that a kind on the wire carries as it is."""


@dataclass(frozen=True, slots=True)
class TreeContext:
    """What the lines of one side may mention."""

    view: WireView | None
    struct: Struct
    request: Struct
    """For `echo`."""
    types: Mapping[str, Struct]
    enums: Mapping[str, tuple[str, ...]]
    tables: Mapping[str, EnumTableDocument]
    variables: tuple[str, ...]
    specials: tuple[str, ...]
    """Places outside of the body that the binding has."""
    problems: Problems


@dataclass(frozen=True, slots=True)
class _Line:
    """A line at one level: the steps still to go on both ends."""

    document: LineDocument
    wire: tuple[str, ...]
    field: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scope:
    """The struct that the fields of some lines are seen from, and how it is reached from the operation's."""

    struct: Struct
    path: tuple[str, ...] = ()

    def within(self, name: str, struct: Struct) -> "_Scope":
        """The struct of one of its fields."""
        return _Scope(struct, (*self.path, name))


def link_tree(document: SideDocument, context: TreeContext, is_list: bool) -> Tree:
    """The linked side; problems are collected, and a side with problems may be incomplete."""
    linker = _Linker(context, document)
    specials, lines = [], []
    for line in document.lines:
        place, _, name = line.wire.partition(".")
        if place in context.specials and name:
            special = linker.special(line, place, name)
            specials += [special] if special else []
        else:
            lines.append(_Line(line, _steps(line.wire), _steps(line.field)))
    linker.check_variables(specials)
    is_request = context.struct is context.request
    check_one_line_each(document.lines, context.problems)
    for line in document.lines:
        check_default(line, context.struct, context.enums, is_request, context.problems)
        if line.absent:
            check_absent(line, context.struct, context.problems)
    body = None
    if context.view is None:
        for homeless in lines:
            wire = homeless.document.wire
            context.problems.add(homeless.document.wire_mark, f"{wire}: this side has no body")
    elif is_list:
        body = linker.array(lines, context.view)
    else:
        body = linker.message("", "", lines, context.view, _Scope(context.struct))
    defaults = tuple((line.field, line.default) for line in document.lines if line.default is not None)
    scope = _Scope(context.struct)
    return Tree(body, is_list, tuple(specials), linker.unmapped(scope), defaults, linker.parts(scope))


def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


class _Linker:
    """Links one side."""

    def __init__(self, context: TreeContext, document: SideDocument) -> None:
        self._context = context
        self._problems = context.problems
        self._document = document
        self._mapped: dict[tuple[str, ...], set[str]] = {}
        self._parts: dict[tuple[str, ...], tuple[_Scope, Target]] = {}
        if document.status_field:
            self.map(_Scope(context.struct), document.status_field)

    def map(self, scope: _Scope, name: str) -> None:
        """Note that some line carries this field."""
        self._mapped.setdefault(scope.path, set()).add(name)

    def unmapped(self, scope: _Scope) -> tuple[Field, ...]:
        """Fields of a struct that no line carries."""
        mapped = self._mapped.get(scope.path, set())
        return tuple(field for field in scope.struct.fields if field.name not in mapped)

    def parts(self, scope: _Scope) -> tuple[Part, ...]:
        """The optional structs and only items in a struct of which something is not carried."""
        found = [each for path, each in self._parts.items() if path[:-1] == scope.path]
        made = [Part(target.owner, target.single, self.unmapped(inner)) for inner, target in found if target.owner]
        return tuple(part for part in made if part.unmapped)

    # outside of the body

    def special(self, line: LineDocument, place: str, name: str) -> Special | None:
        """A path variable, query parameter, header or metadata entry."""
        if place == "path" and name not in self._context.variables:
            hint = suggestion(name, self._context.variables)
            self._problems.add(line.wire_mark, f"no path of this binding has a variable {name!r}{hint}")
            return None
        check_special_line(line, self._problems)
        target = self._target(line, _Scope(self._context.struct), _steps(line.field))
        if target is None:
            return None
        kinds = {"string", "list<string>"} if place == "query" else {"string"}
        if str(target.field.type) not in kinds or len(target.path) > 1 or target.single:
            message = f"a {place} value is a {' or '.join(sorted(kinds, reverse=True))} of the request"
            self._problems.add(line.field_mark, f"{message}, {line.field} is {target.field.type}")
            return None
        return Special(place, name, target)  # type: ignore[arg-type]  # one of SPECIALS

    def check_variables(self, specials: Sequence[Special]) -> None:
        """Every path variable is mapped."""
        mapped = {special.name for special in specials if special.place == "path"}
        for name in self._context.variables:
            if name not in mapped:
                message = f"path variable {name!r} is not mapped; add a line path.{name}: …"
                self._problems.add(self._document.mark, message)

    # messages

    def array(self, lines: list[_Line], view: WireView) -> Message | None:
        """A body that is a JSON array."""
        for line in lines:
            if line.wire[0] != "[]":
                message = f"{line.document.wire}: write [].field, the body is an array"
                self._problems.add(line.document.wire_mark, message)
                return None
        place = WirePlace("", "list<message>", self._context.struct.fields[0], view)
        items = self._items("[]", lines, place, _Scope(self._context.struct))
        return Message("", "", view.class_name, (), (), (items,) if items else (), ())

    def message(self, wire: str, label: str, lines: list[_Line], view: WireView, scope: _Scope) -> Message:
        """A message whose fields go to the struct of `scope`."""
        places = view.places()
        own, nested, lists = self._sorted(lines, places, view)
        values = [value for line in own if (value := self._value(line, places, scope))]
        messages = [self._nested(name, group, places[name], scope) for name, group in nested.items()]
        items = [made for name, group in lists.items() if (made := self._items(name, group, places[name], scope))]
        used = {line.wire[0] for line in own} | set(nested) | set(lists)
        unmapped = tuple(place.field for name, place in places.items() if name not in used)
        unions = _unions(place for name, place in places.items() if name in used)
        messages = _alternatives(messages, unions)
        return Message(
            wire, label, view.class_name, tuple(values), tuple(messages), tuple(items), unmapped, unions=unions
        )

    def _sorted(
        self, lines: list[_Line], places: Mapping[str, WirePlace], view: WireView
    ) -> tuple[list[_Line], dict[str, list[_Line]], dict[str, list[_Line]]]:
        own: list[_Line] = []
        nested: dict[str, list[_Line]] = {}
        lists: dict[str, list[_Line]] = {}
        seen: set[str] = set()
        for line in lines:
            name = line.wire[0].removesuffix("[]").removesuffix("[0]")
            place = places.get(name)
            if place is None:
                message = f"{view.title} has no field {name!r}{suggestion(name, places)}"
                self._problems.add(line.document.wire_mark, message)
            elif line.wire[0].endswith("[]"):
                if self._is(place, "list<message>", line) and self._goes_on(line):
                    lists.setdefault(name, []).append(line)
            elif line.wire[0].endswith("[0]"):
                if self._is(place, "list<message>", line):
                    nested.setdefault(name, []).append(line)
            elif len(line.wire) > 1:
                if self._is(place, "message", line):
                    nested.setdefault(name, []).append(line)
            elif name in seen:
                self._problems.add(line.document.wire_mark, f"{line.document.wire} is mapped twice")
            else:
                seen.add(name)
                own.append(line)
        return own, nested, lists

    def _is(self, place: WirePlace, kind: str, line: _Line) -> bool:
        if place.kind == kind and place.item is not None:
            return True
        wanted = "a list of messages" if kind.startswith("list") else "a message"
        self._problems.add(line.document.wire_mark, f"{place.name} is {place.kind}, not {wanted}")
        return False

    def _goes_on(self, line: _Line) -> bool:
        if len(line.wire) > 1:
            return True
        self._problems.add(line.document.wire_mark, f"{line.document.wire}: name a field of its messages")
        return False

    def _nested(self, name: str, lines: list[_Line], place: WirePlace, scope: _Scope) -> Message:
        assert place.item is not None
        absent = next((line.document.absent for line in lines if line.document.absent), "")
        if absent:
            self.map(scope, absent)
        inner = [replace(line, wire=line.wire[1:]) for line in lines if not line.document.absent]
        if not place.field.required or place.kind != "message":
            self._check_optional(name, place.item, lines[0])
        made = self.message(place.attribute, name, inner, place.item, scope)
        made = replace(made, first=lines[0].wire[0].endswith("[0]"), absent=absent, required=place.field.required)
        targets = [value.target for value in made.values if value.target]
        owners = {target.owner.name for target in targets if target.owner is not None and not target.single}
        if owners and (len(owners) > 1 or any(target.owner is None for target in targets)):
            self._problems.add(
                lines[0].document.wire_mark, f"{name} mixes fields of {', '.join(sorted(owners))} with others"
            )
        return replace(made, owner=owners.pop() if len(owners) == 1 else "")

    def _check_optional(self, name: str, item: WireView, line: _Line) -> None:
        """A message that may be missing stands for one with nothing set."""
        required = next((field for field, place in item.places().items() if place.field.required), "")
        if required:
            message = f"{name} may be left out, so {required!r} in {item.title} cannot be required"
            self._problems.add(line.document.wire_mark, message)

    def _items(self, name: str, lines: list[_Line], place: WirePlace, scope: _Scope) -> Items | None:
        assert place.item is not None
        first = next((line for line in lines if line.field), lines[0])
        cut = next((at for at, step in enumerate(first.field) if step.endswith("[]")), None)
        for line in lines:
            if line.document.constant is None and (cut is None or line.field[: cut + 1] != first.field[: cut + 1]):
                problem = "is in a list but its field is not in the same one"
                self._problems.add(line.document.field_mark, f"{line.document.wire} {problem}")
                return None
        if cut is None:
            self._problems.add(first.document.wire_mark, f"{name} has no line with a field")
            return None
        path = (*first.field[:cut], first.field[cut].removesuffix("[]"))
        target = self._target(first.document, scope, path)
        if target is None or not target.field.type.is_list:
            if target is not None:
                message = f"{target.name} is {target.field.type}, not a list"
                self._problems.add(first.document.field_mark, message)
            return None
        inner = [replace(line, wire=line.wire[1:], field=line.field[cut + 1 :]) for line in lines]
        item = self._context.types.get(target.field.type.base)
        inside = scope.within(".".join(path), item or Struct("", "", (_item_of(target.field),)))
        if item is None:
            inner = [replace(line, field=(target.field.name,)) for line in inner]
        made = self.message("", name, inner, place.item, inside)
        return Items(
            place.attribute,
            name,
            made,
            target,
            item.name if item is not None else "",
            place.field.required,
            place.field.always,
            self.unmapped(inside) if item is not None else (),
            self.parts(inside),
        )

    # values

    def _target(self, line: LineDocument, scope: _Scope, path: tuple[str, ...]) -> Target | None:
        """The field that a path of one or two steps leads to."""
        name = path[0].removesuffix("[0]") if path else ""
        field = self._field(scope.struct, name, line.field_mark)
        if field is None:
            return None
        single = bool(path) and path[0].endswith("[0]")
        if not line.echo:
            self.map(scope, name)
        if single and len(path) == 1:
            return Target((name,), _item_of(field), field, True)
        if len(path) == 1:
            return Target((name,), field)
        inner = self._context.types.get(field.type.base)
        if inner is None or len(path) > 2 or field.type.is_list is not single:
            self._problems.add(line.field_mark, f"{line.field}: {name} is {field.type}, so nothing stands below it")
            return None
        leaf = self._field(inner, path[1], line.field_mark)
        if leaf is None:
            return None
        target = Target((name, leaf.name), leaf, field, single)
        part = scope.within(name, inner)
        self.map(part, leaf.name)
        self._parts[part.path] = (part, target)
        return target

    def _field(self, struct: Struct, name: str, mark: Mark) -> Field | None:
        found = next((item for item in struct.fields if item.name == name), None)
        if found is None:
            hint = suggestion(name, [item.name for item in struct.fields])
            self._problems.add(mark, f"{struct.name or 'a plain value'} has no field {name!r}{hint}")
        return found

    def _value(self, line: _Line, places: Mapping[str, WirePlace], scope: _Scope) -> Value | None:
        document = line.document
        place = places[line.wire[0]]
        shape = place.shape
        value = Value(
            place.attribute,
            place.name,
            shape.kind,
            shape.is_list,
            shape.presence,
            None,
            place.field.required,
            place.field.always,
            document.alias,
            document.echo,
            document.nullable,
            document.constant,
            document.unset,
            document.enum,
            document.unit,
            document.converter,
            self._entries(document, shape),
            document.default if document.nullable else None,
            shape.number,
        )
        if document.constant is not None:
            return value if self._is_constant(value, document) else None
        source = _Scope(self._context.request) if document.echo else scope
        target = self._target(document, source, line.field)
        if target is None or not self._fits(value, target.field.type, document):
            return None
        is_rest = isinstance(self._context.view, SchemaView)
        check_value_line(
            document,
            value.kind,
            is_list=value.is_list,
            presence=value.presence,
            is_rest=is_rest,
            declared=target.field.type,
            problems=self._problems,
        )
        return replace(value, target=target)

    def _is_constant(self, value: Value, line: LineDocument) -> bool:
        """Whether the place can hold what always stands there."""
        # an enum's number would say nothing to a reader of the spec, and its name needs a table
        if value.is_list or value.kind == "enum" or not is_literal(line.constant, value.kind):
            self._problems.add(line.wire_mark, f"{line.wire} is {value.kind}, the constant {line.constant!r} is not")
            return False
        return True

    def _entries(self, line: LineDocument, shape: Shape) -> tuple[tuple[str | int, str], ...]:
        """The enum table of a line in the wire's own values."""
        table = self._context.tables.get(line.enum)
        if table is None:
            return ()
        numbers = dict(shape.numbers)
        entries: list[tuple[str | int, str]] = []
        for name, neutral, mark in table.values:
            if shape.kind == "enum" and name not in numbers:
                self._problems.add(mark, f"{line.wire} has no value {name!r}{suggestion(name, numbers)}")
            else:
                entries.append((numbers.get(name, name), neutral))
        return tuple(entries)

    def _fits(self, value: Value, declared: TypeRef, line: LineDocument) -> bool:
        if line.converter:
            if CONVERTERS.get(line.converter) == value.kind:
                return True
            self._problems.add(
                line.wire_mark,
                f"no converter {line.converter!r} for {value.kind}{suggestion(line.converter, CONVERTERS)}",
            )
            return False
        if line.enum or declared.base in self._context.enums:
            return self._fits_enum(line, declared)
        if line.unit:
            return self._expect(
                value.kind in {"integer", "float32", "double"} and declared.base == "double", value, declared, line
            )
        fits = declared.base in _FITTING.get(value.kind, ()) and value.is_list is declared.is_list
        return self._expect(fits, value, declared, line)

    def _expect(self, fits: bool, value: Value, declared: TypeRef, line: LineDocument) -> bool:
        if not fits:
            wire = f"list<{value.kind}>" if value.is_list else value.kind
            self._problems.add(line.wire_mark, f"{line.wire} is {wire} but {line.field} is {declared}")
        return fits

    def _fits_enum(self, line: LineDocument, declared: TypeRef) -> bool:
        table = self._context.tables.get(line.enum)
        if table is None:
            reason = (
                f"no enum table {line.enum!r}{suggestion(line.enum, self._context.tables)}"
                if line.enum
                else (f"{line.field} is an enum, so the line needs `enum`, the table of its values")
            )
            self._problems.add(line.wire_mark, reason)
            return False
        if table.of != declared.base:
            self._problems.add(line.field_mark, f"table {table.name} is of {table.of}, {line.field} is {declared}")
            return False
        return True


def _unions(places: Iterable[WirePlace]) -> tuple[tuple[str, ...], ...]:
    """Members of one oneof, of those with more than one mapped."""
    members: dict[str, list[str]] = {}
    for place in places:
        members.setdefault(place.union, []).append(place.attribute)
    return tuple(tuple(names) for union, names in members.items() if union and len(names) > 1)


def _alternatives(messages: Sequence[Message], unions: Sequence[Sequence[str]]) -> list[Message]:
    """Where members of a union hold one list of numbers, as floats and doubles, both are written, as they fit."""
    made = list(messages)
    for names in unions:
        lists = [each for each in made if each.wire in names and len(each.values) == 1 and each.values[0].is_list]
        single = next((each for each in lists if each.values[0].kind == "float32"), None)
        double = next((each for each in lists if single is not None and _is_double(each, single)), None)
        if single is not None and double is not None:
            made.remove(double)
            values = (replace(double.values[0], alias=False),)
            at = made.index(single)
            made[at : at + 1] = [replace(single, floats="single"), replace(double, floats="double", values=values)]
    return made


def _is_double(message: Message, single: Message) -> bool:
    """Whether it holds the numbers of `single` as doubles."""
    value = message.values[0]
    return value.kind == "double" and value.alias and value.target == single.values[0].target


def _item_of(field: Field) -> Field:
    return replace(field, type=TypeRef(field.type.base, False, False, field.type.mark))
