"""Errors as vLLM words them in the OpenAI API.

`{"error": {"message", "type", "param", "code"}}` since vLLM 0.10.1, the inner object alone before; `{"detail": …}` is
its web framework's and `{"error": "Unauthorized"}` from its key check. The type names follow vLLM 0.32.
"""

from typing import Any

import msgspec

from inferbridge.bridge.context import Context, RuntimeFault, RuntimeProfile
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.rest import CODE_TO_HTTP, HTTP_TO_CODE, JSON_HEADERS, body_of, error_of
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
    headers = JSON_HEADERS
    if error.retry_after is not None:
        headers = (*headers, ("retry-after", str(error.retry_after)))
    return HttpReply(_status(error), headers, (event(error, profile),))


def event(error: BridgeError, profile: RuntimeProfile | None) -> bytes:
    """The same inside a stream."""
    status = _status(error)
    kind = _TYPES.get(status, "BadRequestError" if status < 500 else "InternalServerError")
    return msgspec.json.encode({"error": {"message": error.message, "type": kind, "param": None, "code": status}})


def _status(error: BridgeError) -> int:
    return error.status or CODE_TO_HTTP.get(error.code, 500)


def read(answer: HttpReply, context: Context) -> BridgeError:
    """The neutral error of a runtime's answer, in any of the forms."""
    try:
        value: Any = msgspec.json.decode(bytes(body_of(answer)))
    except (msgspec.DecodeError, RecursionError):
        return error_of(answer, context)
    inner = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(inner, dict) or not isinstance(inner.get("message"), str):
        return error_of(answer, context)
    code = HTTP_TO_CODE.get(answer.status, Code.UNKNOWN)
    return RuntimeFault(code, inner["message"], status=answer.status if answer.status >= 400 else 502)


def read_event(name: str, data: Buffer, context: Context) -> BridgeError | None:
    """The neutral error of an event, None for an ordinary chunk."""
    if bytes(data[:9]) != b'{"error":':
        return None
    try:
        code = msgspec.json.decode(bytes(data))["error"].get("code")
    except (msgspec.DecodeError, AttributeError, KeyError, TypeError):
        code = None
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    return read(HttpReply(status, (), (data,)), context)
