"""What a mapping line's attributes and an endpoint's keys may say, checked where the specs are linked.

An attribute that has no effect, or an effect other than the one that was meant, is an error: `unset: none` of a number
would never equal anything, two lines for one field would leave open which of them counts.
"""

from collections.abc import Iterable, Mapping, Sequence

from inferbridge_codegen.model.mapping import CONVERTER_FIELDS
from inferbridge_codegen.model.tree import Kind
from inferbridge_codegen.model.types import Operation, Struct
from inferbridge_codegen.problems import Problems, suggestion
from inferbridge_codegen.spec.documents import (
    Constant,
    EndpointDocument,
    FieldDocument,
    GrpcDocument,
    LineDocument,
    TypeRef,
)

RULES = (
    "caikit", "caikit_embeddings", "caikit_models", "caikit_rerank", "caikit_similarity", "caikit_tokenize",
    "caikit_version", "openai_chat", "openai_completions", "openai_embeddings", "openai_models", "openai_rerank",
    "openai_score", "openai_tokenize", "openai_version", "tgis", "tgis_model_info", "tgis_tokenize", "v2_models",
    "triton_generate", "triton_generate_stream",
)  # fmt: skip
"""Names that `inferbridge.bridge.rules` knows."""
_LITERALS: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "bool": (bool,),
    "int64": (int,),
    "uint64": (int,),
    "integer": (int,),
    "double": (int, float),
    "float32": (int, float),
    "enum": (int,),
}
"""What may stand in YAML for a value of a type of operations, or of a kind on the wire."""
_UNITS: Mapping[str, tuple[str, ...]] = {"ms": ("integer",), "s": ("float32", "double")}
"""Kinds on the wire that a time can have: a part of a second would be lost in whole ones."""


def is_literal(value: Constant, kind: str) -> bool:
    """Whether a plain value of a spec can stand for one of this type or kind."""
    return isinstance(value, _LITERALS.get(kind, ())) and isinstance(value, bool) is (kind == "bool")


def check_value_line(
    line: LineDocument, kind: Kind, *, is_list: bool, presence: bool, is_rest: bool, declared: TypeRef,
    problems: Problems,
) -> None:  # fmt: skip
    """The attributes of a line with a field."""
    if line.unset is not None:
        if is_list or not is_literal(line.unset, "string" if kind == "enum" and is_rest else kind):
            wire = f"list<{kind}>" if is_list else kind
            problems.add(line.field_mark, f"{line.wire} is {wire}, so it is never {line.unset!r}; unset names a value")
        elif presence and not is_rest:
            problems.add(line.field_mark, f"{line.wire} has presence, so unset is not needed: absent says it")
    if line.unit and kind not in _UNITS[line.unit]:
        problems.add(line.field_mark, f"unit {line.unit} needs {' or '.join(_UNITS[line.unit])}, {line.wire} is {kind}")
    if line.nullable and not is_rest:
        problems.add(line.field_mark, f"{line.wire}: nullable is for JSON, protobuf has no null")
    if line.converter in CONVERTER_FIELDS and str(declared) not in CONVERTER_FIELDS[line.converter]:
        wanted = " or ".join(CONVERTER_FIELDS[line.converter])
        problems.add(line.field_mark, f"converter {line.converter} is for {wanted}, {line.field} is {declared}")


def check_special_line(line: LineDocument, problems: Problems) -> None:
    """A value outside of the body is carried as it is."""
    given = {
        "converter": line.converter, "alias": line.alias, "unset": line.unset is not None, "enum": line.enum,
        "unit": line.unit, "nullable": line.nullable, "echo": line.echo, "constant": line.constant is not None,
    }  # fmt: skip
    for name, is_given in given.items():
        if is_given:
            problems.add(line.field_mark, f"{line.wire}: {name} is for places in the body")


