"""Errors in an API's own words, both ways: an error answer, an error inside a stream, and the reading of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from inferbridge.bridge import dialect_caikit, dialect_openai
from inferbridge.bridge.context import Context, RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_errors import error_headers, event_error, status_of
from inferbridge.bridge.rest import error_of
from inferbridge.bridge.values import Buffer, GrpcReply, HttpReply


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the REST side of an API words its errors."""

    reply: Callable[[BridgeError, RuntimeProfile | None], HttpReply]
    """An error answer."""
    event: Callable[[BridgeError, RuntimeProfile | None], bytes]
    """The data of an error event in a stream, as JSON."""
    read: Callable[[HttpReply, Context], BridgeError]
    """The neutral error of a runtime's error answer."""
    read_event: Callable[[str, Buffer, Context], BridgeError | None]
    """The neutral error of an event with this name and data; None for an ordinary one."""


def error_reply(
    error: BridgeError, *, rest: bool, profile: RuntimeProfile | None = None, dialect: str = ""
) -> HttpReply | GrpcReply:
    """The answer to a client of either protocol; `dialect` is the `errors` of its API."""
    if not rest:
        return GrpcReply(int(error.code), error.message)
    return DIALECTS.get(dialect, OPEN_INFERENCE).reply(error, profile)


def _open_inference_reply(error: BridgeError, profile: RuntimeProfile | None) -> HttpReply:
    """`{"error": text}`, which every V2 client reads; the status is what the runtime's own REST side would give."""
    return HttpReply(status_of(error, profile), error_headers(error), (_open_inference_event(error, profile),))


def _open_inference_event(error: BridgeError, profile: RuntimeProfile | None) -> bytes:
    return msgspec.json.encode({"error": error.message})


def _open_inference_read_event(name: str, data: Buffer, context: Context) -> BridgeError | None:
    return event_error(data, None, context) if bytes(data[:9]) == b'{"error":' else None


OPEN_INFERENCE = Dialect(_open_inference_reply, _open_inference_event, error_of, _open_inference_read_event)
CAIKIT = Dialect(dialect_caikit.reply, dialect_caikit.event, error_of, dialect_caikit.read_event)
OPENAI = Dialect(dialect_openai.reply, dialect_openai.event, error_of, dialect_openai.read_event)
DIALECTS: Mapping[str, Dialect] = {
    "caikit": CAIKIT,
    "grpc-status": OPEN_INFERENCE,
    "open-inference": OPEN_INFERENCE,
    "openai": OPENAI,
}
"""By the name that an API's `errors` gives."""
