"""What the JSON error dialects share: the status and headers of an error, and a runtime's error read from an event."""

from typing import Any

from inferbridge.bridge.context import Context, RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.rest import CODE_TO_HTTP, JSON_HEADERS, error_of
from inferbridge.bridge.values import Buffer, Headers, HttpReply


def error_headers(error: BridgeError) -> Headers:
    """The headers of a JSON error answer."""
    if error.retry_after is None:
        return (*JSON_HEADERS, *error.headers)
    return (*JSON_HEADERS, ("retry-after", str(error.retry_after)), *error.headers)


def status_of(error: BridgeError, profile: RuntimeProfile | None) -> int:
    """The HTTP status of an error."""
    if error.status is not None:
        return error.status
    known = profile.status.get(error.code) if profile else None
    return known or CODE_TO_HTTP.get(error.code, 500)


def event_error(data: Buffer, code: Any, context: Context) -> BridgeError:
    """The neutral error of an event with this `code`: an HTTP status, or anything else for 500."""
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return error_of(HttpReply(status, (), (data,)), context)
