"""Header fields on their way to a runtime: checked for injection, hop-by-hop fields left out, encoded once.

A CR, LF or NUL in a field would become a second request on HTTP/1.1, so names must be tokens, values and request
targets must be free of control characters, and nothing is sent otherwise. Field values are Latin-1 on the wire and in
`str`, so any byte a client sent comes out as it went in.

Most calls to one route carry the same fields. Encoded fields are therefore cached by the tuple they came from; the
cache is emptied when full, which costs less than keeping an order of use.
"""

import re
from collections.abc import Callable
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import HOP_BY_HOP, Headers

_OURS: Final = HOP_BY_HOP | {"host", "content-length", "expect"}

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TARGET = re.compile(r"/[\x21-\x7e]*|\*")

_CACHE_ENTRIES: Final = 1024
_CACHE_VALUE_BYTES: Final = 4096


def _refuse(what: str) -> BridgeError:
    return BridgeError(Code.INVALID_ARGUMENT, f"cannot be sent to the runtime: {what}")


def check_target(method: str, path: str) -> None:
    """Raise INVALID_ARGUMENT unless both can stand in a request line."""
    if not _TOKEN.fullmatch(method):
        raise _refuse(f"method {method!r}")
    if not _TARGET.fullmatch(path):
        raise _refuse(f"request target {path[:80]!r}")


def sendable(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The fields to send, lower-case names and Latin-1 values, without those the pool itself is in charge of."""
    fields = []
    for name, value in headers:
        name = name.lower()
        if not _TOKEN.fullmatch(name):
            raise _refuse(f"header name {name[:80]!r}")
        if name in _OURS:
            continue
        if _BAD_VALUE.search(value):
            raise _refuse(f"header {name!r}: its value has a control character")
        try:
            fields.append((name.encode("ascii"), value.strip(" \t").encode("latin-1")))
        except UnicodeEncodeError:
            raise _refuse(f"header {name!r}: its value has a character beyond Latin-1") from None
    return fields


class EncodedHead:
    """Encodes request heads: a part fixed by method and path, then the caller's fields; each cached."""

    def __init__(
        self, route: Callable[[str, str], bytes], fields: Callable[[list[tuple[bytes, bytes]]], bytes]
    ) -> None:
        self._encode_route = route
        self._encode_fields = fields
        self._routes: dict[tuple[str, str], bytes] = {}
        self._fields: dict[Headers, bytes] = {}

    def __call__(self, method: str, path: str, headers: Headers, own: Headers = ()) -> bytes:
        """The encoded head; INVALID_ARGUMENT when a part of it may not be sent. What is `own` is not kept."""
        route = self._routes.get((method, path))
        if route is None:
            check_target(method, path)
            route = self._encode_route(method, path)
            _remember(self._routes, (method, path), route)
        fields = self._fields.get(headers)
        if fields is None:
            fields = self._encode_fields(sendable(headers))
            _remember(self._fields, headers, fields)
        return route + fields + self._encode_fields(sendable(own)) if own else route + fields


def _remember[Key](cache: dict[Key, bytes], key: Key, value: bytes) -> None:
    if len(value) > _CACHE_VALUE_BYTES:
        return
    if len(cache) >= _CACHE_ENTRIES:
        cache.clear()
    cache[key] = value
