"""Tensors of the Open Inference Protocol as lines of text: what they are, what their elements are like, what is wrong.

They are found in gRPC messages (typed contents, raw contents) and in REST bodies (JSON arrays, bytes behind the JSON).
Reading is lenient: of a tensor that no runtime would take, all is shown that can be known, and then why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from inferbridge.bridge.datatypes import DATATYPES, Datatype, datatype_of, element_count, shape_text, wrong_count
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_cut import Region
from inferbridge.bridge.values import Buffer
from inferbridge.inspect.page import octets, quoted
from inferbridge.inspect.tensor_values import (
    FIRST,
    Elements,
    json_elements,
    listed_elements,
    raw_elements,
    statistics,
    varint_elements,
)

MAX_TENSORS = 64
"""Tensors of one message that are shown."""
_NAME_LENGTH = 200


@dataclass(slots=True)
class Tensor:
    """A tensor as it was found."""

    name: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list)
    place: str = ""
    """Where its elements are; empty: nowhere in this message."""
    raw: Buffer = b""
    """Elements in the layout of the protocol's raw contents; or, for integers of typed contents, packed varints."""
    is_varints: bool = False
    items: Sequence[Buffer] = ()
    """Elements of `bytes_contents`."""
    region: Region | None = None
    """Elements as a JSON array."""
    notes: list[str] = field(default_factory=list)
    """What is wrong with it."""

    def elements(self, kind: Datatype, among: int) -> Elements:
        """Its elements, of that datatype; it is one of `among` that are read."""
        if self.region is not None:
            return json_elements(self.region.body, self.region.start, self.region.end, kind, among)
        if self.items:
            return listed_elements(self.items)
        return varint_elements(self.raw, kind, among) if self.is_varints else raw_elements(self.raw, kind, among)


def tensor_lines(tensors: Sequence[Tensor]) -> Iterator[str]:
    """Some lines for each tensor; what is wrong begins with `!`."""
    for tensor in tensors[:MAX_TENSORS]:
        yield from _lines(tensor, min(len(tensors), MAX_TENSORS))
    if len(tensors) > MAX_TENSORS:
        yield f"… and {len(tensors) - MAX_TENSORS} more tensors"


def _lines(tensor: Tensor, among: int) -> Iterator[str]:
    head = f"{quoted(tensor.name, _NAME_LENGTH)} {quoted(tensor.datatype, 32)[1:-1]} {shape_text(tensor.shape)}"
    kind = DATATYPES.get(tensor.datatype)
    if not tensor.place:
        yield f"{head}, no data"
    elif kind is None:
        yield f"{head}, {tensor.place}: {octets(tensor.raw)}"
    else:
        elements = tensor.elements(kind, among)
        yield f"{head}, {elements.size} bytes in {tensor.place}"
        yield from (f"  {line}" for line in _element_lines(elements, kind))
        yield from (f"  ! {line}" for line in _mismatches(tensor, elements))
    yield from (f"  ! {note}" for note in [*tensor.notes, *_unknown_datatype(tensor)])


def _element_lines(elements: Elements, kind: Datatype) -> Iterator[str]:
    if not kind.size:
        if elements.texts:
            yield f"first {len(elements.texts)}: {', '.join(elements.texts)}"
        return
    found = statistics(elements.arrays)
    if not found.count:
        return
    mean = "none" if found.mean is None else f"{found.mean:.6g}"
    part = f" (of the first {found.count} of {elements.count})" if found.count != elements.count else ""
    special = f", {found.nan} NaN, {found.infinite} Inf" if kind.kind == "float" else ""
    yield f"min {_plain(found.least)}, max {_plain(found.greatest)}, mean {mean}{special}{part}"
    yield f"first {min(FIRST, len(found.first))}: {', '.join(map(_plain, found.first))}"


def _plain(value: Any) -> str:
    """A number of numpy with no more digits than its type has."""
    return "none" if value is None else str(value)


def _mismatches(tensor: Tensor, elements: Elements) -> Iterator[str]:
    if elements.trouble:
        yield elements.trouble
    try:
        needed = element_count(tensor.shape, tensor.name[:_NAME_LENGTH])
    except BridgeError as error:
        yield error.message
        return
    if elements.count is not None and elements.count != needed:
        yield wrong_count(tensor.shape, tensor.name[:_NAME_LENGTH], needed, elements.count, tensor.place).message


def _unknown_datatype(tensor: Tensor) -> Iterator[str]:
    try:
        datatype_of(tensor.datatype, tensor.name[:_NAME_LENGTH])
    except BridgeError as error:
        yield error.message
