"""Renders half-bridges: for each binding the four functions between its wire and its operation.

The statements are made here, from the linked sides; the template lays them out. A statement that would say the same
in two functions is a function of `inferbridge.bridge` instead.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from inferbridge_codegen.model.tree import Special, Tree
from inferbridge_codegen.model.types import Api, Dialect, Endpoint, Field, Group, GrpcBinding, Leaf, RestBinding, Side
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.lines import Lines, call, formatted, indented, wrapped, wrapped_head
from inferbridge_codegen.render.structured import Structured
from inferbridge_codegen.spec.path_template import PathTemplate


@dataclass(frozen=True, slots=True)
class Function:
    """One generated function."""

    name: str
    arguments: str
    returns: str
    doc: str
    body: Lines

    @property
    def head(self) -> Lines:
        """The `def` line, its arguments on lines of their own when it is too long."""
        return wrapped_head(self.name, self.arguments.split(", "), self.returns)


@dataclass(frozen=True, slots=True)
class Wire:
    """What differs between the protocols when a side is read or written."""

    module: str
    """Generated module of the wire's classes."""
    reply: bool

    @property
    def is_rest(self) -> bool:
        """Whether the wire is JSON over HTTP."""
        return self.module == "schemas"


@dataclass(slots=True)
class Rendered:
    """What one dialect's bridges are made of."""

    functions: list[Function] = dataclasses.field(default_factory=list)
    decoders: dict[str, str] = dataclasses.field(default_factory=dict)
    """JSON decoders by name, with the type they read."""
    constants: dict[str, str] = dataclasses.field(default_factory=dict)
    lenient: bool = False

    def structured(self, prefix: str, *, is_rest: bool, is_request: bool, target: str) -> Structured:
        """A renderer of one structured side."""
        return Structured(prefix, is_rest, is_request, target.removeprefix("operations."))

    def take(self, renderer: Structured) -> None:
        """Keep the helpers and constants of a side, helpers before the functions that use them."""
        for helper in renderer.helpers:
            name, _, arguments = helper.head.partition("(")
            if all(known.name != name for known in self.functions):
                self.functions.append(Function(name, arguments[:-1], helper.returns, helper.doc, helper.body))
        self.constants.update(renderer.constants)

    def decoder(self, wire_class: str, *, is_list: bool) -> str:
        """The name of a JSON decoder."""
        name = f"_READ_{'LIST_OF_' if is_list else ''}{_upper(wire_class)}"
        self.decoders[name] = f"list[schemas.{wire_class}]" if is_list else f"schemas.{wire_class}"
        return name


def render_bridges(api: Api, dialect: Dialect, depth: int) -> str:
    """Source of the half-bridges of one dialect; `depth` is how many packages it lies below the generated root."""
    rendered = Rendered(lenient=api.lenient_json)
    for endpoint in dialect.endpoints:
        _endpoint(endpoint, rendered)
    functions = rendered.functions
    text = "\n".join(line for function in functions for line in (function.returns, function.arguments, *function.body))
    text += "\n".join(rendered.constants.values())
    source = render(
        "bridges.py.jinja",
        api=api,
        dialect=dialect,
        functions=functions,
        constants=sorted(rendered.constants.items()),
        decoders=sorted(rendered.decoders.items()),
        dots="." * depth,
        uses=lambda name: re.search(rf"(?<![\w.]){name}\b", text) is not None,
    )
    return formatted(source)


def _upper(name: str) -> str:
    return "".join(f"_{letter}" if letter.isupper() else letter for letter in name).strip("_").upper()


def _endpoint(endpoint: Endpoint, rendered: Rendered) -> None:
    operation = endpoint.operation
    names = [f"operations.{struct.name}" for struct in (operation.request, operation.reply)]
    names.append(f"operations.{operation.message.name}" if operation.message else "")
    if endpoint.rest:
        _rest_functions(endpoint, endpoint.rest, names, rendered)
    if endpoint.grpc:
        _grpc_functions(endpoint, endpoint.grpc, names, rendered)


