"""Tensor elements in protobuf messages: raw byte fields, or the typed lists of `InferTensorContents`."""

import array
import sys
from collections.abc import Sequence
from typing import Any

from inferbridge.bridge.datatypes import check_raw, element_count, frame_bytes, item_size
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.values import Buffer

_LISTS: dict[str, str] = {
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
_FIELDS = tuple(dict.fromkeys(_LISTS.values()))
_CODES = {
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
}  # fmt: skip


def check_raw_count(raw_list: Sequence[Buffer], tensors: int, where: str) -> None:
    """Raw entries go to tensors by position, so there must be one for each, or none at all."""
    if raw_list and len(raw_list) != tensors:
        raise invalid(f"{where} has {len(raw_list)} entries for {tensors} tensors")


def tensor_data(
    contents: Any, raw_list: Sequence[Buffer], index: int, datatype: str, shape: Sequence[int], name: str
) -> Buffer:
    """Raw bytes of tensor `index`. The raw list decides: MLServer sets an empty `contents` beside it."""
    if not raw_list:
        return from_contents(contents, datatype, shape, name)
    if contents is not None and any(len(getattr(contents, field)) for field in _FIELDS):
        raise invalid(f"tensor '{name}': has both contents and raw contents")
    return check_raw(raw_list[index], datatype, shape, name)


def from_contents(contents: Any, datatype: str, shape: Sequence[int], name: str) -> Buffer:
    """Raw bytes of a typed list; `contents` is a decoded `InferTensorContents` or None."""
    count = element_count(shape, name)
    item_size(datatype, name)
    filled = [field for field in _FIELDS if contents is not None and len(getattr(contents, field))]
    if not filled:
        if count:
            raise invalid(f"tensor '{name}': shape {list(shape)} needs {count} elements, contents has none")
        return b""
    wanted = _LISTS.get(datatype)
    if wanted is None:
        raise invalid(f"tensor '{name}': {datatype} has no place in contents; send it in the raw contents")
    if filled != [wanted]:
        raise invalid(f"tensor '{name}': {datatype} belongs in contents.{wanted}, found {', '.join(filled)}")
    return check_raw(_raw_of(getattr(contents, wanted), datatype, name), datatype, shape, name)


def _raw_of(values: Any, datatype: str, name: str) -> Buffer:
    if datatype == "BYTES":
        return frame_bytes(values)
    code = _CODES.get(datatype)
    return values if code is None else integers(values, code, datatype, name)


def integers(values: Sequence[int], code: str, datatype: str, name: str) -> bytes:
    """Raw bytes of whole numbers; `code` is of the `array` module."""
    try:
        numbers = array.array(code, values)
    except (OverflowError, TypeError):
        wrong = next(value for value in values if not _fits(value, code))
        raise invalid(f"tensor '{name}': {wrong!r} is not a value of {datatype}") from None
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _fits(value: object, code: str) -> bool:
    try:
        array.array(code, [value])  # type: ignore[list-item]  # whether it fits is the question
    except (OverflowError, TypeError):
        return False
    return True
