"""Tensors in JSON bodies: JSON arrays, or bytes after the JSON part (KServe's "binary tensor data extension").

A large body is not decoded in one piece. Arrays under a `"data"` key are cut out and a placeholder string is put in
their place; the small rest goes through the typed decoder, and the arrays through the number kernel. A placeholder
holds a random word of this body, so that no client can write one, and every cut must be asked for exactly once: what
looked like data but was not is found out.
"""

import re
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from inferbridge.bridge import json_numbers
from inferbridge.bridge.datatypes import check_raw, element_count
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.json_numbers import NanPolicy
from inferbridge.bridge.values import Buffer, Chunks

_CUT = re.compile(rb'(?<!\\)"data"\s*:\s*(?=\[\s*[-0-9tfNI\[])')


class TensorSource:
    """Reads the tensors of one body, in order; `json` is what the typed decoder gets."""

    def __init__(self, body: Buffer, header_length: int | None, nan: NanPolicy) -> None:
        self._nan = nan
        text = body if header_length is None else body[:header_length]
        self._tail = memoryview(body)[len(text) :]
        self._at = 0
        self._cuts: dict[bytes, bytes] = {}
        self.json = bytes(text)
        special = nan == "literal" and (b"NaN" in self.json or b"Infinity" in self.json)
        if len(self.json) > json_numbers.SMALL or special:
            self._cut()

    def _cut(self) -> None:
        text, word, parts, at = self.json, secrets.token_hex(8), [], 0
        for found in _CUT.finditer(text):
            stop = _array_end(text, found.end()) if found.start() >= at else 0
            if not stop:
                continue
            placeholder = f'"{word}:{len(self._cuts)}"'.encode()
            self._cuts[placeholder] = text[found.end() : stop]
            parts += (text[at : found.end()], placeholder)
            at = stop
        self.json = b"".join((*parts, text[at:]))

    def take(
        self,
        data: msgspec.Raw | msgspec.UnsetType,
        datatype: str,
        shape: Sequence[int],
        parameters: dict[str, Any] | None | msgspec.UnsetType,
        name: str,
    ) -> Buffer:
        """Raw bytes of one tensor, from its `data` or from the binary tail."""
        size = parameters.get("binary_data_size") if parameters else None
        if size is not None:
            if data is not msgspec.UNSET:
                raise invalid(f"tensor '{name}': has both data and binary_data_size")
            return check_raw(self._take_binary(size, name), datatype, shape, name)
        if data is msgspec.UNSET:
            if element_count(shape, name) == 0:
                return check_raw(b"", datatype, shape, name)
            raise invalid(f"tensor '{name}': has neither data nor binary_data_size")
        text = bytes(data)
        return json_numbers.parse(self._cuts.pop(text, text), datatype, shape, name, self._nan)

    def _take_binary(self, size: Any, name: str) -> memoryview:
        if type(size) is not int or size < 0 or self._at + size > len(self._tail):
            left = len(self._tail) - self._at
            raise invalid(f"tensor '{name}': binary_data_size {size!r} is not a size within the {left} bytes left")
        self._at += size
        return self._tail[self._at - size : self._at]

    def finish(self) -> None:
        """Everything in the body must have been used."""
        if self._at != len(self._tail):
            raise invalid(f"the body has {len(self._tail) - self._at} bytes after its last tensor")
        if self._cuts:
            raise invalid('a "data" array stands where no tensor is, or twice in one tensor')


def _array_end(text: bytes, start: int) -> int:
    """Where an array without strings or objects ends; 0 when there is none."""
    stop = min(at for at in (text.find(b'"', start), text.find(b"}", start), len(text)) if at >= 0)
    return text.rfind(b"]", start, stop) + 1


class TensorSink:
    """Collects the tensors of one body to be written."""

    def __init__(self, nan: NanPolicy) -> None:
        self._nan = nan
        self._tail: list[Buffer] = []

    def put(
        self, raw: Buffer, datatype: str, shape: Sequence[int], name: str, binary: bool
    ) -> tuple[msgspec.Raw | msgspec.UnsetType, int | None]:
        """JSON of the tensor's `data`, or its `binary_data_size`."""
        check_raw(raw, datatype, shape, name)
        if binary:
            self._tail.append(raw)
            return msgspec.UNSET, len(raw)
        return msgspec.Raw(json_numbers.write(raw, datatype, name, self._nan)), None

    def finish(self, text: bytes) -> tuple[Chunks, int | None]:
        """The body's chunks, and the length of its JSON part when bytes follow it."""
        if not self._tail:
            return (text,), None
        return (text, *self._tail), len(text)