def _rest_functions(endpoint: Endpoint, binding: RestBinding, names: list[str], rendered: Rendered) -> None:
    request, reply, message = names
    what = f"{binding.method} {binding.paths[0].text}"
    prefix = f"{endpoint.name}_rest"
    parts = [
        (f"{prefix}_decode_request", "call: HttpRequest, context: Context", request, f"{what} to its operation.",
         _rest_decode(binding.request, f"{prefix}_request", request, rendered, reply=False)),
        (f"{prefix}_encode_request", f"request: {request}, context: Context", "HttpRequest",
         f"The operation to {what}.", _rest_encode_request(binding, f"{prefix}_request", request, rendered)),
    ]  # fmt: skip
    if endpoint.mode != "stream":
        parts += [
            (f"{prefix}_decode_reply", f"answer: HttpReply, request: {request}, context: Context", reply,
             f"What a runtime answers to {what}.",
             _rest_decode(binding.reply, f"{prefix}_reply", reply, rendered, reply=True)),
            (f"{prefix}_encode_reply", f"reply: {reply}, request: {request}, context: Context", "HttpReply",
             f"What a client of {what} gets.", _rest_encode_reply(binding.reply, f"{prefix}_reply", reply, rendered)),
        ]  # fmt: skip
    if binding.message is not None:
        parts += _rest_messages(binding.message, prefix, message, what, rendered)
    rendered.functions += [Function(*part) for part in parts]


type _Part = tuple[str, str, str, str, Lines]


def _rest_messages(tree: Tree, prefix: str, message: str, what: str, rendered: Rendered) -> list[_Part]:
    reader = rendered.structured(f"{prefix}_message", is_rest=True, is_request=False, target=message)
    assert tree.body is not None
    decoder = rendered.decoder(tree.body.wire_class, is_list=False)
    decode = [f"body = rest.read_reply({decoder}, bytes(data), context)", *reader.read(tree, "body")]
    lines, made = reader.write(tree, "neutral")
    encode = [*lines, f"body = {made[0]}", *made[1:], "return rest.encode(body)"]
    rendered.take(reader)
    return [
        (f"{prefix}_decode_message", "data: Buffer, context: Context", message, f"One event of the answer to {what}.",
         decode),
        (f"{prefix}_encode_message", f"neutral: {message}, context: Context", "bytes",
         f"One event of what a client of {what} gets.", encode),
    ]  # fmt: skip


def _rest_decode(side: Side | Tree, prefix: str, target: str, rendered: Rendered, *, reply: bool) -> Lines:
    source = "answer" if reply else "call"
    if isinstance(side, Side):
        if side.wire_class:
            rendered.decoder(side.wire_class, is_list=side.is_list)
        return _rest_decode_reply(side, target) if reply else _decode(side, target, Wire("schemas", False), source)
    renderer = rendered.structured(prefix, is_rest=True, is_request=not reply, target=target)
    lines = ["rest.check_status(answer, context)"] if reply else []
    if side.body is not None:
        name = side.body.items[0].message.wire_class if side.is_list and side.body.items else side.body.wire_class
        decoder = rendered.decoder(name, is_list=side.is_list)
        text = f"bytes(rest.body_of({source}))"
        read = f"rest.read_reply({decoder}, {text}, context)" if reply else f"rest.read_json({decoder}, {text})"
        lines.append(f"body = {read}")
    lines += renderer.read(side, "body")
    rendered.take(renderer)
    return lines


def _rest_encode_request(binding: RestBinding, prefix: str, target: str, rendered: Rendered) -> Lines:
    side = binding.request
    if isinstance(side, Side):
        return [*_prepare(side, Wire("schemas", False)), *_path(binding), *_rest_request(binding)]
    renderer = rendered.structured(prefix, is_rest=True, is_request=True, target=target)
    lines, made = renderer.write(side, "request")
    lines = [*lines, *_tree_path(binding, side)]
    for special in side.specials:
        if special.place == "query":
            lines.append(f'path = rest.with_query(path, "{special.name}", request.{special.target.path[0]})')
    headers = [special for special in side.specials if special.place == "header"]
    extra = f", headers={_entries(headers)}" if headers else ""
    rendered.take(renderer)
    if side.body is None:
        body = ', (b"{}",)' if binding.method in {"POST", "PUT", "PATCH"} else ""
        return [*lines, f'return rest.call("{binding.method}", path{body}{extra})']
    return [
        *lines,
        f"body = {made[0]}",
        *made[1:],
        f'return rest.call("{binding.method}", path, (rest.encode(body),){extra})',
    ]


def _entries(specials: list[Special]) -> str:
    pairs = ", ".join(f'("{special.name}", request.{special.target.path[0]})' for special in specials)
    return f"structured.entries({pairs})"


def _tree_path(binding: RestBinding, side: Tree) -> Lines:
    fields = {special.name: special.target.field for special in side.specials if special.place == "path"}
    return _paths(binding, fields)


def _rest_encode_reply(side: Side | Tree, prefix: str, target: str, rendered: Rendered) -> Lines:
    if isinstance(side, Side):
        return [*_prepare(side, Wire("schemas", True)), *_rest_reply(side)]
    renderer = rendered.structured(prefix, is_rest=True, is_request=False, target=target)
    lines, made = renderer.write(side, "reply")
    if side.body is not None and side.is_list:
        made = [renderer._write_items(side.body.items[0], "reply")]
    rendered.take(renderer)
    if side.body is None:
        return [*lines, 'return rest.ok_reply((b"{}",))']
    return [*lines, f"body = {made[0]}", *made[1:], "return rest.ok_reply((rest.encode(body),))"]


