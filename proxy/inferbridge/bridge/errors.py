"""The neutral error: one form for every failure, turned into the client's dialect at the edge."""

from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes (google.rpc.Code), the neutral vocabulary of failures."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class BridgeError(Exception):
    """A failure the client must see: `code`, `message`, and the HTTP status when it is more exact than the code's."""

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        status: int | None = None,
        retry_after: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        """HTTP status for a REST client where the table of `code` is too coarse (405, 413, 415, 431 …)."""
        self.retry_after = retry_after
        """Seconds, for `Retry-After`."""
        self.headers = headers
        """Further headers of a REST answer: `www-authenticate`, `allow`."""


def invalid(message: str) -> BridgeError:
    """The client sent something that cannot be translated (400 / INVALID_ARGUMENT)."""
    return BridgeError(Code.INVALID_ARGUMENT, message)
