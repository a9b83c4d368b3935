"""Renders the reading and writing of a structured side (`model.tree`): statements first, then one expression.

Reading binds a local for each single message within the body (`in_params`), which is an empty message where it is
missing, so that every value is an attribute of a local. Writing nests the constructors the other way round. The items
of a list have a function of their own, `_read_<side>_<list>` and `_write_<side>_<list>`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from inferbridge_codegen.model.tree import Items, Message, Part, Special, Target, Tree, Value
from inferbridge_codegen.model.types import Field, class_name
from inferbridge_codegen.model.wire_view import json_attribute, python_attribute
from inferbridge_codegen.render.lines import Lines, call, indented, literal, wrapped

_ZEROS = {
    "string": '""',
    "bool": "False",
    "integer": "0",
    "float32": "0.0",
    "double": "0.0",
    "bytes": 'b""',
    "enum": "0",
}
_FALSE = frozenset({'""', "0", "False", "[]"})
"""Defaults that may stand for what is false as well, for there is but one such value of their type."""
_MS = 1000
_JSON_READERS = {"struct": "read_struct", "value": "read_value"}
_JSON_WRITERS = {"struct": "write_struct", "value": "write_value", "strings": "write_strings"}


@dataclass(slots=True)
class Helper:
    """A function for the items of a list."""

    head: str
    returns: str
    doc: str
    body: Lines


@dataclass(slots=True)
class Structured:
    """Renders one side of one binding; collects the helpers and constants that its statements use."""

    side: str
    """Prefix of its helpers, such as `generate_rest_request`."""
    is_rest: bool
    is_request: bool
    operation_class: str
    helpers: list[Helper] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Generated module of the wire's classes."""
        return "schemas" if self.is_rest else "wire"

    # reading

    def read(self, tree: Tree, body: str) -> Lines:
        """Statements that return the neutral value of the message in the local `body`."""
        lines: Lines = []
        arguments: list[Lines] = [[f"{s.target.path[0]}={self._read_special(s)}"] for s in tree.specials]
        if tree.body is not None:
            lines, inside = self._read_message(tree.body, body)
            arguments += inside
        made = call(f"operations.{self.operation_class}", arguments)
        return [*lines, f"return {made[0]}", *made[1:]]

    def _read_message(self, message: Message, name: str) -> tuple[Lines, list[Lines]]:
        """Statements, and the arguments of the struct that the message and those in it make."""
        locals_, places = self._locals(message, name)
        lines = list(locals_)
        reads: dict[str, list[str]] = {}
        owned: dict[str, dict[str, list[str]]] = {}
        single: dict[str, dict[str, list[str]]] = {}
        arguments: list[Lines] = []
        for inner, place in places:
            lines += self._refuse_unmapped(inner, place)
            for value in inner.values:
                if value.target is None or value.echo:
                    lines += self._demand(value, place)
                    continue
                self._sort(value.target, self._read_value(value, place), reads, owned, single)
            for items in inner.items:
                expression = self._read_items(items, place)
                if items.target.single:
                    single.setdefault(items.target.path[0], {})[items.target.path[1]] = [expression]
                else:
                    arguments.append([f"{items.target.path[0]}={expression}"])
        arguments += [[f"{inner.absent}=not {name}.{inner.wire}"] for inner in message.messages if inner.absent]
        arguments += [[f"{target}={_first(found)}"] for target, found in reads.items()]
        arguments += self._read_owned(owned, places)
        arguments += [
            _read_single(target, found, self._item_class(message, target)) for target, found in single.items()
        ]
        return lines, arguments

    def _sort(
        self,
        target: Target,
        expression: str,
        reads: dict[str, list[str]],
        owned: dict[str, dict[str, list[str]]],
        single: dict[str, dict[str, list[str]]],
    ) -> None:
        if target.owner is None:
            reads.setdefault(target.path[0], []).append(expression)
        else:
            group = single if target.single else owned
            group.setdefault(target.path[0], {}).setdefault(target.path[-1], []).append(expression)

    def _locals(self, message: Message, name: str) -> tuple[Lines, list[tuple[Message, str]]]:
        """A local for each message within; and all of them with their local, the outermost first."""
        lines: Lines = []
        places = [(message, name)]
        for inner in message.messages:
            # two underscores: `a.b` must not meet a field that is called `a_b`
            local = f"{name}__{inner.label}" if name.startswith("in_") else f"in_{inner.label}"
            place = f"{name}.{inner.wire}"
            if inner.first:
                lines.append(f'{local} = structured.alone({place}, {self._empty(inner)}, "{inner.label}", context)')
            elif inner.required:
                lines.append(f"{local} = {place}")
            else:
                lines.append(f"{local} = {place} or {self._empty(inner)}")
            more, deeper = self._locals(inner, local)
            lines += more
            places += deeper
        return lines, places

    def _empty(self, message: Message) -> str:
        constant = f"_NO_{self.module.upper()}_{message.wire_class}"
        self.constants[constant] = f"{self.module}.{message.wire_class}()"
        return constant

    def _refuse_unmapped(self, message: Message, place: str) -> Lines:
        names = [field for field in message.unmapped if field.loss != "ignore"]
        if not names:
            return []
        if self.is_rest and self.is_request:
            treat = "lose_given"  # where JSON says a value, it is meant: false and 0 as well
            pairs = [f'("{each.name}", {place}.{json_attribute(each.name)}, {literal(each.off)}),' for each in names]
        else:
            # a runtime's JSON grows by version: what is declared and not mapped is treated as what is not known
            treat = "note_set" if self.is_rest else "lose_set"
            said = "".join(f'"{each.name}", ' for each in names)
            values = "".join(f"{place}.{_attribute(each, self.is_rest)}, " for each in names)
            return [f"structured.{treat}(({said}), ({values}), context)"]
        return [f"structured.{treat}(", "    (", *indented(indented(pairs)), "    ),", "    context,", ")"]

    def _demand(self, value: Value, place: str) -> Lines:
        if self.is_rest or not isinstance(value.constant, bool):
            return []
        return [f'grpc.demand("{value.label}", {place}.{value.wire}, {value.constant})']

    def _read_owned(self, owned: dict[str, dict[str, list[str]]], places: list[tuple[Message, str]]) -> Iterator[Lines]:
        for owner, fields in owned.items():
            holder = next(place for message, place in places if message.owner == owner)
            struct = _class_of(places, owner)
            made = ", ".join(f"{name}={_first(found)}" for name, found in fields.items())
            empty = next(self._empty(message) for message, _ in places if message.owner == owner)
            yield [f"{owner}=None", f"if {holder} is {empty}", f"else operations.{struct}({made})"]

    def _read_value(self, value: Value, place: str) -> str:
        assert value.target is not None
        raw = f"{place}.{value.wire}"
        if value.converter:
            return f"converters.{value.converter}_from_wire({raw})"
        if value.entries:
            entries = {literal(wire): literal(neutral) for wire, neutral in reversed(value.entries)}
            table = self._table(value, "IN", entries)
            said = self._said(raw, value.unset) if value.unset is not None else raw
            return f'structured.named({table}, {said}, "{value.label}", context)'
        if value.is_list and value.kind in {"float32", "double"} and not self.is_rest:
            return f'structured.floats({raw}, "{"f" if value.kind == "float32" else "d"}")'
        if value.kind in _JSON_READERS:
            return f"json_messages.{_JSON_READERS[value.kind]}{'s' if value.is_list else ''}({raw})"
        if value.unset is not None:
            raw = self._said(raw, value.unset)
        elif value.default is not None:
            raw = f"structured.left_out({raw}, {literal(value.default)})"
        elif self._needs_default(value):
            raw = self._given(raw, value.target.field.default)
        if value.unit:
            return f"structured.scaled({raw}, {_MS if value.unit == 'ms' else 1})"
        return raw

    def _said(self, raw: str, unset: object) -> str:
        """What is said; None where it is the value that means "not said"."""
        if not unset:  # the other values that are false say nothing either
            return f"{raw} or None"
        plain = self._given(raw, "None") if self.is_rest else raw
        return f"structured.said({plain}, {literal(unset)})"

    def _given(self, raw: str, default: str) -> str:
        """A value, or its default where it is missing."""
        if default in _FALSE:
            return f"{raw} or {default}"
        return f"structured.given({raw}, {default})" if self.is_rest or default != "None" else raw

    def _needs_default(self, value: Value) -> bool:
        return (self.is_rest and not value.required) or (value.presence and not value.is_list and not self.is_rest)

    def _table(self, value: Value, direction: str, entries: dict[str, str]) -> str:
        assert value.target is not None
        name = f"_{value.enum.upper()}_{self.module.upper()}_{direction}"
        wire = "int" if value.kind == "enum" else "str"
        neutral = f"operations.{class_name(value.target.field.type.base)}"
        kind = f"dict[{wire}, {neutral}]" if direction == "IN" else f"dict[str, {wire}]"
        lines = ", ".join(f"{key}: {text}" for key, text in entries.items())
        self.constants[f"{name}: {kind}"] = "{" + lines + "}"
        return name

    def _read_items(self, items: Items, place: str) -> str:
        source = f"{place}.{items.wire}" if items.wire else place
        if self.is_rest and not items.required and items.wire:
            source = f"structured.given({source}, [])"
        if not items.item_class:
            value = items.message.values[0]
            return f"[item.{value.wire} for item in {source}]"
        lines, arguments = self._read_message(items.message, "item")
        made = call(f"operations.{items.item_class}", arguments)
        wire_class, item_class = f"{self.module}.{items.message.wire_class}", f"operations.{items.item_class}"
        helper = self._helper("read", items, wire_class, item_class, [*lines, f"return {made[0]}", *made[1:]])
        return f"[{helper}(item, context) for item in {source}]"

    def _helper(self, verb: str, items: Items, takes: str, gives: str, body: Lines) -> str:
        """The name of a function for the items of a list; lists that are treated alike share one."""
        label = items.label.strip("[]")
        name = f"_{verb}_{self.side}_{label or 'items'}"
        arguments = f"(item: {takes}, context: Context)"
        taken = {helper.head: helper for helper in self.helpers}
        made = Helper(f"{name}{arguments}", gives, f"One of `{label or 'the items'}`.", body)
        number = 1
        while taken.get(made.head, made) != made:
            number += 1
            made = replace(made, head=f"{name}_{number}{arguments}")
        if made.head not in taken:
            self.helpers.append(made)
        return made.head.partition("(")[0]

    def _item_class(self, message: Message, target: str) -> str:
        for inner in message.walk():
            for found in (*(value.target for value in inner.values), *(items.target for items in inner.items)):
                if found is not None and found.single and found.path[0] == target and found.owner is not None:
                    return found.owner.type.base if len(found.path) > 1 else ""
        return ""

    def _read_special(self, special: Special) -> str:
        name, declared = special.name, special.target.field
        if special.place == "path":
            return f'call.variables["{name}"]' if declared.required else f'call.variables.get("{name}", "")'
        if special.place == "query":
            values = f'rest.query(call, "{name}")'
            return values if declared.type.is_list else f'structured.first(*{values}, "")'
        where = "call.metadata" if special.place == "metadata" else "call.headers"
        return f'structured.metadata({where}, "{name}")'

    # writing

    def write(self, tree: Tree, scope: str) -> tuple[Lines, Lines]:
        """Statements, and the expression of the body for the neutral value in the local `scope`."""
        lines = [*self._lose(tree.unmapped_fields, scope, ""), *self._lose_parts(tree.parts, scope, "")]
        lines += self._quirks(tree) if self.is_request else []
        if tree.body is None:
            return lines, []
        singles = sorted({target.path[0] for target in _targets(tree.body) if target.single})
        for name in singles:
            lines.append(f'only_{name} = structured.only({scope}.{name}, "{name}", context)')
        return lines, self._write_message(tree.body, scope)

    def _quirks(self, tree: Tree) -> Lines:
        """Values that not every runtime takes, checked once."""
        own = [value.target for value in tree.body.values if value.target is not None] if tree.body else []
        fields = {target.field.name: target.field for target in (*(s.target for s in tree.specials), *own)}
        return [
            f'sent_{name} = quirks.{declared.quirk}(request.{name}, "{name}", context)'
            for name, declared in fields.items()
            if declared.quirk
        ]

    def _lose(self, fields: Iterable[Field], scope: str, prefix: str) -> Lines:
        lines: Lines = []
        for declared in fields:
            if declared.loss == "ignore":
                continue
            place = f"{scope}.{declared.name}"
            name = f"{prefix}{declared.name}"
            act = f'context.lose("{name}", "the other side has no place for it")'
            lines += [
                f"if {_is_set(declared, place)}:",
                f"    {act if declared.loss == 'reject' else f'context.note("{name}")'}",
            ]
        return lines

    def _lose_parts(self, parts: Iterable[Part], scope: str, prefix: str) -> Lines:
        lines: Lines = []
        for part in parts:
            place = f"{scope}.{part.owner.name}"
            if part.single:
                lines += [f"for item in {place}:", *indented(self._lose(part.unmapped, "item", prefix + part.prefix))]
            else:
                lost = self._lose(part.unmapped, place, prefix + part.prefix)
                lines += [f"if {place} is not None:", *indented(lost)]
        return [] if all(line.endswith(":") for line in lines) else lines

    def unions(self, message: Message, place: str) -> Lines:
        """Statements that see to it that a written message has one member of each union."""
        lines: Lines = []
        for names in message.unions:
            members = ", ".join(f'"{name}"' for name in names)
            lines += wrapped(f"structured.one_of({_guarded(place)}, ({members}), context)", 4)
        for inner in message.messages:
            if not inner.first:
                lines += self.unions(inner, f"{place}.{inner.wire}")
        return lines

    def _write_message(self, message: Message, scope: str) -> Lines:
        arguments = [[f"{value.wire}={self._write_value(value, scope)}"] for value in message.values if not value.alias]
        for inner in message.messages:
            if inner.floats:
                arguments.append(self._write_floats(inner, scope))
            elif _writes(inner):
                arguments.append(self._write_nested(inner, scope))
        arguments += [[f"{items.wire}={self.write_items(items, scope)}"] for items in message.items]
        return call(f"{self.module}.{message.wire_class}", arguments)

    def _write_nested(self, message: Message, scope: str) -> Lines:
        made = self._write_message(message, scope)
        if message.first:
            unless = f"[] if {scope}.{message.absent} else " if message.absent else ""
            return [f"{message.wire}={unless}[", *indented([*made[:-1], f"{made[-1]}"]), "]"]
        if message.owner:
            missing = "msgspec.UNSET" if self.is_rest else "None"
            return [f"{message.wire}={missing}", f"if {scope}.{message.owner} is None", f"else {made[0]}", *made[1:]]
        if message.required:
            return [f"{message.wire}={made[0]}", *made[1:]]
        filled = "structured.filled_json" if self.is_rest else "structured.filled"
        inner = [*made[:-1], f"{made[-1]},", f"{self._empty(message)},"]
        return [f"{message.wire}={filled}(", *indented(inner), ")"]

    def _write_floats(self, message: Message, scope: str) -> Lines:
        """One of two members of a union: the numbers as float32 where they are, else as doubles; packed once."""
        value = message.values[0]
        made = f"{self.module}.{message.wire_class}({value.wire}="
        if message.floats == "double":
            packed = self._write_value(value, scope)
            return [f"{message.wire}=None", "if singles is not None", f"else {made}{packed})"]
        condition = f"if (singles := structured.singles({self._place(value, scope)})) is None"
        return [f"{message.wire}=None", condition, f"else {made}singles)"]

    def _write_value(self, value: Value, scope: str) -> str:
        if value.target is None:
            return literal(value.constant)
        return self._encoded(value, self._place(value, scope), value.target.field)

    def _place(self, value: Value, scope: str) -> str:
        """Where the value to write is found."""
        target = value.target
        assert target is not None
        place = f"only_{target.path[0]}" if target.single else f"{scope}.{target.path[0]}"
        if value.echo:
            place = f"request.{target.path[0]}"
        elif self.is_request and target.field.quirk:
            place = f"sent_{target.field.name}"
        return f"{place}.{target.path[1]}" if len(target.path) > 1 else place

    def _encoded(self, value: Value, place: str, declared: Field) -> str:
        if value.converter:
            return f"converters.{value.converter}_to_wire({place})"
        if value.entries:
            entries = {literal(neutral): literal(wire) for wire, neutral in reversed(value.entries)}
            table = self._table(value, "OUT", entries)
            missing = (
                ("None" if value.nullable else "msgspec.UNSET") if self.is_rest else ("None" if value.presence else "0")
            )
            return f'structured.wired({table}, {place}, {missing}, "{value.label}", context)'
        if value.unit == "ms":
            place = f"structured.whole({place}, {_MS})"
        if self.is_rest and value.always and value.unset is not None:
            return f"structured.given({place}, {literal(value.unset)})"
        if self.is_rest and value.kind == "double":
            finite = "all_finite" if value.is_list else "finite"
            place = f'structured.{finite}({place}, "{value.label}", context)'
        if self.is_rest:
            return self._json(value, place, declared)
        if value.kind in _JSON_WRITERS:
            writer = f"{_JSON_WRITERS[value.kind]}{'s' if value.is_list else ''}"
            return f'json_messages.{writer}({place}, "{value.label}", context)'
        if value.is_list and value.kind in {"float32", "double"}:
            return f'structured.packed({place}, "{"f" if value.kind == "float32" else "d"}", "{value.label}", context)'
        if value.presence or value.is_list or not declared.type.is_optional:
            return place
        zero = _ZEROS[value.kind]
        if value.unset is not None and value.unset != declared.off:  # "no effect" may be said by saying nothing
            return f'structured.sayable({place}, {literal(value.unset)}, {zero}, "{declared.name}", context)'
        return f"structured.given({place}, {zero})"

    def _json(self, value: Value, place: str, declared: Field) -> str:
        if value.required or value.nullable or value.always:
            return place
        return (
            f"structured.json({place})"
            if declared.type.is_optional or declared.type.base == "any"
            else f"rest.optional({place})"
        )

    def write_items(self, items: Items, scope: str) -> str:
        target = items.target
        source = f"only_{target.path[0]}.{target.path[1]}" if target.single else f"{scope}.{target.path[0]}"
        if not items.item_class:
            value = items.message.values[0]
            made = f"[{self.module}.{items.message.wire_class}({value.wire}=item) for item in {source}]"
        else:
            made = f"[{self._write_helper(items)}(item, context) for item in {source}]"
        optional = self.is_rest and items.wire and not items.required and not items.always
        return f"rest.optional({made})" if optional else made

    def _write_helper(self, items: Items) -> str:
        made = self._write_message(items.message, "item")
        prefix = f"{items.target.name}[]."
        lines = [*self._lose(items.unmapped_fields, "item", prefix), *self._lose_parts(items.parts, "item", prefix)]
        unions = self.unions(items.message, "made")
        result = (
            [f"made = {made[0]}", *made[1:], *unions, "return made"] if unions else [f"return {made[0]}", *made[1:]]
        )
        wire_class, item_class = f"{self.module}.{items.message.wire_class}", f"operations.{items.item_class}"
        return self._helper("write", items, item_class, wire_class, [*lines, *result])


