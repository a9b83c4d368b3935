"""Renders the table of all APIs with their endpoints and half-bridges."""

from inferbridge_codegen.model.tree import Message, Target, Tree
from inferbridge_codegen.model.types import Endpoint, GrpcBinding, Model, RestBinding, Side
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.lines import formatted, literal
from inferbridge_codegen.render.rest_services import methods

_REPLY = ("decode_reply", "encode_reply")
_MESSAGE = ("decode_message", "encode_message")


def render_registry(model: Model) -> str:
    """Source of the table."""
    framings = any(endpoint.rest and endpoint.rest.framing for api in model.apis for endpoint in api.own.endpoints)
    rest_methods = {api.name: methods(api) for api in model.apis}
    source = render(
        "registry.py.jinja", apis=model.apis, parts=_parts, facts=_facts, framings=framings, rest_methods=rest_methods
    )
    return formatted(source)


def _parts(endpoint: Endpoint, binding: RestBinding | GrpcBinding) -> list[str]:
    """The functions of a half-bridge."""
    unary = endpoint.mode != "stream" and not (isinstance(binding, GrpcBinding) and binding.message is not None)
    return [
        "decode_request",
        "encode_request",
        *(_REPLY if unary else ()),
        *(_MESSAGE if binding.message is not None else ()),
        *(("encode_error",) if isinstance(binding, GrpcBinding) and binding.envelope is not None else ()),
    ]


def _facts(binding: RestBinding | GrpcBinding) -> list[str]:
    """What else is known of a binding, as arguments."""
    lines = []
    request = binding.request
    if isinstance(request, Tree):
        names = sorted(_fields(request))
        lines.append(
            f"fields=frozenset({{{', '.join(f'"{name}"' for name in names)}}})," if names else "fields=frozenset(),"
        )
        read = _read_defaults(request)
        defaults = [(name, value) for name, value in request.defaults if name not in read]
        if defaults:
            values = ", ".join(f'"{name}": {literal(value)}' for name, value in defaults)
            lines.append(f"defaults={{{values}}},")
    if isinstance(binding, RestBinding) and binding.aliases:
        lines.append(f"aliases=({', '.join(f'"{path.text}"' for path in binding.aliases)},),")
    if isinstance(binding, GrpcBinding):
        lines += _grpc_facts(binding)
    if isinstance(binding, RestBinding) and binding.message is not None:
        framing = binding.framing
        event, crlf, done, error = (
            (framing.event, framing.crlf, framing.done, framing.error_event) if framing else ("", False, "", "")
        )
        newline = "\\r\\n" if crlf else "\\n"
        lines.append(f'framing=EventFraming({literal(event)}, "{newline}", {literal(done)}, {literal(error)}),')
    return lines


def _grpc_facts(binding: GrpcBinding) -> list[str]:
    lines = ["client_streaming=True,"] if binding.client_streaming else []
    number = _model_field(binding.request)
    return [*lines, f"model_field={number},"] if number else lines


def _model_field(request: Side | Tree) -> int:
    if isinstance(request, Tree):
        values = request.body.values if request.body is not None else ()
        found = [each.number for each in values if each.kind == "string" and _is_model(each.target)]
    else:
        found = [leaf.number for leaf in request.leaves if leaf.kind == "value" and leaf.field.name == "model"]
    return found[0] if found else 0


def _is_model(target: Target | None) -> bool:
    return target is not None and target.path == ("model",)


def _read_defaults(tree: Tree) -> set[str]:
    """Fields whose default is read where the place is left out, for null there means something else."""
    values = tree.body.values if tree.body is not None else ()
    return {value.target.path[0] for value in values if value.target is not None and value.default is not None}


def _fields(tree: Tree) -> set[str]:
    found = {special.target.path[0] for special in tree.specials}
    if tree.body is not None:
        found |= _fields_of(tree.body)
    return found


def _fields_of(message: Message) -> set[str]:
    found = {
        value.target.path[0] for inner in message.walk() for value in inner.values if value.target and not value.echo
    }
    return found | {items.target.path[0] for inner in message.walk() for items in inner.items}
