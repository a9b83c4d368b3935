"""Raw tensor data to the text of a flat JSON array.

FP32, FP16 and BF16 are written as the doubles they are equal to (0.1 as 0.10000000149011612), as every runtime of the
protocol does, so that any client reads the exact value. Integers are exact; BYTES are strings and must be UTF-8.
"""

import math
import re
import struct
from typing import Any

import orjson

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import FEW, Datatype, split_elements
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.values import Buffer


def write(raw: Buffer, kind: Datatype, name: str, nan: NanPolicy) -> bytes:
    """The JSON array of checked raw data."""
    if kind.kind == "bytes":
        return orjson.dumps(_strings(raw, name))
    count = len(raw) // kind.size
    if count > FEW or kind.name == "BF16":
        text = _write_array(raw, kind)
    else:
        text = orjson.dumps(list(struct.unpack(f"<{count}{kind.code}", raw)))
    # NaN and Infinity come out as null, and nothing else in an array of numbers has this letter
    if kind.kind == "float" and b"n" in text:
        return _with_specials(text, raw, kind, name, nan)
    return text


def _write_array(raw: Buffer, kind: Datatype) -> bytes:
    import numpy as np  # 170 ms that small messages never need

    return orjson.dumps(_array(raw, kind, np), option=orjson.OPT_SERIALIZE_NUMPY)


def _array(raw: Buffer, kind: Datatype, np: Any) -> Any:
    values = np.frombuffer(raw, kind.numpy)
    if kind.name == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    if kind.kind == "float":
        values = values.astype(np.float64)
    # orjson refuses byte orders that are spelled out
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _strings(raw: Buffer, name: str) -> list[str]:
    elements = split_elements(raw)
    try:
        return list(map(bytes.decode, elements))
    except UnicodeDecodeError:
        index = next(index for index, element in enumerate(elements) if not _is_text(element))
        message = f"tensor {name!r}: element {index} is not UTF-8, so JSON cannot carry it; ask for binary data"
        raise invalid(message) from None


def _is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def _with_specials(text: bytes, raw: Buffer, kind: Datatype, name: str, nan: NanPolicy) -> bytes:
    if nan == "null":
        return text
    import numpy as np  # as above

    values = _array(raw, kind, np)
    words = [_word(value) for value in values[~np.isfinite(values)].tolist()]
    if nan == "reject":
        message = f"tensor {name!r}: has {words[0].decode()}, which JSON cannot carry; ask for binary data or allow nan"
        raise invalid(message)
    remaining = iter(words)
    return re.sub(rb"null", lambda _: next(remaining), text)


def _word(value: float) -> bytes:
    if math.isnan(value):
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"
