"""Renders flat sides (`model.mapping`): plain fields, one list level, tensors, parameters, answers by status.

The statements are made here, from the linked side. A statement that would say the same in two functions is a function
of `inferbridge.bridge` instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferbridge_codegen.model.types import Envelope, Field, Group, GrpcBinding, Leaf, RestBinding, Side
from inferbridge_codegen.render.lines import Lines, call, indented, wrapped
from inferbridge_codegen.spec.path_template import PathTemplate


@dataclass(frozen=True, slots=True)
class Wire:
    """What differs between the protocols when a side is read or written."""

    module: str
    """Generated module of the wire's classes."""
    reply: bool
    message: bool = False
    """One message of a stream: what is read is `data`, and there are no binary tensors."""
    envelope: Envelope | None = None

    @property
    def is_rest(self) -> bool:
        """Whether the wire is JSON over HTTP."""
        return self.module == "schemas"


def upper(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_").upper()


# Reading: wire to operation.


def _decoder(side: Side) -> str:
    return f"_READ_{'LIST_OF_' if side.is_list else ''}{upper(side.wire_class)}"


def _has_tensors(side: Side) -> bool:
    return any(leaf.kind == "tensor" for group in side.groups for leaf in group.leaves)


def decode(side: Side, target: str, wire: Wire, source: str) -> Lines:
    lines = [*_open(side, wire, source), *_refuse_unmapped(side, wire), *_checks_of_leaves(side, wire)]
    finish = wire.is_rest and _has_tensors(side)
    made = call(target, _arguments(side, wire))
    if not finish:
        return [*lines, f"return {made[0]}", *made[1:]]
    result = "reply" if wire.reply else "request"
    return [*lines, f"{result} = {made[0]}", *made[1:], "source.finish()", f"return {result}"]


def _open(side: Side, wire: Wire, source: str) -> Lines:
    if not wire.is_rest:
        first = source if wire.message else _first_message(source, wire)
        reader = f"message = grpc.read(wire.decode_{side.wire_class}, {first}, context)"
        opened = wrapped(reader, 4) if wire.envelope is None else _open_envelope(wire.envelope, side.wire_class)
        count = f"raw = message.{side.raw}"
        group = next((group for group in side.groups if any(leaf.kind == "tensor" for leaf in group.leaves)), None)
        if group is None:
            return opened if _reads(side) else [reader.removeprefix("message = ")]
        check = f'tensors.check_raw_count(raw, len(message.{group.wire}), "{side.raw}")'
        return [*opened, count, check]
    if not side.wire_class:
        return []
    if _has_tensors(side):
        nan = "rest.reply_nan(context)" if wire.reply else "context.policy.nan"
        return [f"source = rest.open_body({source}, {nan})", f"body = rest.read_tensors({_decoder(side)}, source)"]
    return [f"body = rest.read_json({_decoder(side)}, bytes(rest.body_of({source})))"]


def _first_message(source: str, wire: Wire) -> str:
    return f"grpc.reply_message({source}, context)" if wire.reply else f"grpc.request_message({source})"


def _reads(side: Side) -> bool:
    return bool(side.leaves or side.groups or side.unmapped_wire)


def _message(wire: Wire) -> str:
    return "body" if wire.is_rest else "message"


def _is_set(place: str, wire: Wire) -> str:
    return f"{place} is not msgspec.UNSET" if wire.is_rest else place


def _refuse_unmapped(side: Side, wire: Wire) -> Lines:
    lines: Lines = []
    for field in side.unmapped_wire:
        if field.name != side.raw:
            lines += _unmapped(field, f"{_message(wire)}.{field.name}", field.name, wire)
    for group in side.groups:
        inner = [
            line
            for field in group.unmapped_wire
            for line in _unmapped(field, f"item.{field.name}", f"{group.wire}[].{field.name}", wire)
        ]
        if inner:
            lines += [f"for item in {_items(group, wire)}:", *indented(inner)]
    return lines


def _unmapped(field: Field, place: str, name: str, wire: Wire) -> Lines:
    if field.loss == "ignore":
        return []
    act = (
        f'context.lose("{name}", "has no place in the operation")'
        if field.loss == "reject"
        else f'context.note("{name}")'
    )
    return [f"if {_is_set(place, wire)}:", f"    {act}"]


def _checks_of_leaves(side: Side, wire: Wire) -> Lines:
    lines: Lines = []
    for leaf in side.leaves:
        place = f"{_message(wire)}.{leaf.wire}"
        if leaf.alias:
            variable = next(
                other.key for other in side.leaves if other.kind == "variable" and other.field == leaf.field
            )
            lines.append(f'rest.agree("{leaf.wire}", {place}, call.variables.get("{variable}", ""))')
        elif leaf.kind == "constant":
            lines.append(f'grpc.demand("{leaf.wire}", {place}, {leaf.constant})')
    return lines


def _arguments(side: Side, wire: Wire) -> list[Lines]:
    arguments = [
        [f"{leaf.field.name}={_read_leaf(leaf, _message(wire), '', wire, None)}"]
        for leaf in side.leaves
        if not leaf.alias and not leaf.echo and leaf.kind != "constant"
    ]
    for group in side.groups:
        made = call(
            f"operations.{group.item_class}",
            [
                [f"{leaf.field.name}={_read_leaf(leaf, 'item', f'{group.wire}[].', wire, group)}"]
                for leaf in group.leaves
            ],
        )
        tensors = any(leaf.kind == "tensor" for leaf in group.leaves) and not wire.is_rest
        loop = (
            f"for index, item in enumerate({_items(group, wire)})" if tensors else f"for item in {_items(group, wire)}"
        )
        arguments.append([f"{group.field.name}=[", *indented([*made, loop]), "]"])
    return arguments


def _items(group: Group, wire: Wire) -> str:
    if not group.wire:
        return _message(wire)
    place = f"{_message(wire)}.{group.wire}"
    return place if group.required or not wire.is_rest else f"rest.given({place}, [])"


def _read_leaf(leaf: Leaf, item: str, prefix: str, wire: Wire, group: Group | None) -> str:
    place = f"{item}.{leaf.wire}"
    if leaf.kind == "variable":
        return f'call.variables["{leaf.key}"]' if leaf.field.required else f'call.variables.get("{leaf.key}", "")'
    if leaf.kind == "key":
        flag = f'rest.binary_flag({place}, "{leaf.key}", "{prefix}{leaf.wire}")'
        return flag if leaf.field.type.is_optional else f"{flag} or False"
    if leaf.kind == "parameters":
        read = "parameters_of" if not (wire.is_rest and wire.message) else "message_parameters_of"
        return f'{"rest" if wire.is_rest else "grpc"}.{read}({place}, "{prefix}{leaf.wire}")'
    if leaf.kind == "tensor" and group is not None:
        return _read_tensor(place, group, wire)
    plain = place if leaf.required or not wire.is_rest else f"rest.given({place}, {leaf.field.default})"
    return f"converters.{leaf.converter}_from_wire({plain})" if leaf.converter else plain


def _read_tensor(place: str, group: Group, wire: Wire) -> str:
    wires = {name: found.wire for name in ("datatype", "shape", "name", "parameters") if (found := group.leaf(name))}
    datatype, shape, name = (f"item.{wires[key]}" for key in ("datatype", "shape", "name"))
    if wire.is_rest:
        return f"source.take({place}, {datatype}, {shape}, item.{wires['parameters']}, {name})"
    return f"tensors.tensor_data({place}, raw, index, {datatype}, {shape}, {name})"


def rest_decode_reply(side: Side, target: str) -> Lines:
    if side.status_field:
        return [f"return {target}({side.status_field}=rest.boolean_status(answer, context))"]
    return ["rest.check_status(answer, context)", *decode(side, target, Wire("schemas", True), "answer")]


# Writing: operation to wire.


def prepare(side: Side, wire: Wire) -> Lines:
    """Losses, quirks and the lists whose items need statements."""
    value = "reply" if wire.reply else "request"
    lines: Lines = []
    for field in side.unmapped_fields:
        lines += _loss(field, f"{value}.{field.name}", field.name, wire)
    for group in side.groups:
        inner = [
            line
            for field in group.unmapped_fields
            for line in _loss(field, f"item.{field.name}", f"{group.field.name}[].{field.name}", wire)
        ]
        if inner:
            lines += [f"for item in {value}.{group.field.name}:", *indented(inner)]
    if not wire.reply:
        for leaf in _mapped(side):
            if leaf.field.quirk:
                name = leaf.field.name
                lines.append(f'sent_{name} = quirks.{leaf.field.quirk}(request.{name}, "{name}", context)')
    if wire.is_rest and _has_tensors(side):
        lines += _sink(side, wire, value)
    elif _has_tensors(side) and not wire.reply:
        group = side.groups[0]
        lines += [
            f"for item in {value}.{group.field.name}:",
            f'    quirks.datatype(item.datatype, "{group.field.name}[].datatype", context)',
        ]
    return lines


def _mapped(side: Side) -> list[Leaf]:
    return [leaf for leaf in side.leaves if not leaf.alias and not leaf.echo and leaf.kind not in {"constant", "key"}]


def _loss(field: Field, place: str, name: str, wire: Wire) -> Lines:
    if field.loss == "ignore":
        return []
    other = "REST" if wire.is_rest else "gRPC"
    act = (
        f'context.lose("{name}", "the {other} side has no place for it")'
        if field.loss == "reject"
        else f'context.note("{name}")'
    )
    return [f"if {place}:", f"    {act}"]


def _sink(side: Side, wire: Wire, value: str) -> Lines:
    group = next(group for group in side.groups if any(leaf.kind == "tensor" for leaf in group.leaves))
    name = group.field.name
    nan = "context.policy.nan" if wire.reply else "rest.request_nan(context)"
    binary = "False" if wire.message else "rest.wants_binary(request, item.name)" if wire.reply else "binary"
    arguments = [
        [f"{leaf.wire}={_write_leaf(leaf, 'item', f'{group.wire}[].', wire, in_tensor=True)}"] for leaf in group.leaves
    ]
    made = call(f"schemas.{group.wire_class}", arguments)
    return [
        f"sink = TensorSink({nan})",
        *([] if wire.reply else ["binary = context.profile.binary_tensors"]),
        f"{name} = []",
        f"for item in {value}.{name}:",
        *(
            []
            if wire.reply
            else [f'    quirks.datatype(item.datatype, "{name}[].datatype", context, in_json=not binary)']
        ),
        f"    data, size = sink.put(item.data, item.datatype, item.shape, item.name, {binary})",
        f"    {name}.append(",
        *indented(indented([*made[:-1], made[-1]])),
        "    )",
    ]


def _write_leaf(
    leaf: Leaf, item: str, prefix: str, wire: Wire, *, in_tensor: bool = False, keys: Iterable[Leaf] = ()
) -> str:
    place = f"{item}.{leaf.field.name}"
    if leaf.kind == "constant":
        return str(leaf.constant)
    if leaf.echo:
        return f"request.{leaf.field.name}"
    if leaf.field.quirk and not wire.reply and item == "request":
        place = f"sent_{leaf.field.name}"
    if leaf.kind == "tensor":
        return "data"
    if leaf.kind == "parameters" and not wire.is_rest:
        return f'grpc.parameters_to({place}, wire.{leaf.factory}, "{prefix}{leaf.wire}", context)'
    if leaf.kind == "parameters":
        steering = (
            ", binary_data_size=size"
            if in_tensor
            else "".join(f", {key.key}=binary or None" for key in keys if not key.field.type.is_optional)
        )
        return f'rest.parameters_to({place}, "{prefix}{leaf.wire}", context{steering})'
    if leaf.converter:
        place = f"converters.{leaf.converter}_to_wire({place})"
    plain = not wire.is_rest or leaf.required or leaf.always or (wire.reply and leaf.field.type.base == "bool")
    return place if plain else f"rest.optional({place})"


def _written(side: Side, wire: Wire) -> list[Lines]:
    """Arguments of the wire message."""
    value = "reply" if wire.reply else "request"
    keys = [leaf for leaf in side.leaves if leaf.kind == "key"]
    arguments = [
        [f"{leaf.wire}={_write_leaf(leaf, value, '', wire, keys=[] if wire.reply else keys)}"]
        for leaf in side.leaves
        if not leaf.alias and leaf.kind not in {"key", "variable"}
    ]
    for group in side.groups:
        arguments.append(_written_group(group, wire, value, side))
    if side.raw:
        group = next(group for group in side.groups if any(leaf.kind == "tensor" for leaf in group.leaves))
        arguments.append([f"{side.raw}=[item.data for item in {value}.{group.field.name}]"])
    return arguments


def _written_group(group: Group, wire: Wire, value: str, side: Side) -> Lines:
    has_tensor = any(leaf.kind == "tensor" for leaf in group.leaves)
    if wire.is_rest and has_tensor:
        return [f"{group.wire}={group.field.name}"]
    leaves = [leaf for leaf in group.leaves if leaf.kind not in {"tensor", "key"}]
    made = call(
        f"{wire.module}.{group.wire_class}",
        [[f"{leaf.wire}={_write_leaf(leaf, 'item', f'{group.wire}[].', wire)}"] for leaf in leaves],
    )
    items = [*made, f"for item in {value}.{group.field.name}"]
    if wire.is_rest and not group.required and not group.always and group.wire:
        return [f"{group.wire}=rest.optional(", *indented(["[", *indented(items), "]"]), ")"]
    return [f"{group.wire}=[" if group.wire else "[", *indented(items), "]"]


def rest_path(binding: RestBinding) -> Lines:
    assert isinstance(binding.request, Side)
    return paths(binding, {leaf.key: leaf.field for leaf in binding.request.leaves if leaf.kind == "variable"})


def paths(binding: RestBinding, fields: Mapping[str, Field]) -> Lines:
    """The path with the most variables that are all set; the last one refuses what is not."""
    ordered = sorted(binding.paths, key=lambda path: -len(path.variables))
    lines: Lines = []
    for position, path in enumerate(ordered):
        assign = _assign_path(path, fields)
        optional = [_value(fields[name]) for name in path.variables if not fields[name].required]
        if not optional or position == len(ordered) - 1:
            lines += ["else:", *indented(assign)] if position else assign
            break
        lines += [f"{'elif' if position else 'if'} {' and '.join(optional)}:", *indented(assign)]
    return lines


def _assign_path(path: PathTemplate, fields: Mapping[str, Field]) -> Lines:
    if not path.variables:
        return [f'path = "{path.text}"']
    text = "/".join(f"{{in_{name}}}" if is_variable else name for name, is_variable in path.segments)
    encoded = [f'in_{name} = rest.segment({_value(fields[name])}, "{name}")' for name in path.variables]
    return [*encoded, f'path = f"/{text}"']


def _value(field: Field) -> str:
    return f"sent_{field.name}" if field.quirk else f"request.{field.name}"


def rest_request(binding: RestBinding) -> Lines:
    side = binding.request
    assert isinstance(side, Side)
    if not side.wire_class:
        body = ', (b"{}",)' if binding.method in {"POST", "PUT", "PATCH"} else ""
        return [f'return rest.call("{binding.method}", path{body})']
    made = call(f"schemas.{side.wire_class}", _written(side, Wire("schemas", False)))
    lines = [f"body = {made[0]}", *made[1:]]
    if not _has_tensors(side):
        return [*lines, f'return rest.call("{binding.method}", path, (rest.encode(body),))']
    return [
        *lines,
        "chunks, header_length = sink.finish(rest.encode(body))",
        f'return rest.call("{binding.method}", path, chunks, header_length)',
    ]


def rest_reply(side: Side) -> Lines:
    wire = Wire("schemas", True)
    if side.is_list:
        made = _written(side, wire)[0]
        return [f"body = {made[0]}", *made[1:], "return rest.ok_reply((rest.encode(body),))"]
    if not side.wire_class and side.status_field:
        return [f'return rest.bare_status(reply.{side.status_field}, "{side.text}", context)']
    if not side.wire_class:
        return ['return rest.ok_reply((b"{}",))']
    made = call(f"schemas.{side.wire_class}", _written(side, wire))
    lines = [f"body = {made[0]}", *made[1:]]
    if side.status_field:
        return [*lines, f"return rest.status_reply(reply.{side.status_field}, (rest.encode(body),), context)"]
    if not _has_tensors(side):
        return [*lines, "return rest.ok_reply((rest.encode(body),))"]
    return [*lines, "return rest.ok_reply(*sink.finish(rest.encode(body)))"]


def rest_decode_message(side: Side, target: str) -> Lines:
    """The body of one event, which is read like the body of an answer."""
    return [
        "event = HttpReply(200, chunks=(data,))",
        *decode(side, target, Wire("schemas", True, message=True), "event"),
    ]


def rest_encode_message(side: Side) -> Lines:
    wire = Wire("schemas", True, message=True)
    made = call(f"schemas.{side.wire_class}", _written(side, wire))
    lines = [*prepare(side, wire), f"body = {made[0]}", *made[1:]]
    if not _has_tensors(side):
        return [*lines, "return rest.encode(body)"]
    return [*lines, "chunks, _ = sink.finish(rest.encode(body))", "return bytes(join(chunks))"]


def grpc_decode_message(side: Side, target: str, envelope: Envelope | None) -> Lines:
    """One message of a stream, out of its envelope."""
    return decode(side, target, Wire("wire", True, message=True, envelope=envelope), "data")


def _open_envelope(envelope: Envelope, wire_class: str) -> Lines:
    """Take the message out, or raise the error that is in its place."""
    return [
        *wrapped(f"envelope = grpc.read(wire.decode_{envelope.wire_class}, data, context)", 4),
        f"if envelope.{envelope.error}:",
        f"    raise grpc.told(envelope.{envelope.error})",
        f"message = envelope.{envelope.message} or wire.{wire_class}()",
    ]


def grpc_encode_message(side: Side, envelope: Envelope | None) -> Lines:
    """One message of a stream, in its envelope."""
    wire = Wire("wire", True, message=True)
    made = call(f"wire.{side.wire_class}", _written(side, wire))
    lines = [*prepare(side, wire), f"message = {made[0]}", *made[1:]]
    if envelope is None:
        return [*lines, f"return grpc.write(wire.encode_{side.wire_class}, message, context)"]
    return [
        *lines,
        f"envelope = wire.{envelope.wire_class}({envelope.message}=message)",
        f"return grpc.write(wire.encode_{envelope.wire_class}, envelope, context)",
    ]


def grpc_encode_error(side: Side, target: str, envelope: Envelope) -> Lines:
    """An error in a message's place; beside it stands what the request says of itself."""
    wire = Wire("wire", True, message=True)
    made = call(f"wire.{side.wire_class}", _written(side, wire))
    echoed = ", ".join(f"{name}=request.{name}" for name in envelope.echo)
    return [
        f"reply = {target}() if request is None else {target}({echoed})",
        f"message = {made[0]}",
        *made[1:],
        f"envelope = wire.{envelope.wire_class}({envelope.error}=error.message, {envelope.message}=message)",
        f"return grpc.write(wire.encode_{envelope.wire_class}, envelope, context)",
    ]


def grpc_write(binding: GrpcBinding, side: Side, *, reply: bool) -> Lines:
    made = call(f"wire.{side.wire_class}", _written(side, Wire("wire", reply)))
    write = f"grpc.write(wire.encode_{side.wire_class}, message, context)"
    lines = [f"message = {made[0]}", *made[1:]]
    if reply:
        return [*lines, f"return GrpcReply(messages=({write},))"]
    return [*lines, *wrapped_request(binding.rpc, write)]


def wrapped_request(rpc: str, write: str) -> Lines:
    """The request of one message."""
    return [f"message_chunks = {write}", f'return GrpcRequest("{rpc}", messages=(message_chunks,))']
