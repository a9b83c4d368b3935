"""Open Inference bodies with tensors: read and written as half-bridges do, and the truth to hold them against."""

import json
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_tensors import TensorSink, TensorSource
from inferbridge.bridge.values import Buffer, join

INTEGERS = {f"{sign}INT{bits}": (sign == "U", bits) for sign in ("", "U") for bits in (8, 16, 32, 64)}
FLOATS = ("FP16", "BF16", "FP32", "FP64")
DATATYPES = ("BOOL", *INTEGERS, *FLOATS, "BYTES")
DIGITS = {"FP16": (11, -14, 15), "BF16": (8, -126, 127), "FP32": (24, -126, 127), "FP64": (53, -1022, 1023)}
"""Significand bits, least and greatest exponent."""


class Tensor(msgspec.Struct, omit_defaults=True):
    """A tensor as a generated REST struct has it."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Body(msgspec.Struct):
    """A body as a generated REST struct has it."""

    inputs: list[Tensor]
    id: str = ""


def tensor(data: str | bytes, datatype: str = "FP32", shape: list[int] | None = None, name: str = "x") -> bytes:
    """One tensor's JSON text; the shape defaults to the number of commas."""
    text = data if isinstance(data, bytes) else data.encode()
    head = {"name": name, "datatype": datatype, "shape": [text.count(b",") + 1] if shape is None else shape}
    return json.dumps(head)[:-1].encode() + b',"data":' + text + b"}"


def body(*tensors: bytes) -> bytes:
    """A body's JSON text."""
    return b'{"inputs":[' + b",".join(tensors) + b"]}"


def read_all(text: Buffer, header_length: int | None = None, nan: NanPolicy = "reject") -> list[bytes]:
    """Raw data of every tensor of a body."""
    source = TensorSource(text, header_length, nan)
    found = msgspec.json.decode(source.json, type=Body)
    data = [
        bytes(source.take(item.data, item.datatype, item.shape, item.parameters, item.name)) for item in found.inputs
    ]
    source.finish()
    return data


def read(data: str | bytes, datatype: str, shape: list[int] | None = None, nan: NanPolicy = "reject") -> bytes:
    """Raw data of one tensor."""
    return read_all(body(tensor(data, datatype, shape)), nan=nan)[0]


def refused(text: Buffer, nan: NanPolicy = "reject", header_length: int | None = None) -> str:
    """The message with which a body is refused, by us or by the struct decoder."""
    with pytest.raises((BridgeError, msgspec.DecodeError)) as caught:
        read_all(text, header_length, nan)
    return str(caught.value)


def write(raw: Buffer, datatype: str, shape: list[int], nan: NanPolicy = "reject") -> bytes:
    """The `data` of one tensor as JSON text."""
    text, header_length = write_all([(raw, datatype, shape, False)], nan)
    assert header_length is None
    return text.split(b'"data":', 1)[1].removesuffix(b"}]" + b',"id":""}')


def write_all(
    tensors: list[tuple[Buffer, str, list[int], bool]], nan: NanPolicy = "reject"
) -> tuple[bytes, int | None]:
    """A body of these (raw, datatype, shape, binary), joined, and the length of its JSON part."""
    sink = TensorSink(nan)
    items = []
    for number, (raw, datatype, shape, binary) in enumerate(tensors):
        data, size = sink.put(raw, datatype, shape, f"t{number}", binary)
        parameters = msgspec.UNSET if size is None else {"binary_data_size": size}
        items.append(Tensor(f"t{number}", shape, datatype, parameters, data))
    chunks, header_length = sink.finish(msgspec.json.encode(Body(items)))
    return bytes(join(chunks)), header_length


def rounded(text: str, datatype: str) -> bytes | None:
    """The raw float nearest to a decimal text, ties to even, by exact arithmetic; None when out of range."""
    digits, least, greatest = DIGITS[datatype]
    exact = abs(Fraction(Decimal(text)))
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    exponent = max(least, exponent if Fraction(2) ** exponent <= exact else exponent - 1)
    place = Fraction(2) ** (exponent - digits + 1)
    value = round(exact / place) * place  # of a Fraction: half to even
    if value >= Fraction(2) ** (greatest + 1):
        return None
    return encoded(float(-value if text.startswith("-") else value), datatype, negative=text.startswith("-"))


def encoded(value: float, datatype: str, *, negative: bool = False) -> bytes:
    """The raw form of a float that the datatype holds exactly."""
    if negative and value == 0:
        value = -0.0
    if datatype == "BF16":
        return struct.pack("<f", value)[2:]
    return struct.pack({"FP16": "<e", "FP32": "<f", "FP64": "<d"}[datatype], value)


def decoded(raw: bytes, datatype: str) -> float:
    """The value of a raw float."""
    if datatype == "BF16":
        raw, datatype = b"\0\0" + raw, "FP32"
    value: float = struct.unpack({"FP16": "<e", "FP32": "<f", "FP64": "<d"}[datatype], raw)[0]
    return value
