"""Tensor data between the two places a gRPC message may hold it: typed `contents` and raw contents."""

from collections.abc import Callable
from typing import Any

from inferbridge.bridge.datatypes import (
    Datatype,
    check_raw,
    datatype_of,
    element_count,
    join_elements,
    pack_integers,
    split_elements,
    unpack_numbers,
    wrong_count,
)
from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.values import Buffer

FIELDS: dict[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents for each datatype; FP16 and BF16 have none."""
ALL_FIELDS = tuple(dict.fromkeys(FIELDS.values()))


def check_raw_count(raw_list: list[Buffer], tensor_count: int, where: str) -> None:
    """Refuse a raw contents list (the field `where`) that has not one entry for every tensor."""
    if raw_list and len(raw_list) != tensor_count:
        raise invalid(f"{where} has {len(raw_list)} entries for {tensor_count} tensors; every tensor needs its own")


def tensor_data(
    contents: Any, raw_list: list[Buffer], index: int, datatype: str, shape: list[int], name: str
) -> Buffer:
    """Checked raw data of tensor number `index`, from the raw list when that is used at all, else from `contents`.

    `contents` is an InferTensorContents struct or None. That it is present says nothing: MLServer sets it, empty,
    beside raw contents.
    """
    if not raw_list:
        return _from_contents(contents, datatype, shape, name)
    if contents is not None and _filled(contents):
        raise invalid(f"tensor {name!r}: has both contents and raw contents; send one of them")
    if index >= len(raw_list):
        raise invalid(f"tensor {name!r}: has no raw contents, which have {len(raw_list)} entries")
    return check_raw(raw_list[index], datatype, shape, name)


def _filled(contents: Any) -> list[str]:
    return [field for field in ALL_FIELDS if len(getattr(contents, field))]


def _from_contents(contents: Any, datatype: str, shape: list[int], name: str) -> Buffer:
    kind = datatype_of(datatype, name)
    count = element_count(shape, name)
    filled = _filled(contents) if contents is not None else []
    if not filled:
        if count:
            raise wrong_count(shape, name, count, 0, "contents")
        return b""
    field = FIELDS.get(datatype, "")
    if filled == [field]:
        return _pack(getattr(contents, field), kind, count, shape, name)
    raise _wrong_field(filled, field, datatype, name)


def _wrong_field(filled: list[str], field: str, datatype: str, name: str) -> BridgeError:
    place = f"belongs in {field}" if field else "travels only in raw contents"
    return invalid(f"tensor {name!r}: {datatype} data {place}, not in {' and '.join(filled)}")


def _pack(values: Any, kind: Datatype, count: int, shape: list[int], name: str) -> Buffer:
    found = len(values) // kind.size if kind.kind == "float" else len(values)
    if found != count:
        raise wrong_count(shape, name, count, found, FIELDS[kind.name])
    if kind.kind == "int":
        return pack_integers(values, kind, name)
    if kind.kind == "bytes":
        return join_elements(values)
    return check_raw(values, kind.name, shape, name)


def to_contents[T](raw: Buffer, datatype: str, factory: Callable[..., T]) -> T:
    """An InferTensorContents, made by `factory`, of checked raw data, for runtimes that read no raw contents."""
    field = FIELDS.get(datatype)
    if field is None:
        raise invalid(f"{datatype} data travels only in raw contents, which the runtime does not take")
    kind = datatype_of(datatype, "")
    if kind.kind == "int":
        return factory(**{field: unpack_numbers(raw, kind)})
    if kind.kind == "bytes":
        return factory(**{field: split_elements(raw)})
    return factory(**{field: raw})
