"""Renders structs: the operations' neutral values, and the JSON bodies of REST bindings."""

from collections.abc import Callable, Iterable

from inferbridge_codegen.model.types import Api, Field, Model, Struct
from inferbridge_codegen.render.environment import render

_TYPES = {"string": "str", "bool": "bool", "int64": "int", "double": "float"}


def render_operations(model: Model) -> str:
    """Source of the neutral values of all operations."""
    structs = [*model.types, *(struct for item in model.operations for struct in (item.request, item.reply))]
    return render("operations.py.jinja", structs=[(struct, _fields(struct, _neutral)) for struct in structs])


def render_schemas(api: Api) -> str:
    """Source of the JSON bodies of an API."""
    return render(
        "schemas.py.jinja", api=api, structs=[(struct, _fields(struct, _json)) for struct in _ordered(api.schemas)]
    )


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


def _neutral(field: Field) -> str:
    base = {"tensor": "Buffer", "map<parameter>": "dict[str, Parameter]"}.get(field.type.base)
    kind = base or _TYPES.get(field.type.base, field.type.base)
    if field.type.is_list:
        kind = f"list[{kind}]"
    if field.type.is_optional:
        kind = f"{kind} | None"
    return f"{field.name}: {kind}" + ("" if field.required else f" = {field.default}")


def _json(field: Field) -> str:
    if field.type.base in {"tensor", "any"}:
        return f"{field.name}: msgspec.Raw | UnsetType = UNSET"
    base = "dict[str, Any]" if field.type.base == "map<parameter>" else _TYPES.get(field.type.base, field.type.base)
    kind = f"list[{base}]" if field.type.is_list else base
    return f"{field.name}: {kind}" if field.required else f"{field.name}: {kind} | UnsetType | None = UNSET"
