"""Errors as caikit's runtime words them: `{"details", "code", "id"}`, in a stream as an event named `error`."""

import uuid

import msgspec

from inferbridge.bridge.context import Context, RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.json_errors import error_headers, event_error, status_of
from inferbridge.bridge.values import Buffer, HttpReply


def reply(error: BridgeError, profile: RuntimeProfile | None) -> HttpReply:
    """An error answer."""
    return HttpReply(status_of(error, profile), error_headers(error), (event(error, profile),))


def event(error: BridgeError, profile: RuntimeProfile | None) -> bytes:
    """The same inside a stream."""
    body = {"details": error.message, "code": status_of(error, profile), "id": uuid.uuid4().hex}
    return msgspec.json.encode(body)


def read_event(name: str, data: Buffer, context: Context) -> BridgeError | None:
    """The neutral error of an event named `error`; its `code` is a status."""
    if name != "error":
        return None
    try:
        code = msgspec.json.decode(bytes(data)).get("code")
    except (msgspec.DecodeError, AttributeError):
        code = None
    return event_error(data, code, context)
