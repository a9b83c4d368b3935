"""Tensors in JSON bodies: as JSON arrays, or as bytes behind the JSON part ("binary tensor data extension").

Both classes serve one body. Big arrays never pass through the struct codecs: on the way in they are cut out of the text
(`json_cut`), on the way out they are put in behind it. For that a marker number stands in their place that nobody
writes; on the way out it is looked for together with the key before it, quotes included, which no string can contain.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from inferbridge.bridge.context import NanPolicy
from inferbridge.bridge.datatypes import DATATYPES, check_raw, datatype_of, element_count
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.json_cut import LEAST, MARK, Region, cut
from inferbridge.bridge.json_numbers import LARGE, read, read_region
from inferbridge.bridge.json_text import write
from inferbridge.bridge.values import Buffer, Chunks

type Data = msgspec.Raw | msgspec.UnsetType
"""What a tensor's `data` field holds: its JSON text, or nothing."""

_KEY = b'"data"'
_APART = 16 * 1024
"""Bytes of JSON from which an array stays a chunk of its own, not copied into the body."""


class TensorSource:
    """Reads the tensors of one body, in order; `json` is what the struct decoder gets."""

    __slots__ = ("_at", "_nan", "_regions", "_tail", "_texts", "json", "uncut")

    def __init__(self, body: Buffer, header_length: int | None, nan: NanPolicy) -> None:
        """`header_length` is the length of the JSON part when bytes follow it, else None."""
        self._nan = nan
        self._at = self._texts = 0
        self._regions: dict[bytes, Region] = {}
        if header_length is None:
            text, self._tail = bytes(body), memoryview(b"")
        else:
            view = memoryview(body)
            text, self._tail = bytes(view[:header_length]), view[header_length:]
        self.uncut = text
        """The JSON part as it was sent, for the places that errors name."""
        # NaN and Infinity are not JSON, so no array with these may reach the struct decoder
        special = nan == "literal" and (b"NaN" in text or b"Infinity" in text)
        if special or len(text) >= LARGE:
            text, self._regions = cut(text, 0 if special else LEAST)
        self.json = text

    def take(
        self,
        data: Data,
        datatype: str,
        shape: list[int],
        parameters: Mapping[str, Any] | msgspec.UnsetType | None,
        name: str,
    ) -> Buffer:
        """Checked raw data of the next tensor, from its `data` or from the bytes behind the JSON part."""
        size = parameters.get("binary_data_size") if parameters else None
        if size is not None:
            return self._take_binary(data, size, datatype, shape, name)
        kind = DATATYPES.get(datatype) or datatype_of(datatype, name)
        count = element_count(shape, name)
        text = b"null" if data is msgspec.UNSET else bytes(data)
        if text == b"null":
            if count:
                raise invalid(f"tensor {name!r}: has neither data nor the parameter binary_data_size")
            return b""
        self._texts += 1
        region = self._regions.pop(text, None) if self._regions else None
        if region is not None:
            return read_region(region, kind, shape, count, name, self._nan)
        return read(text, kind, shape, count, name, self._nan)

    def _take_binary(self, data: Data, size: Any, datatype: str, shape: list[int], name: str) -> Buffer:
        if data is not msgspec.UNSET and bytes(data) != b"null":
            raise invalid(f"tensor {name!r}: has both data and the parameter binary_data_size")
        left = len(self._tail) - self._at
        if type(size) is not int or not 0 <= size <= left:
            raise invalid(f"tensor {name!r}: binary_data_size is {size!r}, behind the JSON part are {left} bytes left")
        self._at += size
        return check_raw(self._tail[self._at - size : self._at], datatype, shape, name)

    def finish(self) -> None:
        """Refuse a body of which something was not used."""
        if self._at != len(self._tail):
            raise invalid(f"{len(self._tail) - self._at} bytes are left behind the last binary tensor")
        if self._regions:
            raise invalid('the key "data" with an array stands where no tensor has its data, or twice in one tensor')
        if self.json.count(_KEY) > self._texts:
            _refuse_repeated_keys(self.json)


def _refuse_repeated_keys(text: bytes) -> None:
    def check(pairs: list[tuple[str, Any]]) -> None:
        keys = Counter(key for key, _ in pairs)
        if len(keys) != len(pairs):
            raise invalid(f"the key {keys.most_common(1)[0][0]!r} stands twice in one object")

    try:
        json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)
    except UnicodeDecodeError:  # the struct decoder does not look into the first of two values
        raise invalid("the body is not UTF-8") from None


class TensorSink:
    """Writes the tensors of one body, in order."""

    __slots__ = ("_apart", "_nan", "_tail")

    def __init__(self, nan: NanPolicy) -> None:
        self._nan = nan
        self._apart: list[bytes] = []
        self._tail: list[Buffer] = []

    def put(self, raw: Buffer, datatype: str, shape: Sequence[int], name: str, binary: bool) -> tuple[Data, int | None]:
        """The `data` of a tensor and, where it goes behind the JSON part instead, its `binary_data_size`.

        `raw` has been checked. The field that takes the first must be called "data".
        """
        if binary:
            self._tail.append(raw)
            return msgspec.UNSET, len(raw)
        text = write(raw, DATATYPES.get(datatype) or datatype_of(datatype, name), name, self._nan)
        if len(text) < _APART:
            return msgspec.Raw(text), None
        self._apart.append(text)
        return msgspec.Raw(b"%s%05d" % (MARK, len(self._apart))), None

    def finish(self, text: bytes) -> tuple[Chunks, int | None]:
        """The chunks of the body whose encoded struct is `text`; the length of the JSON part when bytes follow it."""
        if not self._apart and not self._tail:
            return (text,), None
        chunks: list[Buffer] = []
        at = 0
        for number, array in enumerate(self._apart, 1):
            marker = b"%s%05d" % (MARK, number)
            start = text.index(b"%s:%s" % (_KEY, marker), at) + len(_KEY) + 1
            chunks += (text[at:start], array)
            at = start + len(marker)
        chunks.append(text[at:])
        if not self._tail:
            return chunks, None
        return (*chunks, *self._tail), sum(map(len, chunks))