def _grpc_functions(endpoint: Endpoint, binding: GrpcBinding, names: list[str], rendered: Rendered) -> None:
    request, reply, message = names
    prefix = f"{endpoint.name}_grpc"
    parts: list[_Part] = [
        (f"{prefix}_decode_request", "call: GrpcRequest, context: Context", request, f"{binding.rpc} to its operation.",
         _grpc_decode(binding.request, f"{prefix}_request", request, rendered, reply=False)),
        (f"{prefix}_encode_request", f"request: {request}, context: Context", "GrpcRequest",
         f"The operation to {binding.rpc}.",
         _grpc_encode(binding, f"{prefix}_request", request, rendered, reply=False)),
    ]  # fmt: skip
    if binding.message is None:
        parts += [
            (f"{prefix}_decode_reply", f"answer: GrpcReply, request: {request}, context: Context", reply,
             f"What a runtime answers to {binding.rpc}.",
             _grpc_decode(binding.reply, f"{prefix}_reply", reply, rendered, reply=True)),
            (f"{prefix}_encode_reply", f"reply: {reply}, request: {request}, context: Context", "GrpcReply",
             f"What a client of {binding.rpc} gets.",
             _grpc_encode(binding, f"{prefix}_reply", reply, rendered, reply=True)),
        ]  # fmt: skip
    else:
        parts += _grpc_messages(binding, binding.message, prefix, message, rendered)
    rendered.functions += [Function(*part) for part in parts]


def _grpc_messages(binding: GrpcBinding, tree: Tree, prefix: str, message: str, rendered: Rendered) -> list[_Part]:
    renderer = rendered.structured(f"{prefix}_message", is_rest=False, is_request=False, target=message)
    assert tree.body is not None
    name = tree.body.wire_class
    decode = [f"message = grpc.read(wire.decode_{name}, data, context)", *renderer.read(tree, "message")]
    lines, made = renderer.write(tree, "neutral")
    encode = [*lines, f"message = {made[0]}", *made[1:], f"return grpc.write(wire.encode_{name}, message, context)"]
    rendered.take(renderer)
    return [
        (f"{prefix}_decode_message", "data: Buffer, context: Context", message,
         f"One message of the answer to {binding.rpc}.", decode),
        (f"{prefix}_encode_message", f"neutral: {message}, context: Context", "Chunks",
         f"One message of what a client of {binding.rpc} gets.", encode),
    ]  # fmt: skip


def _grpc_decode(side: Side | Tree, prefix: str, target: str, rendered: Rendered, *, reply: bool) -> Lines:
    source = "answer" if reply else "call"
    if isinstance(side, Side):
        return _decode(side, target, Wire("wire", reply), source)
    assert side.body is not None
    renderer = rendered.structured(prefix, is_rest=False, is_request=not reply, target=target)
    first = f"grpc.reply_message({source}, context)" if reply else f"grpc.request_message({source})"
    inside = renderer.read(side, "message")
    open_ = f"message = grpc.read(wire.decode_{side.body.wire_class}, {first}, context)"
    if not any("message" in line for line in inside):
        open_ = open_.removeprefix("message = ")
    rendered.take(renderer)
    return [*wrapped(open_, 4), *inside]


def _grpc_encode(binding: GrpcBinding, prefix: str, target: str, rendered: Rendered, *, reply: bool) -> Lines:
    side = binding.reply if reply else binding.request
    if isinstance(side, Side):
        return [*_prepare(side, Wire("wire", reply)), *_grpc_write(binding, side, reply=reply)]
    assert side.body is not None
    renderer = rendered.structured(prefix, is_rest=False, is_request=not reply, target=target)
    lines, made = renderer.write(side, "reply" if reply else "request")
    rendered.take(renderer)
    lines = [*lines, f"message = {made[0]}", *made[1:]]
    write = f"grpc.write(wire.encode_{side.body.wire_class}, message, context)"
    if reply:
        return [*lines, f"return GrpcReply(messages=({write},))"]
    sent = [special for special in side.specials if special.place == "metadata"]
    extra = f"metadata={_entries(sent)}, " if sent else ""
    return [
        *lines,
        f"message_chunks = {write}",
        f'return GrpcRequest("{binding.rpc}", {extra}messages=(message_chunks,))',
    ]


# Reading: wire to operation.


