"""Reads from a request's head what its client has shown, and gives the head without it.

A credential stands in `Authorization: Bearer <token>` (RFC 6750 §2.1: the scheme in any case, one space) or in a
configured header that holds the token alone. The same credential may stand in two places, two different ones may not:
whoever looked at the other place would see another caller.
"""

import re
from collections.abc import Collection
from functools import lru_cache

from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import TOKEN, TOKEN_BYTES, ClientCertificate, Presented, Token
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.values import Headers
from inferbridge.secret import CREDENTIAL_HEADERS, is_credential_parameter

AUTHORIZATION = "authorization"
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([\x21-\x7e]+)")
_REMEMBERED = 1024
_IDENTITIES = frozenset({"x-maas-user", "x-maas-groups", "x-forwarded-client-cert"})
_REMOVED = CREDENTIAL_HEADERS | _IDENTITIES
_NOTHING = Presented()
_REMOVED_PREFIXES = ("x-remote-", "x-gateway-inference-", "x-inferbridge-")
"""Of headers that name a caller, and of those that are for the gateway alone."""


class Reader:
    """What counts as a credential, and which headers name a caller."""

    def __init__(self, headers: Collection[str] = (AUTHORIZATION,), forwarded: Collection[str] = ()) -> None:
        """Credentials may stand in `headers`; in `forwarded` we tell runtimes who calls, or as whom we call; nobody
        else may."""
        self._headers = frozenset(headers)
        self._removed = _REMOVED | self._headers | frozenset(forwarded)
        # clients send one credential in many heads
        self._presented = lru_cache(_REMEMBERED)(lambda text: Presented(Token.of(text)))

    def read(self, headers: Headers, certificate: ClientCertificate | None = None) -> Presented:
        """What the client has shown; Unauthenticated for what is no credential, INVALID_ARGUMENT for two."""
        shown = [pair for pair in headers if pair[0] in self._headers]
        if not shown:
            return _NOTHING if certificate is None else Presented(None, certificate)
        names = {name for name, _ in shown}
        if len(names) < len(shown):
            raise invalid(f"more than one header {' or '.join(sorted(names))}")
        found = {_token(name, value) for name, value in shown}
        if len(found) > 1:
            raise invalid(f"different credentials in {' and '.join(sorted(names))}")
        text = found.pop()
        return self._presented(text) if certificate is None else Presented(Token.of(text), certificate)

    def stripped(self, headers: Headers) -> Headers:
        """The headers without credentials, without what names a caller, and without what is for the gateway alone."""
        removed = self._removed
        return tuple([pair for pair in headers if pair[0] not in removed and not pair[0].startswith(_REMOVED_PREFIXES)])


def _token(name: str, value: str) -> str:
    found = _BEARER.fullmatch(value) if name == AUTHORIZATION else TOKEN.fullmatch(value)
    if found is None or len(value) > TOKEN_BYTES:
        raise Unauthenticated("malformed", f"the header {name} holds no token")
    return found[found.re.groups]


def without_secrets(target: str) -> str:
    """A request target without query parameters that other systems take credentials from; they are none here."""
    path, mark, query = target.partition("?")
    if not mark:
        return target
    kept = [pair for pair in query.split("&") if not is_credential_parameter(pair)]
    return f"{path}?{'&'.join(kept)}" if kept else path
