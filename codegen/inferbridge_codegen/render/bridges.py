"""Renders half-bridges: for each binding the four functions between its wire and its operation.

The statements are made here, from the linked sides; the template lays them out. A statement that would say the same
in two functions is a function of `inferbridge.bridge` instead.
"""

import dataclasses
import re
from dataclasses import dataclass

from inferbridge_codegen.model.tree import Special, Tree
from inferbridge_codegen.model.types import Api, Dialect, Endpoint, GrpcBinding, RestBinding, Side
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.flat import (
    Wire,
    decode,
    grpc_decode_message,
    grpc_encode_error,
    grpc_encode_message,
    grpc_write,
    paths,
    prepare,
    rest_decode_message,
    rest_decode_reply,
    rest_encode_message,
    rest_path,
    rest_reply,
    rest_request,
    upper,
)
from inferbridge_codegen.render.lines import Lines, formatted, wrapped, wrapped_head
from inferbridge_codegen.render.structured import Structured


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


@dataclass(slots=True)
class Rendered:
    """What one dialect's bridges are made of."""

    functions: list[Function] = dataclasses.field(default_factory=list)
    decoders: dict[str, str] = dataclasses.field(default_factory=dict)
    """JSON decoders by name, with the type they read."""
    constants: dict[str, str] = dataclasses.field(default_factory=dict)

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
        name = f"_READ_{'LIST_OF_' if is_list else ''}{upper(wire_class)}"
        self.decoders[name] = f"list[schemas.{wire_class}]" if is_list else f"schemas.{wire_class}"
        return name


def render_bridges(api: Api, dialect: Dialect, depth: int) -> str:
    """Source of the half-bridges of one dialect; `depth` is how many packages it lies below the generated root."""
    rendered = Rendered()
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


def _rest_messages(tree: Side | Tree, prefix: str, message: str, what: str, rendered: Rendered) -> list[_Part]:
    if isinstance(tree, Side):
        rendered.decoder(tree.wire_class, is_list=False)
        value, decode, encode = "reply", rest_decode_message(tree, message), rest_encode_message(tree)
    else:
        value, (decode, encode) = "neutral", _rest_tree_messages(tree, prefix, message, rendered)
    return [
        (f"{prefix}_decode_message", "data: Buffer, context: Context", message, f"One event of the answer to {what}.",
         decode),
        (f"{prefix}_encode_message", f"{value}: {message}, context: Context", "bytes",
         f"One event of what a client of {what} gets.", encode),
    ]  # fmt: skip


def _rest_tree_messages(tree: Tree, prefix: str, message: str, rendered: Rendered) -> tuple[Lines, Lines]:
    reader = rendered.structured(f"{prefix}_message", is_rest=True, is_request=False, target=message)
    assert tree.body is not None
    decoder = rendered.decoder(tree.body.wire_class, is_list=False)
    decode = [f"body = rest.read_reply({decoder}, bytes(data), context)", *reader.read(tree, "body")]
    lines, made = reader.write(tree, "neutral")
    encode = [*lines, f"body = {made[0]}", *made[1:], "return rest.encode(body)"]
    rendered.take(reader)
    return decode, encode


def _rest_decode(side: Side | Tree, prefix: str, target: str, rendered: Rendered, *, reply: bool) -> Lines:
    source = "answer" if reply else "call"
    if isinstance(side, Side):
        if side.wire_class:
            rendered.decoder(side.wire_class, is_list=side.is_list)
        return rest_decode_reply(side, target) if reply else decode(side, target, Wire("schemas", False), source)
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
        return [*prepare(side, Wire("schemas", False)), *rest_path(binding), *rest_request(binding)]
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
    return paths(binding, fields)


def _rest_encode_reply(side: Side | Tree, prefix: str, target: str, rendered: Rendered) -> Lines:
    if isinstance(side, Side):
        return [*prepare(side, Wire("schemas", True)), *rest_reply(side)]
    renderer = rendered.structured(prefix, is_rest=True, is_request=False, target=target)
    lines, made = renderer.write(side, "reply")
    if side.body is not None and side.is_list:
        made = [renderer.write_items(side.body.items[0], "reply")]
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
        parts += _grpc_error(binding, prefix, request, message)
    rendered.functions += [Function(*part) for part in parts]


def _grpc_messages(
    binding: GrpcBinding, tree: Side | Tree, prefix: str, message: str, rendered: Rendered
) -> list[_Part]:
    if isinstance(tree, Side):
        decode, encode = (
            grpc_decode_message(tree, message, binding.envelope),
            grpc_encode_message(tree, binding.envelope),
        )
        value = "reply"
    else:
        value, (decode, encode) = "neutral", _grpc_tree_messages(tree, prefix, message, rendered)
    return [
        (f"{prefix}_decode_message", "data: Buffer, context: Context", message,
         f"One message of the answer to {binding.rpc}.", decode),
        (f"{prefix}_encode_message", f"{value}: {message}, context: Context", "Chunks",
         f"A message for clients of {binding.rpc}.", encode),
    ]  # fmt: skip


def _grpc_error(binding: GrpcBinding, prefix: str, request: str, message: str) -> list[_Part]:
    if binding.envelope is None or not isinstance(binding.message, Side):
        return []
    return [
        (f"{prefix}_encode_error", f"error: BridgeError, request: {request} | None, context: Context", "Chunks",
         f"An error as what a client of {binding.rpc} gets.",
         grpc_encode_error(binding.message, message, binding.envelope)),
    ]  # fmt: skip


def _grpc_tree_messages(tree: Tree, prefix: str, message: str, rendered: Rendered) -> tuple[Lines, Lines]:
    renderer = rendered.structured(f"{prefix}_message", is_rest=False, is_request=False, target=message)
    assert tree.body is not None
    name = tree.body.wire_class
    decode = [f"message = grpc.read(wire.decode_{name}, data, context)", *renderer.read(tree, "message")]
    lines, made = renderer.write(tree, "neutral")
    lines = [*lines, f"message = {made[0]}", *made[1:], *renderer.unions(tree.body, "message")]
    encode = [*lines, f"return grpc.write(wire.encode_{name}, message, context)"]
    rendered.take(renderer)
    return decode, encode


def _grpc_decode(side: Side | Tree, prefix: str, target: str, rendered: Rendered, *, reply: bool) -> Lines:
    source = "answer" if reply else "call"
    if isinstance(side, Side):
        return decode(side, target, Wire("wire", reply), source)
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
        return [*prepare(side, Wire("wire", reply)), *grpc_write(binding, side, reply=reply)]
    assert side.body is not None
    renderer = rendered.structured(prefix, is_rest=False, is_request=not reply, target=target)
    lines, made = renderer.write(side, "reply" if reply else "request")
    rendered.take(renderer)
    lines = [*lines, f"message = {made[0]}", *made[1:], *renderer.unions(side.body, "message")]
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
