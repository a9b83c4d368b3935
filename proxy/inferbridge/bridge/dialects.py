"""Errors in the client's own words: each API's form of an error answer, and the status that goes with it."""

import msgspec

from inferbridge.bridge.context import RuntimeProfile
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.rest import CODE_TO_HTTP, JSON_HEADERS
from inferbridge.bridge.values import GrpcReply, Headers, HttpReply


def error_reply(error: BridgeError, *, rest: bool, profile: RuntimeProfile | None = None) -> HttpReply | GrpcReply:
    """The answer to a client of either protocol."""
    return rest_error(error, profile) if rest else GrpcReply(int(error.code), error.message)


def rest_error(error: BridgeError, profile: RuntimeProfile | None = None) -> HttpReply:
    """`{"error": text}`, which every V2 client reads; the status is what the runtime's own REST side would give."""
    headers: Headers = JSON_HEADERS
    if error.retry_after is not None:
        headers = (*headers, ("retry-after", str(error.retry_after)))
    return HttpReply(status_of(error, profile), headers, (msgspec.json.encode({"error": error.message}),))


def status_of(error: BridgeError, profile: RuntimeProfile | None) -> int:
    """The HTTP status of an error."""
    if error.status is not None:
        return error.status
    known = profile.status.get(error.code) if profile else None
    return known or CODE_TO_HTTP.get(error.code, 500)
