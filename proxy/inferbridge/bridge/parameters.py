"""Free-form parameters: neutral values are bool, int, float and str; each protocol has its own way to type them."""

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

from inferbridge.bridge.errors import invalid

type Parameter = bool | int | float | str
FILE = "file:"
"""How the names of parameters begin that hold a model's files; base64 text in JSON, bytes in protobuf."""
_INT64_MAX = 2**63 - 1
_UINT64_MAX = 2**64 - 1
_MEMBERS = ("bool_param", "int64_param", "string_param", "double_param", "uint64_param")


def check_json_parameters(values: Mapping[str, Any], where: str) -> dict[str, Parameter]:
    """The parameters of a JSON object; what no protocol can carry is refused by name."""
    for key, value in values.items():
        if isinstance(value, bool | str):
            continue
        if isinstance(value, int) and not -(2**63) <= value <= _UINT64_MAX:
            raise invalid(f"{where}.{key}: {value} does not fit 64 bits")
        if not isinstance(value, int | float):
            kind = "an array" if isinstance(value, list) else "an object" if isinstance(value, dict) else "null"
            raise invalid(f"{where}.{key}: must be a bool, number or string, not {kind}")
    return dict(values)


def decode_parameters(entries: Mapping[str, Any], where: str) -> dict[str, Parameter]:
    """The parameters of a protobuf map of `InferParameter` or `ModelRepositoryParameter`."""
    return {key: _value_of(key, entry, f"{where}[{key}]") for key, entry in entries.items()}


def _value_of(key: str, entry: Any, where: str) -> Parameter:
    for member in _MEMBERS:
        value: Parameter | None = getattr(entry, member, None)
        if value is not None:
            return value
    content = getattr(entry, "bytes_param", None)
    if content is not None and not key.startswith(FILE):
        raise invalid(f"{where}: only parameters called {FILE}… may be bytes")
    if content is not None:
        return base64.b64encode(content).decode()
    raise invalid(f"{where}: has no value this proto knows (a double or uint64 sent to an older proto looks like this)")


def encode_parameters(
    values: Mapping[str, Parameter],
    factory: Callable[..., Any],
    kinds: frozenset[str],
    where: str,
    lose: Callable[[str, str], None],
) -> dict[str, Any]:
    """The parameters as a protobuf map; a value whose kind the runtime lacks goes to `lose`."""
    entries = {}
    for key, value in values.items():
        kind = _kind(value)
        if kind not in kinds:
            lose(f"{where}[{key}]", f"the runtime has no parameters of type {kind}")
        elif key.startswith(FILE) and isinstance(value, str):
            entries[key] = factory(bytes_param=_file(value, f"{where}[{key}]"))
        else:
            entries[key] = factory(**{f"{kind}_param": value})
    return entries


def _kind(value: Parameter) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int64" if value <= _INT64_MAX else "uint64"
    return "double" if isinstance(value, float) else "string"


def _file(value: str, where: str) -> bytes:
    """Triton's model repository extension carries files as base64 in JSON and as bytes in protobuf."""
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:  # binascii.Error is one, and so is text that is not ASCII
        raise invalid(f"{where}: must be base64") from None


def check_finite(values: Mapping[str, Parameter], where: str) -> None:
    """JSON has no NaN and no Infinity."""
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise invalid(f"{where}[{key}]: JSON cannot carry {value}")
