"""Renders structs: the operations' neutral values, and the JSON bodies of REST bindings."""

from collections.abc import Callable, Iterable, Mapping

from inferbridge_codegen.model.types import Api, Field, Model, Struct, class_name
from inferbridge_codegen.model.wire_view import json_attribute
from inferbridge_codegen.render.environment import render
from inferbridge_codegen.render.lines import formatted

_TYPES = {
    "string": "str",
    "bool": "bool",
    "int64": "int",
    "uint64": "int",
    "double": "float",
    "any": "Any",
    "bytes": "bytes",
}


def render_operations(model: Model) -> str:
    """Source of the neutral values of all operations."""
    enums = {enum.name: " | ".join(f'"{value}"' for value in enum.values) for enum in model.enums}
    tops = [struct for item in model.operations for struct in (item.request, item.reply, item.message) if struct]
    structs = [*_ordered(model.types), *tops]
    lines = [(struct, _fields(struct, lambda field: _neutral(field, enums))) for struct in structs]
    uses_any = any(": Any" in line or "[Any" in line for _, fields in lines for line in fields)
    source = render("operations.py.jinja", structs=lines, enums=model.enums, class_name=class_name, uses_any=uses_any)
    return formatted(source)


def render_schemas(api: Api) -> str:
    """Source of the JSON bodies of an API."""
    structs = [(struct, _fields(struct, _json)) for struct in _ordered(api.schemas)]
    uses_any = any("Any" in line for _, fields in structs for line in fields)
    return formatted(render("schemas.py.jinja", api=api, structs=structs, uses_any=uses_any))


def _ordered(structs: Iterable[Struct]) -> list[Struct]:
    """Structs after those that they contain."""
    left = {struct.name: struct for struct in structs}
    ordered: list[Struct] = []
    while left:
        free = [struct for struct in left.values() if not any(field.type.base in left for field in struct.fields)]
        for struct in free or list(left.values()):
            ordered.append(left.pop(struct.name))
    return ordered


def _fields(struct: Struct, declare: Callable[[Field], str]) -> list[str]:
    return [declare(field) for field in struct.fields]


def _neutral(field: Field, enums: Mapping[str, str]) -> str:
    base = {"tensor": "Buffer", "map<parameter>": "dict[str, Parameter]"}.get(field.type.base)
    if field.type.base in enums:
        base = class_name(field.type.base)
    kind = base or _TYPES.get(field.type.base, field.type.base)
    if field.type.is_list:
        kind = f"list[{kind}]"
    if field.type.is_optional:
        kind = f"{kind} | None"
    return f"{field.name}: {kind}" + ("" if field.required else f" = {field.default}")


def _json(field: Field) -> str:
    name = json_attribute(field.name)
    renamed = name != field.name
    if field.type.base == "tensor":
        return f"{name}: msgspec.Raw | UnsetType = UNSET"
    base = "dict[str, Any]" if field.type.base == "map<parameter>" else _TYPES.get(field.type.base, field.type.base)
    kind = f"list[{base}]" if field.type.is_list else base
    if field.required:
        return f"{name}: {kind}" + (f' = msgspec.field(name="{field.name}")' if renamed else "")
    default = f'msgspec.field(default=UNSET, name="{field.name}")' if renamed else "UNSET"
    return (
        f"{name}: Any = {default}"
        if base == "Any" and kind == base
        else f"{name}: {kind} | UnsetType | None = {default}"
    )
