"""What a runtime must not get even where the body goes on unread: JSON that has killed one.

Triton 2.51 ends with all its models on a tensor shape whose product overflows, and on arrays nested some 100 000 deep.
Bodies that cross a bridge are checked where they are read; this is for those that are passed through. They are not
parsed: depth is counted over the brackets outside of strings, and only where there are enough to be deep; shapes are
found by their key, however often it is named and however it is escaped.
"""

import json
import re
from itertools import accumulate

from inferbridge.bridge.datatypes import element_count
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.rest import HEADER_LENGTH, body_of
from inferbridge.bridge.values import HttpRequest, header

MAX_DEPTH = 128
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|$)', re.DOTALL)
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_SHAPE = re.compile(
    rb'"((?:[shape]|\\u[0-9a-fA-F]{4}){5})"[ \t\r\n]*+:[ \t\r\n]*+\[([-+0-9eE., \t\r\n]*+)\]',
)
_WHOLE = re.compile(rb"-?[0-9]+")
_LONGEST = 20
"""Characters of a dimension: more are beyond 64 bits."""


def refuse_deadly_json(call: HttpRequest, *, tensors: bool) -> None:
    """BridgeError (400) for JSON that is too deep or, where it holds `tensors`, has a shape that is too large.

    Also 413 or 415 for a compressed body that is too large, or cannot be read.
    """
    body = bytes(body_of(call))
    text = header(call.headers, HEADER_LENGTH)
    if text is not None and text.isascii() and text.isdigit():
        body = body[: int(text[:18])]
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(body)
    if tensors:
        _check_shapes(body)


def _check_depth(body: bytes) -> None:
    brackets = _STRING.sub(b"", body).translate(None, _ALL_BUT_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise invalid(f"the body is nested more than {MAX_DEPTH} deep")


def _check_shapes(body: bytes) -> None:
    for key, numbers in _SHAPE.findall(body):
        if json.loads(b'"%s"' % key) == "shape":
            found = [number.strip() for number in numbers.split(b",")]
            if all(map(_WHOLE.fullmatch, found)):
                dimensions = [abs(int(number[: _LONGEST + 1])) for number in found]
                element_count(dimensions, "shape")  # -1 is the runtime's to refuse
