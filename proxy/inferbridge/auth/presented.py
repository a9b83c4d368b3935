"""Reads from a request's head what its client has shown, and gives the head without it.

A credential stands in `Authorization: Bearer <token>` (RFC 6750 §2.1: the scheme in any case, one space) or in a
configured header that holds the token alone. The same credential may stand in two places, two different ones may not:
whoever looked at the other place would see another caller.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import ClientCertificate, Presented, Token
from inferbridge.bridge.errors import invalid
from inferbridge.bridge.values import Headers
from inferbridge.secret import CREDENTIAL_HEADERS, is_credential_parameter

AUTHORIZATION = "authorization"
TOKEN_BYTES = 16 * 1024
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] ([\x21-\x7e]+)")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_IDENTITIES = frozenset({"x-maas-user", "x-maas-groups", "x-forwarded-client-cert"})
_IDENTITY_PREFIXES = ("x-remote-", "x-gateway-inference-")


@dataclass(frozen=True, slots=True)
class Reader:
    """What counts as a credential, and which headers name a caller."""

    headers: tuple[str, ...] = (AUTHORIZATION,)
    """Where credentials may stand."""
    forwarded: Collection[str] = ()
    """Headers in which we tell runtimes who calls; nobody else may."""

    def read(self, headers: Headers, certificate: ClientCertificate | None = None) -> Presented:
        """What the client has shown; Unauthenticated for what is no credential, INVALID_ARGUMENT for two."""
        found: dict[str, Token] = {}
        seen: set[str] = set()
        for name, value in headers:
            if name in self.headers:
                if name in seen:
                    raise invalid(f"more than one header {name}")
                seen.add(name)
                text = _token(name, value)
                found.setdefault(text, Token.of(text))
        if len(found) > 1:
            raise invalid(f"different credentials in {' and '.join(sorted(seen))}")
        return Presented(next(iter(found.values()), None), certificate)

    def stripped(self, headers: Headers) -> Headers:
        """The headers without credentials, and without what names a caller."""
        return tuple(pair for pair in headers if not self._is_ours(pair[0]))

    def _is_ours(self, name: str) -> bool:
        return (
            name in CREDENTIAL_HEADERS
            or name in _IDENTITIES
            or name in self.headers
            or name in self.forwarded
            or name.startswith(_IDENTITY_PREFIXES)
        )


def _token(name: str, value: str) -> str:
    found = _BEARER.fullmatch(value) if name == AUTHORIZATION else _TOKEN.fullmatch(value)
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