def _guarded(place: str) -> str:
    """A place in messages of which each may be missing: `a and a.b and a.b.c`, `a` itself being there."""
    steps = place.split(".")
    reached = [".".join(steps[: count + 1]) for count in range(1, len(steps))]
    return " and ".join(reached) or place


def _first(found: list[str]) -> str:
    return found[0] if len(found) == 1 else f"structured.first({', '.join(found)})"


def _read_single(target: str, fields: dict[str, list[str]], item_class: str) -> Lines:
    if not item_class:
        ((_, found),) = fields.items()
        return [f"{target}=[{_first(found)}]"]
    made = call(f"operations.{item_class}", [[f"{name}={_first(found)}"] for name, found in fields.items()])
    return [f"{target}=[", *indented([*made[:-1], f"{made[-1]}"]), "]"]


def _attribute(declared: Field, is_rest: bool) -> str:
    return json_attribute(declared.name) if is_rest else python_attribute(declared.name)


def _class_of(places: list[tuple[Message, str]], owner: str) -> str:
    for message, _ in places:
        for value in message.values:
            if value.target is not None and value.target.owner is not None and value.target.path[0] == owner:
                return value.target.owner.type.base
    raise AssertionError(owner)


def _targets(message: Message) -> Iterator[Target]:
    for inner in message.walk():
        for value in inner.values:
            if value.target is not None and not value.echo:
                yield value.target
        for items in inner.items:
            yield items.target


def _writes(message: Message) -> bool:
    """Whether a nested message is ever written: not when all in it are other places of the same fields."""
    return any(not value.alias for inner in message.walk() for value in inner.values) or any(
        inner.items for inner in message.walk()
    )


def _is_set(declared: Field, place: str) -> str:
    if declared.off is not None:
        off = literal(declared.off)
        return f"{place} not in (None, {off})" if declared.type.is_optional else f"{place} != {off}"
    return f"{place} is not None" if declared.type.is_optional or declared.type.base == "any" else place