def _decoder(side: Side) -> str:
    return f"_READ_{'LIST_OF_' if side.is_list else ''}{_upper(side.wire_class)}"


def _has_tensors(side: Side) -> bool:
    return any(leaf.kind == "tensor" for group in side.groups for leaf in group.leaves)


def _decode(side: Side, target: str, wire: Wire, source: str) -> Lines:
    lines = [*_open(side, wire, source), *_refuse_unmapped(side, wire), *_checks_of_leaves(side, wire)]
    finish = wire.is_rest and _has_tensors(side)
    made = call(target, _arguments(side, wire))
    if not finish:
        return [*lines, f"return {made[0]}", *made[1:]]
    result = "reply" if wire.reply else "request"
    return [*lines, f"{result} = {made[0]}", *made[1:], "source.finish()", f"return {result}"]


def _open(side: Side, wire: Wire, source: str) -> Lines:
    if not wire.is_rest:
        first = f"grpc.reply_message({source}, context)" if wire.reply else f"grpc.request_message({source})"
        reader = f"message = grpc.read(wire.decode_{side.wire_class}, {first}, context)"
        count = f"raw = message.{side.raw}"
        group = next((group for group in side.groups if any(leaf.kind == "tensor" for leaf in group.leaves)), None)
        if group is None:
            return wrapped(reader, 4) if _reads(side) else [reader.removeprefix("message = ")]
        check = f'tensors.check_raw_count(raw, len(message.{group.wire}), "{side.raw}")'
        return [*wrapped(reader, 4), count, check]
    if not side.wire_class:
        return []
    if _has_tensors(side):
        nan = "rest.reply_nan(context)" if wire.reply else "context.policy.nan"
        return [f"source = rest.open_body({source}, {nan})", f"body = rest.read_tensors({_decoder(side)}, source)"]
    return [f"body = rest.read_json({_decoder(side)}, bytes(rest.body_of({source})))"]


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
        return f'{"rest" if wire.is_rest else "grpc"}.parameters_of({place}, "{prefix}{leaf.wire}")'
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


def _rest_decode_reply(side: Side, target: str) -> Lines:
    if side.status_field:
        return [f"return {target}({side.status_field}=rest.boolean_status(answer, context))"]
    return ["rest.check_status(answer, context)", *_decode(side, target, Wire("schemas", True), "answer")]


# Writing: operation to wire.


def _prepare(side: Side, wire: Wire) -> Lines:
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
    binary = "rest.wants_binary(request, item.name)" if wire.reply else "binary"
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


def _path(binding: RestBinding) -> Lines:
    assert isinstance(binding.request, Side)
    return _paths(binding, {leaf.key: leaf.field for leaf in binding.request.leaves if leaf.kind == "variable"})


def _paths(binding: RestBinding, fields: Mapping[str, Field]) -> Lines:
    """The path with the most variables that are all set."""
    ordered = sorted(binding.paths, key=lambda path: -len(path.variables))
    lines: Lines = []
    for position, path in enumerate(ordered):
        assign = _assign_path(path, fields)
        optional = [_value(fields[name]) for name in path.variables if not fields[name].required]
        if not optional:
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


def _rest_request(binding: RestBinding) -> Lines:
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


def _rest_reply(side: Side) -> Lines:
    wire = Wire("schemas", True)
    if side.is_list:
        made = _written(side, wire)[0]
        return [f"body = {made[0]}", *made[1:], "return rest.ok_reply((rest.encode(body),))"]
    if not side.wire_class:
        return ['return rest.ok_reply((b"{}",))']
    made = call(f"schemas.{side.wire_class}", _written(side, wire))
    lines = [f"body = {made[0]}", *made[1:]]
    if side.status_field:
        return [*lines, f"return rest.status_reply(reply.{side.status_field}, (rest.encode(body),), context)"]
    if not _has_tensors(side):
        return [*lines, "return rest.ok_reply((rest.encode(body),))"]
    return [*lines, "return rest.ok_reply(*sink.finish(rest.encode(body)))"]


def _grpc_write(binding: GrpcBinding, side: Side, *, reply: bool) -> Lines:
    made = call(f"wire.{side.wire_class}", _written(side, Wire("wire", reply)))
    write = f"grpc.write(wire.encode_{side.wire_class}, message, context)"
    lines = [f"message = {made[0]}", *made[1:]]
    if reply:
        return [*lines, f"return GrpcReply(messages=({write},))"]
    return [*lines, *wrapped_request(binding.rpc, write)]


def wrapped_request(rpc: str, write: str) -> Lines:
    """The request of one message."""
    return [f"message_chunks = {write}", f'return GrpcRequest("{rpc}", messages=(message_chunks,))']
