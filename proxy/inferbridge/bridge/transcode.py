"""JSON to protobuf and back by descriptor, by the rules of ProtoJSON: for messages that no generated code knows.

Reading is strict where google.protobuf's own `json_format` loses something without a word: a key given twice, text
that is not base64, an integer that the double of a `google.protobuf.Value` cannot hold. NaN and Infinity are strings
in ProtoJSON, and the bare words are refused.

Work is bounded on both sides: by the size of what comes in and of what goes out, and by MAX_DEPTH nested messages,
beyond which no protobuf parser would follow. All that is wrong is a `BridgeError` INVALID_ARGUMENT that names the
place, such as `inputs[0].shape[1]`; what is too large is RESOURCE_EXHAUSTED.
"""

import json
from collections.abc import Iterable
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, EncodeError
from google.protobuf.message_factory import GetMessageClass

from inferbridge.bridge.errors import BridgeError, invalid
from inferbridge.bridge.framing import too_large
from inferbridge.bridge.transcode_known import known_part
from inferbridge.bridge.transcode_read import fill
from inferbridge.bridge.transcode_scalars import Misfit, real
from inferbridge.bridge.transcode_write import Style, to_value
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import Unknown

LIMIT = 64 * 1024 * 1024
"""Bytes of the text and of the message, unless the caller says otherwise."""


def open_pool(descriptor_set: bytes) -> DescriptorPool:
    """A pool of its own for a serialized `FileDescriptorSet`, imports first; variants of an API use the same names."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptor_set).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def to_message(text: Buffer, descriptor: Descriptor, *, limit: int = LIMIT) -> bytes:
    """The wire bytes of a JSON text; fields go by their lowerCamelCase or their original names."""
    return _wire_of(_parsed(text, limit), descriptor, limit)


def to_known_message(text: Buffer, descriptor: Descriptor, *, limit: int = LIMIT) -> tuple[bytes, list[str]]:
    """The wire bytes of what the descriptor knows of a JSON text, and the places of the rest, where it is not null."""
    lost: list[str] = []
    value = known_part(_parsed(text, limit), descriptor, "", lost)
    return _wire_of(value, descriptor, limit), lost


def _wire_of(value: Any, descriptor: Descriptor, limit: int) -> bytes:
    message = GetMessageClass(descriptor)()
    try:
        fill(message, value, 1)
        wire = message.SerializeToString(deterministic=True)
    except Misfit as misfit:
        raise invalid(misfit.text()) from None
    except EncodeError as error:  # a required field of proto2 is missing
        raise invalid(str(error)) from None
    return _bounded(wire, limit)


def to_json(
    wire: Buffer,
    descriptor: Descriptor,
    *,
    original_names: bool,
    plain_integers: bool,
    limit: int = LIMIT,
    unknown: Unknown | None = None,
) -> bytes:
    """The compact JSON text of a message; fields at their default are left out, as ProtoJSON says.

    `original_names` writes the names of the proto instead of lowerCamelCase; `plain_integers` writes 64-bit integers
    as numbers instead of strings, all digits. Fields that the descriptors do not know have no name and cannot be
    written; `unknown` takes their message's full name and their number.
    """
    try:
        message = GetMessageClass(descriptor).FromString(bytes(_bounded(wire, limit)))
        value = to_value(message, Style(original_names, plain_integers, unknown), 1)
    except DecodeError as error:
        raise invalid(f"malformed {descriptor.full_name}: {error}") from None
    except Misfit as misfit:
        raise invalid(misfit.text()) from None
    return _bounded(orjson.dumps(value), limit)


def _bounded[B: Buffer](data: B, limit: int) -> B:
    if len(data) > limit:
        raise too_large(len(data), limit)
    return data


def _parsed(text: Buffer, limit: int) -> Any:
    try:
        # not from bytes: that would guess at UTF-16 and let lone surrogates pass
        return json.loads(
            bytes(_bounded(text, limit)).decode(),
            object_pairs_hook=_unique,
            parse_float=real,
            parse_constant=_refuse_constant,
        )
    except RecursionError:
        raise invalid("the JSON is nested too deep") from None
    except UnicodeDecodeError:
        raise invalid("the JSON is not valid UTF-8") from None
    except Misfit as misfit:
        raise _not_json(misfit.reason) from None
    except ValueError as error:
        raise _not_json(str(error)) from None


def _not_json(reason: str) -> BridgeError:
    return invalid(f"not valid JSON: {reason}")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise Misfit(f"{json.dumps(name[:100])} is given twice in one object")
        members[name] = value
    return members


def _refuse_constant(word: str) -> Any:
    raise Misfit(f'{word} is written as a string, "{word}"')
