"""Recognises callers by signed tokens (JWT, RFC 7519) of an OpenID Connect issuer.

    token ──▶ verified before, with keys that still count? ──yes──▶ the identity, at once
                └─no─▶ looks like a JWT of our issuer? ──no──▶ not ours
                          └─yes─▶ its key ─▶ signature ─▶ crit, iss, aud ─▶ times ─▶ the identity

Until the signature is verified a token is a stranger's text: what it says of itself only chooses who looks at it and
which of the issuer's keys is tried.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from jwt import exceptions
from jwt.types import Options

from inferbridge.auth.authenticator import Reason, Unauthenticated
from inferbridge.auth.cache import ENTRIES
from inferbridge.auth.claims import Claims, check_times, moment, text, texts, unverified, words
from inferbridge.auth.discovery import PublishedKeys
from inferbridge.auth.identity import TOKEN_BYTES, Identity, Presented, Token
from inferbridge.auth.jwks import KeySet
from inferbridge.auth.jwks_source import FetchedKeys, FileKeys, KeySource
from inferbridge.auth.settings import JwtSettings

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_MEMO = "jwt"
_OPTIONS: Options = {
    "require": ["exp", "iss", "aud"],
    # by our clock, in check_times
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "enforce_minimum_key_length": True,
}
_REFUSALS: tuple[tuple[type[exceptions.PyJWTError], Reason, str], ...] = (
    (exceptions.InvalidSignatureError, "invalid", "the signature is not good"),
    (exceptions.InvalidKeyError, "invalid", "the issuer's key is too short to trust"),
    (exceptions.InvalidAudienceError, "audience", "the claim aud names none of our audiences"),
    (exceptions.InvalidIssuerError, "issuer", "the claim iss is not our issuer"),
    (exceptions.MissingRequiredClaimError, "malformed", "one of the claims exp, iss and aud is missing"),
    (exceptions.PyJWTError, "malformed", "it is no signed token that we understand"),
)
"""By kind, the first that fits: PyJWT's own messages may quote the token."""


@dataclass(frozen=True, slots=True)
class SelfDescription:
    """What a token says of itself. Nothing of it is verified."""

    issuer: str
    algorithm: str
    key_id: str | None


class _Verified(NamedTuple):
    identity: Identity
    until: float
    keys: KeySet


class JwtAuthenticator:
    """Tokens of one issuer. ValueError or OSError for a URL or a file that cannot be used."""

    method = "jwt"
    challenge = "Bearer"

    def __init__(
        self,
        settings: JwtSettings,
        now: Callable[[], float] = time.time,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is seconds since 1970, for what tokens say; `clock`, which never goes back, is for the age of keys."""
        self._settings = settings
        self._now = now
        self._published, self._keys = _open_keys(settings, clock)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def authenticate(self, presented: Presented) -> Identity | Awaitable[Identity] | None:
        """As `Authenticator.authenticate`; awaitable only while keys are fetched."""
        token = presented.token
        if token is None:
            return None
        verified = self._verified.get(token.digest)
        if verified is not None and verified.keys is self._keys.known() and self._now() < verified.until:
            self._verified.move_to_end(token.digest)
            return verified.identity
        said = describe(presented)
        if said is None or said.issuer != self._settings.issuer:
            return None
        return self._look(token, said)

    def posture(self) -> Sequence[str]:
        settings = self._settings
        source = settings.jwks or "its discovery document"
        lines = [
            f"jwt: trusts tokens of {settings.issuer} for {' or '.join(settings.audience)}, with the keys of {source}",
            "jwt: does not ask whether a token was revoked: it counts until it expires",
        ]
        if settings.tls is not None and not settings.tls.verify:
            lines.append(f"jwt: does not verify who {source} is: whoever is on the way can let anybody in")
        return lines

    async def close(self) -> None:
        await self._keys.close()
        if self._published is not None:
            await self._published.close()

    def _look(self, token: Token, said: SelfDescription) -> Identity | Awaitable[Identity]:
        keys = self._keys.known()
        if keys is None or (keys.lacks(said.key_id) and self._keys.search()):
            return self._verify_later(token, said)
        return self._verify(token, said, keys)

    async def _verify_later(self, token: Token, said: SelfDescription) -> Identity:
        return self._verify(token, said, await self._keys.fetched())

    def _verify(self, token: Token, said: SelfDescription, keys: KeySet) -> Identity:
        identity = self._identify(_verified_claims(token, said, keys, self._settings))
        before = self._verified.get(token.digest)
        if before is not None and before.identity == identity:
            identity = before.identity  # others remember things by this object
        assert identity.expires_at is not None
        self._verified[token.digest] = _Verified(identity, identity.expires_at, keys)
        self._verified.move_to_end(token.digest)
        while len(self._verified) > ENTRIES:
            self._verified.popitem(last=False)
        return identity

    def _identify(self, claims: Claims) -> Identity:
        settings = self._settings
        ends = moment(claims, "exp")
        assert ends is not None  # required by _OPTIONS
        expires = ends + settings.leeway
        check_times(claims, expires, self._now(), settings.leeway)
        subject = text(claims, settings.subject_claim)
        if not subject:
            raise Unauthenticated("malformed", f"the claim {settings.subject_claim} is missing")
        groups, scopes = texts(claims, settings.groups_claim), words(claims, settings.scope_claim)
        return Identity(subject, groups, self.method, scopes=scopes, expires_at=expires)


def describe(presented: Presented) -> SelfDescription | None:
    """What the token says of itself; None when it is no JWT. Worked out once for all issuers."""
    if _MEMO not in presented.memo:
        presented.memo[_MEMO] = None if presented.token is None else _describe(presented.token.secret.reveal())
    found = presented.memo[_MEMO]
    return found if isinstance(found, SelfDescription) else None


def _describe(token: str) -> SelfDescription | None:
    if len(token) > TOKEN_BYTES or not _FORM.fullmatch(token):
        return None
    head, body, _ = token.split(".")
    header, claims = unverified(head), unverified(body)
    algorithm, issuer, key_id = header.get("alg"), claims.get("iss"), header.get("kid")
    if not isinstance(algorithm, str) or not isinstance(issuer, str):
        return None
    return SelfDescription(issuer, algorithm, key_id if isinstance(key_id, str) else None)


def _verified_claims(token: Token, said: SelfDescription, keys: KeySet, settings: JwtSettings) -> dict[str, Any]:
    """The claims, when signature, `crit`, `iss` and `aud` are good."""
    if keys.lacks(said.key_id):
        raise Unauthenticated("unknown", "its key is not among the issuer's")
    fitting = keys.fitting(said.key_id, said.algorithm)
    if len(fitting) != 1:  # OpenID Connect Core, 10.1: with several keys a token must name its own
        raise Unauthenticated("invalid", f"{len(fitting)} of the issuer's keys fit its kid and alg, it must be one")
    key = fitting[0]
    try:
        return jwt.decode(
            token.secret.reveal(),
            key.public,
            list(key.algorithms),
            _OPTIONS,
            audience=settings.audience,
            issuer=settings.issuer,
        )
    except exceptions.PyJWTError as error:
        reason, detail = next((reason, detail) for kind, reason, detail in _REFUSALS if isinstance(error, kind))
    raise Unauthenticated(reason, detail)


def _open_keys(settings: JwtSettings, clock: Callable[[], float]) -> tuple[PublishedKeys | None, KeySource]:
    if settings.jwks and "://" not in settings.jwks:
        return None, FileKeys(Path(settings.jwks), clock)
    published = PublishedKeys(settings)
    return published, FetchedKeys(settings.issuer, published.fetch, clock)
