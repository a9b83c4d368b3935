"""Errors as caikit's runtime words them: `{"details", "code", "id"}`, in a stream as an event named `error`."""

import uuid

import msgspec

from inferbridge.bridge.context import Context, RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.rest import CODE_TO_HTTP, JSON_HEADERS, error_of
from inferbridge.bridge.values import Buffer, HttpReply


def reply(error: BridgeError, profile: RuntimeProfile | None) -> HttpReply:
    """An error answer."""
    headers = JSON_HEADERS
    if error.retry_after is not None:
        headers = (*headers, ("retry-after", str(error.retry_after)))
    return HttpReply(_status(error, profile), headers, (event(error, profile),))


def event(error: BridgeError, profile: RuntimeProfile | None) -> bytes:
    """The same inside a stream."""
    body = {"details": error.message, "code": _status(error, profile), "id": uuid.uuid4().hex}
    return msgspec.json.encode(body)


def _status(error: BridgeError, profile: RuntimeProfile | None) -> int:
    known = profile.status.get(error.code) if profile else None
    return error.status or known or CODE_TO_HTTP.get(error.code, 500)


def read_event(name: str, data: Buffer, context: Context) -> BridgeError | None:
    """The neutral error of an event named `error`; its `code` is a status."""
    if name != "error":
        return None
    try:
        code = msgspec.json.decode(bytes(data)).get("code")
    except (msgspec.DecodeError, AttributeError):
        code = None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return error_of(HttpReply(status, (), (data,)), context)
