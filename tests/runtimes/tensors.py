"""Tensors for the real runtimes: every datatype at its edges, as the raw bytes the binary tensor extension carries."""

import base64
import struct
from dataclasses import dataclass
from typing import Any

import numpy

INTEGERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
FLOATS = {"FP16": ("<u2", 10), "FP32": ("<u4", 23), "FP64": ("<u8", 52), "BF16": ("<u2", 7)}  # mantissa bits
DATATYPES = ("BOOL", *INTEGERS, *FLOATS, "BYTES")


@dataclass(frozen=True)
class Tensor:
    """A tensor: `raw` is its row-major little-endian memory, BYTES elements each after their length."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes

    def call(self, *, binary: bool = True) -> dict[str, Any]:
        """The tensor as an input of a client call."""
        encoded = base64.b64encode(self.raw).decode()
        return {**self.head(), "raw": encoded, "binary": binary}

    def head(self) -> dict[str, Any]:
        """Name, datatype and shape."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def result(self) -> dict[str, Any]:
        """The tensor as an output of a client's result."""
        return {**self.head(), "raw": base64.b64encode(self.raw).decode()}


def edges(datatype: str) -> Tensor:
    """Two rows of the values that break conversions: extremes, signed zero, subnormals, hard-to-round fractions."""
    if datatype == "BYTES":
        return bytes_tensor("", "a", "ü € 😀", "\0\x1f\x7f", '"\\/', "line\nfeed")
    if datatype == "BOOL":
        return Tensor(datatype, datatype, (2, 3), bytes([1, 0, 0, 1, 1, 0]))
    raw = _integer_edges(datatype) if datatype in INTEGERS else _float_edges(datatype)
    count = len(raw) // _item_size(datatype)
    return Tensor(datatype, datatype, (2, count // 2), raw)


def specials(datatype: str) -> Tensor:
    """Infinities and not-a-numbers, which JSON has no words for."""
    code, mantissa = FLOATS[datatype]
    infinity = _exponent_mask(datatype)
    sign = 1 << (8 * numpy.dtype(code).itemsize - 1)
    quiet = infinity | 1 << (mantissa - 1)
    return _patterns(datatype, [infinity, sign | infinity, quiet, sign | quiet])


def bytes_tensor(*texts: str | bytes) -> Tensor:
    """A BYTES tensor of one row."""
    items = [text.encode() if isinstance(text, str) else text for text in texts]
    raw = b"".join(struct.pack("<I", len(item)) + item for item in items)
    return Tensor("BYTES", "BYTES", (1, len(items)), raw)


def not_text() -> Tensor:
    """BYTES that are no UTF-8."""
    return bytes_tensor(b"\xff\x00\xfe", b"\xc3", b"plain")


def empty(datatype: str) -> Tensor:
    """A tensor without elements."""
    return Tensor(datatype, datatype, (0, 3), b"")


def floats(name: str, *values: float) -> Tensor:
    """An FP32 vector."""
    return Tensor(name, "FP32", (len(values),), struct.pack(f"<{len(values)}f", *values))


def text(name: str, value: str) -> Tensor:
    """A BYTES vector of one text."""
    return Tensor(name, "BYTES", (1,), struct.pack("<I", len(value.encode())) + value.encode())


def _item_size(datatype: str) -> int:
    return 2 if datatype == "BF16" else numpy.dtype(datatype.lower().replace("fp", "float")).itemsize


def _integer_edges(datatype: str) -> bytes:
    kind = numpy.iinfo(datatype.lower())
    # 2**53 + 1 is the first integer a double cannot hold
    values = [kind.min, kind.max, 0, 1, min(kind.max, 2**53 + 1), max(kind.min, -(2**53) - 1)]
    return numpy.array(values, dtype=kind.dtype).tobytes()


def _float_edges(datatype: str) -> bytes:
    code, mantissa = FLOATS[datatype]
    sign = 1 << (8 * numpy.dtype(code).itemsize - 1)
    infinity = _exponent_mask(datatype)
    one = (infinity >> 1) & ~((1 << mantissa) - 1)
    largest, tiny, normal = infinity - 1, 1, 1 << mantissa
    patterns = [0, sign, one, sign | one, one + 1, one - 1, largest, sign | largest, tiny, sign | tiny]
    return _patterns(datatype, [*patterns, normal, normal - 1]).raw


def _exponent_mask(datatype: str) -> int:
    code, mantissa = FLOATS[datatype]
    bits = 8 * numpy.dtype(code).itemsize
    return (1 << (bits - 1)) - (1 << mantissa)


def _patterns(datatype: str, patterns: list[int]) -> Tensor:
    return Tensor(datatype, datatype, (1, len(patterns)), numpy.array(patterns, dtype=FLOATS[datatype][0]).tobytes())
