"""gRPC bodies as JSON that can be edited and turned back: an object, or a list of several messages.

Only what survives the way there and back is offered: a body with fields that no proto names, or one that is broken or
cut off, is refused instead of shown in part, since turning it back would lose the rest.
"""

import json
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import frame, unframe
from inferbridge.bridge.transcode import to_json, to_message
from inferbridge.bridge.values import join
from inferbridge.bridge.wire import Unknown, unknown_names
from inferbridge.inspect.exact_json import exact_json

LIMIT = 1024 * 1024
"""Bytes of each message; more is nothing to be edited by hand."""


def editable_text(body: bytes, descriptor: Descriptor, encoding: str) -> str:
    """The messages, laid out; ValueError says why this body cannot be edited."""
    try:
        wires = [bytes(join(chunks)) if chunks else b"" for chunks in unframe(body, encoding, LIMIT)]
        values = [_value(wire, descriptor) for wire in wires]
    except BridgeError as error:
        raise ValueError(error.message) from None
    return _printable(json.dumps(values[0] if len(values) == 1 else values, ensure_ascii=False, indent=2))


def edited_body(text: str, descriptor: Descriptor) -> bytes:
    """The body of such a text, uncompressed, which any `grpc-encoding` allows; ValueError says what does not fit."""
    value = exact_json(text)
    values = value if isinstance(value, list) else [value]
    try:
        wires = [to_message(json.dumps(each).encode(), descriptor, limit=LIMIT) for each in values]
    except BridgeError as error:
        raise ValueError(error.message) from None
    return bytes(join(frame((wire,) for wire in wires))) if wires else b""


def _value(wire: bytes, descriptor: Descriptor) -> Any:
    unknown: Unknown = []
    text = to_json(wire, descriptor, original_names=True, plain_integers=True, limit=LIMIT, unknown=unknown)
    if unknown:
        raise ValueError(f"no proto has {', '.join(unknown_names(unknown))}: read only")
    if _canonical(to_message(text, descriptor), descriptor) != _canonical(wire, descriptor):
        raise ValueError("JSON cannot say all of it: read only")
    return exact_json(text.decode())


def _canonical(wire: bytes, descriptor: Descriptor) -> bytes:
    return GetMessageClass(descriptor).FromString(wire).SerializeToString(deterministic=True)


def _printable(text: str) -> str:
    """JSON in which interfaces have nothing to replace: what is not printable is escaped."""
    return "".join(letter if letter.isprintable() or letter == "\n" else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
