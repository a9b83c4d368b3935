"""Parameters, the named scalars of Open Inference calls, between JSON values and the typed choices of the protos."""

import math
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any

from inferbridge.bridge.errors import BridgeError, invalid

type Parameter = bool | int | float | str | bytes

_INT64 = range(-(1 << 63), 1 << 63)
_UINT64_END = 1 << 64
MEMBERS: dict[str, str] = {
    "bool": "bool_param",
    "int64": "int64_param",
    "uint64": "uint64_param",
    "double": "double_param",
    "string": "string_param",
    "bytes": "bytes_param",
}
"""The proto member of each kind of parameter."""


def check_json_parameters(values: dict[str, Any], where: str) -> dict[str, Any]:
    """`values` itself when every one is a boolean, a 64-bit integer, a number or a string; `where` is for the error."""
    for key, value in values.items():
        kind = type(value)
        if kind is str or kind is bool:
            continue
        if kind is int and -(1 << 63) <= value < _UINT64_END:
            continue
        if kind is float and math.isfinite(value):
            continue
        raise _refused(key, value, where)
    return values


def _refused(key: str, value: Any, where: str) -> BridgeError:
    if isinstance(value, int):
        why = "does not fit 64 bits"
    elif isinstance(value, float):
        why = "is not a finite number"
    else:
        kind = {type(None): "null", list: "an array", dict: "an object"}.get(type(value), type(value).__name__)
        why = f"is {kind}; a parameter is a boolean, a number or a string"
    return invalid(f"{where}.parameters.{key} {why}")


def decode_parameters(entries: dict[str, Any], where: str = "parameters") -> dict[str, Any]:
    """Values of a proto's parameter map; `entries` holds structs whose members are None when absent.

    A parameter with no member set is an error: the sender's proto is newer and set one that ours does not know, or the
    runtime dropped a value that its older proto cannot hold.
    """
    return {key: _choice(entry, f"{where}[{key}]") for key, entry in entries.items()}


def _choice(entry: Any, place: str) -> Parameter:
    for member in MEMBERS.values():
        value: Parameter | None = getattr(entry, member, None)
        if value is not None:
            return value
    raise invalid(f"{place} has no value; a kind of parameter this proto does not know was set")


def encode_parameters(
    values: dict[str, Any],
    factory: Callable[..., Any],
    kinds: frozenset[str],
    where: str,
    lose: Callable[[str, str], None],
) -> dict[str, Any]:
    """A proto's parameter map of `values`; `factory` makes an entry from one member.

    `kinds` are those the runtime reads (keys of MEMBERS). What it would drop silently goes to `lose(place, why)`, which
    raises or lets it be left out.
    """
    entries = {}
    for key, value in values.items():
        kind = _kind(value, f"{where}[{key}]")
        if kind in kinds:
            entries[key] = factory(**{MEMBERS[kind]: value})
        else:
            lose(f"{where}[{key}]", f"the runtime takes no {kind} parameters")
    return entries


def _kind(value: Any, place: str) -> str:
    """The kind of parameter that holds `value`; bool comes first, for it is an int in Python."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if value in _INT64:
            return "int64"
        if 0 <= value < _UINT64_END:
            return "uint64"
        raise invalid(f"{place} does not fit 64 bits")
    for type_, kind in ((str, "string"), (float, "double"), (bytes | bytearray | memoryview, "bytes")):
        if isinstance(value, type_):
            return kind
    raise invalid(f"{place} is not a boolean, a number, a string or bytes")


def json_parameters(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Parameters as JSON can carry them: bytes as base64 text; NaN and Infinity are an error."""
    return {key: _json_value(value, f"{where}[{key}]") for key, value in values.items()}


def _json_value(value: Any, place: str) -> bool | int | float | str:
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"{place} is {value}, which JSON cannot carry")
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(value).decode("ascii")
    plain: bool | int | float | str = value
    return plain


def bytes_parameter(value: Any, place: str) -> bytes:
    """Bytes of a parameter that JSON carries as base64 text (a model's files)."""
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return b64decode(value, validate=True)
    except (Base64Error, ValueError):
        pass
    raise invalid(f"{place} must be base64 text")
