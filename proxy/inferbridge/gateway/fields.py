"""What may stand in a message head, whatever the HTTP version: names, values, authority, target, sizes.

A value that carries CR, LF or NUL through a proxy becomes a second request on the other side, so both directions
are checked here, even where a parser has looked already.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.values import HOP_BY_HOP, Headers
from inferbridge.gateway.limits import Limits

REQUEST_ID = "x-request-id"
"""The id of a call, the last field of an answer that has one."""
CONSUMED = HOP_BY_HOP | {"host", "expect"}
"""Fields the codecs act on; the application does not see them."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(r"/[!\"$-~]*")
_AUTHORITY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:\[\]%-]+")
_LENGTH = re.compile(r"[0-9]{1,18}")


def check_name(name: str) -> None:
    """BridgeError unless `name` is a token."""
    if not _NAME.fullmatch(name):
        raise invalid(f"illegal header name {name[:64]!r}")


def check_value(name: str, value: str) -> None:
    """BridgeError if `value` holds a control character other than tab."""
    if _UNSAFE_VALUE.search(value):
        raise invalid(f"control character in the value of header {name!r}")


def check_sizes(fields: Sequence[tuple[bytes, bytes]], limits: Limits) -> None:
    """BridgeError (431) if there are too many fields or too many bytes in them."""
    if len(fields) > limits.header_fields:
        raise _too_large(431, f"more than {limits.header_fields} header fields")
    if sum(len(name) + len(value) for name, value in fields) > limits.header_bytes:
        raise _too_large(431, f"headers larger than {limits.header_bytes} bytes")


def check_target_size(target: bytes, limits: Limits) -> None:
    """BridgeError (414) if the request target is too long."""
    if len(target) > limits.target_bytes:
        raise _too_large(414, f"request target longer than {limits.target_bytes} bytes")


def check_target(target: str) -> None:
    """BridgeError unless `target` is in origin form: printable ASCII from a slash on, without fragment."""
    if not _TARGET.fullmatch(target):
        raise invalid(f"the request target must be a path, not {target[:64]!r}")


def check_authority(authority: str) -> None:
    """BridgeError unless `authority` is `host` or `host:port` without user information."""
    if not _AUTHORITY.fullmatch(authority):
        raise invalid(f"illegal host {authority[:64]!r}")


def content_length(value: str) -> int:
    """The number; BridgeError for anything but plain digits."""
    if not _LENGTH.fullmatch(value):
        raise invalid(f"illegal content-length {value[:64]!r}")
    return int(value)


def end_to_end(fields: Iterable[tuple[str, str]], connection: str = "") -> Headers:
    """The fields that are for the application: none about this connection, and no `host` (it is the authority)."""
    dropped = CONSUMED
    if connection:
        dropped = CONSUMED.union(name.strip().lower() for name in connection.split(","))
    return tuple(field for field in fields if field[0] not in dropped)


@lru_cache(maxsize=512)
def _outgoing_name(name: str) -> str:
    """Lower case; empty for a hop-by-hop field. ValueError for what is no token. Names come from us or a runtime."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"illegal header name in the answer: {name[:64]!r}")
    lowered = name.lower()
    return "" if lowered in HOP_BY_HOP else lowered


def outgoing(headers: Headers) -> list[tuple[str, str]]:
    """Fields of an answer ready for the wire: lower case, no hop-by-hop. ValueError for what must not go there."""
    ready = []
    for name, value in headers:
        if _UNSAFE_VALUE.search(value) or not (value.isascii() or _is_latin(value)):
            raise ValueError(f"illegal value of header {name!r} in the answer")
        lowered = _outgoing_name(name)
        if lowered:
            ready.append((lowered, value))
    return ready


def _is_latin(value: str) -> bool:
    return max(value) <= "\xff"


def declared_length(fields: Iterable[tuple[str, str]]) -> int | None:
    """The content-length of an answer; ValueError if it is not a number or contradicts itself."""
    lengths = [value for name, value in fields if name == "content-length"]
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise ValueError(f"illegal content-length in the answer: {lengths!r}")
    return int(lengths[0])


def _too_large(status: int, message: str) -> BridgeError:
    return BridgeError(Code.RESOURCE_EXHAUSTED, message, status=status)
