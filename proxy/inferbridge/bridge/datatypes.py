"""The datatypes of Open Inference tensors, and the checks that every tensor passes.

The neutral form of a tensor's elements ("raw") is little-endian, row-major and contiguous, exactly what the protocol
calls raw contents. An element of BYTES is a little-endian uint32 length followed by that many bytes; an element of
BOOL is one byte, 0 or 1.
"""

import difflib
import struct
from dataclasses import dataclass
from typing import Literal

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.values import Buffer

type Kind = Literal["bool", "int", "float", "bytes"]

MAX_ELEMENTS = 2**31
"""A tensor has fewer elements than this; runtimes count them in 32 bits."""
MAX_DIMENSIONS = 64
FEW = 64
"""Elements up to which plain Python is faster than numpy."""
LENGTH = struct.Struct("<I")
"""The length before each element of BYTES."""


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype. `size` is bytes per element (0: it varies); `code` is its `struct` format character."""

    name: str
    kind: Kind
    size: int
    code: str
    numpy: str
    low: int = 0
    high: int = 0
    """Least and greatest value of an integer datatype."""


def _integer(name: str, code: str, numpy: str) -> Datatype:
    bits = int(name.lstrip("UINT"))
    low, high = (0, (1 << bits) - 1) if name[0] == "U" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return Datatype(name, "int", bits // 8, code, numpy, low, high)


DATATYPES: dict[str, Datatype] = {
    datatype.name: datatype
    for datatype in (
        Datatype("BOOL", "bool", 1, "?", "bool"),
        _integer("UINT8", "B", "u1"),
        _integer("UINT16", "H", "<u2"),
        _integer("UINT32", "I", "<u4"),
        _integer("UINT64", "Q", "<u8"),
        _integer("INT8", "b", "i1"),
        _integer("INT16", "h", "<i2"),
        _integer("INT32", "i", "<i4"),
        _integer("INT64", "q", "<i8"),
        Datatype("FP16", "float", 2, "e", "<f2"),
        Datatype("FP32", "float", 4, "f", "<f4"),
        Datatype("FP64", "float", 8, "d", "<f8"),
        # numpy has no bfloat16; its bits travel as uint16
        Datatype("BF16", "float", 2, "H", "<u2"),
        Datatype("BYTES", "bytes", 0, "", "object"),
    )
}


def datatype_of(name: str, tensor: str) -> Datatype:
    """The datatype called `name`, of tensor `tensor`; an unknown one is an error that suggests the nearest."""
    datatype = DATATYPES.get(name)
    if datatype is None:
        raise _unknown(name, tensor)
    return datatype


def _unknown(name: str, tensor: str) -> BridgeError:
    near = difflib.get_close_matches(name[:32].upper(), DATATYPES, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]}?" if near else ""
    return invalid(f"tensor {tensor!r}: unknown datatype {name[:32]!r}{hint} (known: {', '.join(DATATYPES)})")


def shape_text(shape: list[int]) -> str:
    """A shape as errors show it: `[2,3]`."""
    return f"[{','.join(map(str, shape[:MAX_DIMENSIONS]))}{',…' if len(shape) > MAX_DIMENSIONS else ''}]"


def element_count(shape: list[int], name: str) -> int:
    """Elements of a tensor of this shape: no dimension is negative and the product is below 2**31."""
    if len(shape) > MAX_DIMENSIONS:
        raise invalid(f"tensor {name!r}: shape has {len(shape)} dimensions, more than {MAX_DIMENSIONS}")
    count = 1
    for dimension in shape:
        if dimension < 0:
            raise invalid(f"tensor {name!r}: shape {shape_text(shape)} has a negative dimension")
        count *= dimension
    # one zero makes the product harmless, yet not what runtimes compute on the way to it
    if count >= MAX_ELEMENTS or (count == 0 and max(shape) >= MAX_ELEMENTS):
        raise invalid(f"tensor {name!r}: shape {shape_text(shape)} has 2**31 elements or more")
    return count


def wrong_count(shape: list[int], name: str, needed: int, found: int, where: str) -> BridgeError:
    """The error of a tensor whose data and shape disagree."""
    plural = "element" if needed == 1 else "elements"
    return invalid(f"tensor {name!r}: shape {shape_text(shape)} needs {needed} {plural}, {where} has {found}")


def check_raw(raw: Buffer, datatype: str, shape: list[int], name: str) -> Buffer:
    """`raw` itself when it is exactly a tensor of this datatype and shape, else an error naming the tensor."""
    kind = datatype_of(datatype, name)
    count = element_count(shape, name)
    if kind.size == 0:
        _check_framing(raw, count, shape, name)
    elif len(raw) != count * kind.size:
        raise invalid(
            f"tensor {name!r}: shape {shape_text(shape)} of {datatype} needs {count * kind.size} bytes,"
            f" the raw data has {len(raw)}"
        )
    elif kind.kind == "bool" and bytes(raw).translate(None, b"\0\1"):
        raise invalid(f"tensor {name!r}: a byte of raw BOOL data is neither 0 nor 1")
    return raw


def _check_framing(raw: Buffer, count: int, shape: list[int], name: str) -> None:
    at, end, found = 0, len(raw), 0
    length_at = LENGTH.unpack_from
    try:
        while at < end:
            at += 4 + length_at(raw, at)[0]
            found += 1
    except struct.error:
        found += 1
        at = end + 1
    if at > end:
        raise invalid(f"tensor {name!r}: element {found - 1} of raw BYTES data is cut off")
    if found != count:
        raise wrong_count(shape, name, count, found, "raw data")


def split_elements(raw: Buffer) -> list[bytes]:
    """The elements of checked raw BYTES data."""
    view = bytes(raw)
    at, end = 0, len(view)
    length_at = LENGTH.unpack_from
    elements = []
    while at < end:
        start = at + 4
        at = start + length_at(view, at)[0]
        elements.append(view[start:at])
    return elements


_LENGTHS = tuple(LENGTH.pack(size) for size in range(1024))


def join_elements(elements: list[bytes]) -> bytes:
    """Raw BYTES data of these elements."""
    parts = [b""] * (2 * len(elements))
    parts[1::2] = elements
    sizes = list(map(len, elements))
    if not sizes or max(sizes) < len(_LENGTHS):
        parts[::2] = map(_LENGTHS.__getitem__, sizes)
    else:
        parts[::2] = map(LENGTH.pack, sizes)
    return b"".join(parts)


def pack_integers(values: list[int], datatype: Datatype, name: str) -> bytes:
    """Raw data of integers, each checked against the datatype's range."""
    if values and (min(values) < datatype.low or max(values) > datatype.high):
        wrong = next(value for value in values if not datatype.low <= value <= datatype.high)
        raise out_of_range(wrong, datatype, name)
    if len(values) <= FEW:
        return struct.pack(f"<{len(values)}{datatype.code}", *values)
    import numpy as np  # 170 ms that small messages never need

    return np.array(values, datatype.numpy).tobytes()


def unpack_numbers(raw: Buffer, datatype: Datatype) -> list[int]:
    """The integers of checked raw data."""
    count = len(raw) // datatype.size
    if count <= FEW:
        return list(struct.unpack(f"<{count}{datatype.code}", raw))
    import numpy as np  # as above

    values: list[int] = np.frombuffer(raw, datatype.numpy).tolist()
    return values


def out_of_range(value: object, datatype: Datatype, name: str) -> BridgeError:
    """The error of an integer that its datatype cannot hold."""
    text = str(value)
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return invalid(f"tensor {name!r}: {shown} is not from {datatype.low} to {datatype.high} ({datatype.name})")
