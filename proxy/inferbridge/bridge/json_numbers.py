"""JSON arrays to raw tensor bytes and back.

Two ways in. Small arrays are decoded to a Python list, checked by type and packed. Large ones are never turned into
Python objects: their structure is checked by deleting everything but brackets and commas and comparing the rest with
what the shape asks for (which proves count and nesting at once), then the numbers are parsed in segments by simdjson
(or orjson) straight into arrays.
"""

import json
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import msgspec
import orjson

from inferbridge.bridge.datatypes import bytes_elements, element_count, frame_bytes, item_size
from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.tensors import _CODES as INTEGER_CODES
from inferbridge.bridge.tensors import integers
from inferbridge.bridge.values import Buffer

type NanPolicy = Literal["reject", "null", "literal"]

SMALL = 4 * 1024
"""Bytes of JSON below which a Python list is cheaper than an array."""
_SEGMENT = 128 * 1024
_ELEMENTS_AS_LIST = 256
_MAX_DEPTH = 64
_SPACE = b" \t\r\n"
_NUMBER = b"0123456789+-.eE" + _SPACE
_NOT_STRUCTURE = bytes(octet for octet in range(256) if octet not in b"[],")
_FLAT = bytes.maketrans(b"[]", b"  ")
_FLOAT_FORMATS = {"FP16": "e", "FP32": "f", "FP64": "d"}


def parse(text: Buffer, datatype: str, shape: Sequence[int], name: str, nan: NanPolicy) -> Buffer:
    """Raw bytes of a JSON array, flat or nested as the shape says."""
    item_size(datatype, name)
    count = element_count(shape, name)
    if len(text) > SMALL and datatype != "BYTES":
        large = _parse_large(bytes(text), datatype, shape, count, name)
        if large is not None:
            return large
    values = _flatten(_decode(bytes(text), name, nan), shape, count, name)
    return _pack(values, datatype, name, nan, bytes(text))


def _decode(text: bytes, name: str, nan: NanPolicy) -> Any:
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise invalid(f"tensor '{name}': data is nested too deeply") from None
    except msgspec.DecodeError as error:
        if nan != "literal":
            raise invalid(f"tensor '{name}': data is not valid JSON: {error}") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"tensor '{name}': data is not valid JSON: {error}") from None


def _flatten(values: Any, shape: Sequence[int], count: int, name: str) -> list[Any]:
    if not isinstance(values, list):
        raise invalid(f"tensor '{name}': data must be an array")
    if any(isinstance(value, list) for value in values):
        return _unnest(values, shape, name)
    if len(values) != count:
        raise invalid(f"tensor '{name}': shape {list(shape)} needs {count} elements, data has {len(values)}")
    return values


def _unnest(values: list[Any], shape: Sequence[int], name: str) -> list[Any]:
    """Nested data must have exactly the shape's lengths at every level."""
    if len(shape) > _MAX_DEPTH:
        raise invalid(f"tensor '{name}': data is nested too deeply")
    level = [values]
    for depth, dimension in enumerate(shape):
        for part in level:
            if not isinstance(part, list) or len(part) != dimension:
                found = len(part) if isinstance(part, list) else "no list"
                raise invalid(
                    f"tensor '{name}': shape {list(shape)} needs {dimension} items at level {depth + 1}, found {found}"
                )
        level = [item for part in level for item in part]
    if any(isinstance(item, list) for item in level):
        raise invalid(f"tensor '{name}': data is nested deeper than shape {list(shape)}")
    return level


def _pack(values: list[Any], datatype: str, name: str, nan: NanPolicy, text: bytes) -> Buffer:
    kinds = set(map(type, values))
    if datatype == "BYTES":
        _demand(kinds, {str}, values, datatype, name)
        return frame_bytes([_utf8(value, name) for value in values])
    if datatype == "BOOL":
        _demand(kinds, {bool}, values, datatype, name)
        return bytes(values)
    code = INTEGER_CODES.get(datatype)
    if code:
        _demand(kinds, {int}, values, datatype, name)
        return integers(values, code, datatype, name)
    if nan != "reject" and type(None) in kinds:
        values = [math.nan if value is None else value for value in values]
        kinds.discard(type(None))
    _demand(kinds, {int, float}, values, datatype, name)
    return _pack_floats(values, datatype, name, text)


def _demand(kinds: set[type], allowed: set[type], values: list[Any], datatype: str, name: str) -> None:
    if kinds <= allowed:
        return
    wrong = next(value for value in values if type(value) not in allowed)
    shown = json.dumps(wrong)
    raise invalid(f"tensor '{name}': {shown if len(shown) < 80 else shown[:77] + '…'} is not a value of {datatype}")


