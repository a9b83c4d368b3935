"""Errors as vLLM words them in the OpenAI API.

The form is `{"error": {"message", "type", "param", "code"}}`, the type names are those of vLLM 0.32. Older forms and
others that runtimes answer with are read by content (`rest.error_of`). vLLM's own 401 holds no message at all, so who
is not recognised is told as by OpenAI itself.
"""

import msgspec

from inferbridge.bridge.context import Context, RuntimeFault, RuntimeProfile
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.json_errors import error_headers, event_error, status_of
from inferbridge.bridge.values import Buffer, HttpReply

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    429: "RateLimitError",
    501: "NotImplementedError",
    503: "ServiceUnavailableError",
}


def reply(error: BridgeError, profile: RuntimeProfile | None) -> HttpReply:
    """An error answer."""
    return HttpReply(status_of(error, None), error_headers(error), (event(error, profile),))


def event(error: BridgeError, profile: RuntimeProfile | None) -> bytes:
    """The same inside a stream."""
    status = status_of(error, None)  # the API has statuses of its own
    if error.code is Code.UNAUTHENTICATED and not isinstance(error, RuntimeFault):
        told = {"message": error.message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
        return msgspec.json.encode({"error": told})
    kind = _TYPES.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    return msgspec.json.encode({"error": {"message": error.message, "type": kind, "param": None, "code": status}})


def read_event(name: str, data: Buffer, context: Context) -> BridgeError | None:
    """The neutral error of an event, None for an ordinary chunk."""
    if bytes(data[:9]) != b'{"error":':
        return None
    try:
        code = msgspec.json.decode(bytes(data))["error"].get("code")
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        code = None
    return event_error(data, code, context)