def check_default(
    line: LineDocument, struct: Struct, enums: Mapping[str, Sequence[str]], is_request: bool, problems: Problems
) -> None:
    """`default` is a neutral value of a request's own field."""
    if line.default is None:
        return
    if not is_request:
        problems.add(line.field_mark, f"{line.wire}: default is for requests")
        return
    field = next((each for each in struct.fields if each.name == line.field), None)
    if field is None:
        problems.add(line.field_mark, f"{line.wire}: only a field of the request itself can have a default")
        return
    values = enums.get(field.type.base)
    if values is not None:
        fits, hint = line.default in values, suggestion(str(line.default), values)
    else:
        fits, hint = not field.type.is_list and is_literal(line.default, field.type.base), ""
    if not fits:
        problems.add(line.field_mark, f"{line.field} is {field.type}, its default cannot be {line.default!r}{hint}")


def check_one_line_each(lines: Iterable[LineDocument], problems: Problems) -> None:
    """Each field is written to one place; any further one is an alias."""
    written: dict[str, LineDocument] = {}
    aliases: list[LineDocument] = []
    for line in lines:
        if line.echo or line.constant is not None or line.absent:
            continue
        if line.alias:
            aliases.append(line)
        elif written.setdefault(line.field, line) is not line:
            first = written[line.field].wire
            problems.add(line.field_mark, f"{line.field} is mapped to {first} already; mark one of them with alias")
    for line in aliases:
        if line.field not in written:
            problems.add(line.field_mark, f"{line.wire} is an alias of no line for {line.field}, it is never written")


def check_endpoint(document: EndpointDocument, operation: Operation, problems: Problems) -> None:
    """The keys of an endpoint besides its bindings."""
    if document.rule and document.rule not in RULES:
        problems.add(document.rule_mark, f"there is no rule {document.rule!r}{suggestion(document.rule, RULES)}")
    if document.fan_out:
        lists = [field.name for field in operation.request.fields if field.type.is_list]
        if document.fan_out not in lists:
            hint = suggestion(document.fan_out, lists)
            problems.add(
                document.fan_out_mark, f"{operation.request.name} has no list {document.fan_out!r} to fan out{hint}"
            )
    fields = [field.name for field in operation.request.fields]
    for name, mark in document.settles:
        if name not in fields:
            problems.add(mark, f"{operation.request.name} has no field {name!r} to settle{suggestion(name, fields)}")
    if document.mode == "either":
        _check_either(document, problems)


def _check_either(document: EndpointDocument, problems: Problems) -> None:
    """The request's field `stream` decides, so the binding has to carry it."""
    if document.grpc is not None:
        problems.add(document.grpc.mark, "a gRPC method always streams or never does, so mode either is for rest alone")
    if document.rest is not None and all(line.field != "stream" for line in document.rest.request.lines):
        problems.add(document.rest.request.mark, "mode either needs a line for the field stream, which decides")


def check_method(document: GrpcDocument, client_streams: bool, server_streams: bool, problems: Problems) -> None:
    """A method streams as its binding says. Where the client streams too, each of its messages is a request."""
    if client_streams and not server_streams:
        problems.add(document.method_mark, f"{document.method} takes a stream of requests, which no mode is for")
    elif server_streams is not (document.message is not None):
        side, mode = ("message", "stream") if server_streams else ("reply", "unary")
        problems.add(document.method_mark, f"{document.method} answers with a {side}, so it needs mode {mode}")


def check_off(field: FieldDocument, enums: Mapping[str, Sequence[str]], problems: Problems) -> None:
    """`off` is a value that the field can have."""
    if field.off is None:
        return
    fits = field.off in enums.get(field.type.base, ()) or is_literal(field.off, field.type.base)
    if field.type.is_list or not fits:
        problems.add(field.mark, f"{field.name} is {field.type}, so it is never {field.off!r}; off names a value")


def check_absent(line: LineDocument, struct: Struct, problems: Problems) -> None:
    """`absent` names a bool of the operation, of a place `x[0]`."""
    field = next((each for each in struct.fields if each.name == line.absent), None)
    if not line.wire.endswith("[0]"):
        problems.add(line.wire_mark, f"{line.wire}: absent is for a place such as choices[0]")
    elif field is None:
        names = [each.name for each in struct.fields]
        problems.add(line.field_mark, f"{struct.name} has no field {line.absent!r}{suggestion(line.absent, names)}")
    elif str(field.type) != "bool":
        problems.add(line.field_mark, f"absent needs a bool, {field.name} is {field.type}")