def _utf8(value: str, name: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise invalid(f"tensor '{name}': a string has a lone surrogate") from None


def _pack_floats(values: list[Any], datatype: str, name: str, text: bytes) -> Buffer:
    if datatype == "FP64":
        return _pack_doubles(values, name)
    if datatype == "FP32":
        doubles = _pack_doubles(values, name)
        # 0x10000000 in the low 29 bits: on the midpoint of two float32 values, see float_text
        if all(bits & 0x1FFFFFFF != 0x10000000 for (bits,) in struct.iter_unpack("<Q", doubles)):
            try:
                packed = struct.pack(f"<{len(values)}f", *values)
            except OverflowError:
                wrong = next(value for value in values if abs(value) > 3.4028234e38 and math.isfinite(value))
                raise invalid(f"tensor '{name}': {wrong!r} is out of the range of FP32") from None
            if all(abs(value) >= 1.2e-38 or value == 0 or value != value for value in values):
                return packed
    return _narrow(values, datatype, name, text)


def _pack_doubles(values: list[Any], name: str) -> bytes:
    try:
        return struct.pack(f"<{len(values)}d", *values)
    except OverflowError:
        raise invalid(f"tensor '{name}': a number is out of the range of FP64") from None


def _narrow(values: list[Any], datatype: str, name: str, text: bytes) -> bytes:
    import numpy as np  # 170 ms that small plain numbers never need

    from inferbridge.bridge.float_text import narrow  # as above

    return narrow(np.array(values, np.float64), datatype, _texts(text), name)


def _texts(text: bytes) -> Callable[[int], str]:
    tokens: list[bytes] = []

    def text_of(index: int) -> str:
        if not tokens:
            tokens.extend(text.translate(None, b"[]" + _SPACE).split(b","))
        return tokens[index].decode()

    return text_of


def _parse_large(text: bytes, datatype: str, shape: Sequence[int], count: int, name: str) -> bytes | None:
    """As `parse` for a large array of plain numbers or bools; None when it has anything else in it."""
    allowed = b"truefals" + _SPACE if datatype == "BOOL" else _NUMBER
    if text.translate(None, allowed + b"[],"):
        return None
    structure = text.translate(None, _NOT_STRUCTURE)
    if structure != b"[" + b"," * (count - 1) + b"]" and structure != _nested(shape):
        return None  # the slow way finds out what is wrong and where
    if datatype in INTEGER_CODES and text.translate(None, b"0123456789-[]," + _SPACE):
        return None
    flat = text.translate(_FLAT)
    if datatype == "BOOL":
        return b"".join(bytes(orjson.loads(b"[" + piece + b"]")) for piece in _segments(flat))
    return _parse_numbers(flat, datatype, text, count, name)


def _nested(shape: Sequence[int]) -> bytes:
    structure = b""
    for dimension in reversed(shape):
        structure = b"[" + b",".join([structure] * dimension) + b"]"
    return structure


def _segments(flat: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(flat):
        stop = flat.find(b",", at + _SEGMENT)
        stop = len(flat) if stop < 0 else stop
        yield flat[at:stop]
        at = stop + 1


def _parse_numbers(flat: bytes, datatype: str, text: bytes, count: int, name: str) -> bytes | None:
    import numpy as np  # 170 ms that small messages never need

    from inferbridge.bridge.float_text import narrow  # as above
    from inferbridge.bridge.segments import numbers  # as above

    kind = {"UINT64": "u"}.get(datatype, "i" if datatype in INTEGER_CODES else "d")
    out = np.empty(count, {"u": np.uint64, "i": np.int64, "d": np.float64}[kind])
    at = 0
    for piece in _segments(flat):
        parsed = numbers(piece, kind)
        if parsed is None:
            return None
        out[at : at + len(parsed)] = parsed
        at += len(parsed)
    if kind == "d":
        return narrow(out, datatype, _texts(text), name)
    code = INTEGER_CODES[datatype]
    limits = np.iinfo(code)
    if (out < limits.min).any() or (out > limits.max).any():
        wrong = out[(out < limits.min) | (out > limits.max)][0]
        raise invalid(f"tensor '{name}': {wrong} is not a value of {datatype}")
    return bytes(out.astype(np.dtype(code).newbyteorder("<")).tobytes())


def write(raw: Buffer, datatype: str, name: str, nan: NanPolicy) -> bytes:
    """The flat JSON array of raw bytes; narrow floats are widened to double first, as every V2 runtime does."""
    if datatype == "BYTES":
        return msgspec.json.encode([_text(element, name) for element in bytes_elements(raw, name)])
    if datatype == "BOOL":
        return msgspec.json.encode(list(map(bool, bytes(raw))))
    count = len(raw) // item_size(datatype, name)
    if count > _ELEMENTS_AS_LIST or datatype == "BF16":
        return _write_array(raw, datatype, name, nan)
    code = INTEGER_CODES.get(datatype) or _FLOAT_FORMATS[datatype]
    values = struct.unpack(f"<{count}{code}", raw)
    if datatype in _FLOAT_FORMATS and not all(map(math.isfinite, values)):
        return _write_special(list(values), name, nan)
    return msgspec.json.encode(values)


def _text(element: Buffer, name: str) -> str:
    try:
        return str(element, "utf-8")
    except UnicodeDecodeError:
        message = f"tensor '{name}': an element is not UTF-8, so JSON cannot carry it; ask for binary data"
        raise BridgeError(Code.FAILED_PRECONDITION, message) from None


def _write_array(raw: Buffer, datatype: str, name: str, nan: NanPolicy) -> bytes:
    import numpy as np  # 170 ms that small messages never need

    array: Any
    if datatype in INTEGER_CODES:
        array = np.frombuffer(raw, np.dtype(INTEGER_CODES[datatype]).newbyteorder("<"))
        return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
    if datatype == "BF16":
        array = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    else:
        array = np.frombuffer(raw, f"<{_FLOAT_FORMATS[datatype]}").astype(np.float64)
    if not np.isfinite(array).all():
        return _write_special(array.tolist(), name, nan)
    return orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)


def _write_special(values: list[float], name: str, nan: NanPolicy) -> bytes:
    if nan == "reject":
        wrong = next(value for value in values if not math.isfinite(value))
        message = (
            f"tensor '{name}': has {wrong}, which JSON cannot carry; ask for binary data or set nan: null or literal"
        )
        raise BridgeError(Code.FAILED_PRECONDITION, message)
    if nan == "null":
        return msgspec.json.encode([value if math.isfinite(value) else None for value in values])
    return json.dumps(values, separators=(",", ":")).encode()
