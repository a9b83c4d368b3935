"""Recognises callers by asking an OAuth server about their tokens (RFC 7662)."""

import base64
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from inferbridge.auth.authenticator import CannotAuthenticate, Unauthenticated
from inferbridge.auth.cache import AnswerCache, Looked
from inferbridge.auth.claims import check_audience, check_times, moment, text, texts, words
from inferbridge.auth.fetch import Answer, Origin, path_of
from inferbridge.auth.identity import TOKEN_BYTES, Identity, Presented, Token
from inferbridge.auth.settings import IntrospectionSettings

LEEWAY = 60.0
"""Seconds that the server's clock may be ahead of ours. What it says is over is over."""
_BEARER = frozenset({"", "bearer", "access_token"})
_log = logging.getLogger(__name__)


class IntrospectionAuthenticator:
    """Every token is this kind: it stands last. ValueError for a URL or a TLS file that cannot be used."""

    method = "introspection"
    challenge = "Bearer"

    def __init__(
        self,
        settings: IntrospectionSettings,
        now: Callable[[], float] = time.time,
        looked: Looked = lambda hit: None,
    ) -> None:
        """`now` is seconds since 1970; `looked` as in `AnswerCache`."""
        self._settings = settings
        self._now = now
        self._origin = Origin(settings.url, tls=settings.tls, timeout=settings.timeout)
        self._path = path_of(urlsplit(settings.url))
        self._headers = (
            ("authorization", _basic(settings)),
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        )
        self._answers = AnswerCache(settings.cache, now=now, looked=looked)
        self._complaint = ""

    def authenticate(self, presented: Presented) -> Identity | Awaitable[Identity] | None:
        """As `Authenticator.authenticate`; awaitable when the server must be asked."""
        token = presented.token
        if token is None:
            return None
        key = (token.digest,)
        known = self._answers.find(key)
        if known is not None:
            return known
        if len(token.secret.reveal()) > TOKEN_BYTES:
            raise Unauthenticated("malformed", f"it is longer than {TOKEN_BYTES} characters")
        return self._answers.ask(key, lambda: self._ask(token))

    def posture(self) -> Sequence[str]:
        settings = self._settings
        lines = [f"introspection: sends every token that no authenticator before it knows to {settings.url}"]
        if not settings.audience:
            lines.append("introspection: does not ask whom a token is for: set audience, or any service's tokens count")
        if settings.tls is not None and not settings.tls.verify:
            lines.append(f"introspection: does not verify who {settings.url} is: whoever is on the way sees the tokens")
        return lines

    async def close(self) -> None:
        await self._origin.close()

    async def _ask(self, token: Token) -> Identity:
        body = urlencode(
            {"token": token.secret.reveal().encode("utf-8", "surrogateescape"), "token_type_hint": "access_token"}
        )
        try:
            answer = await self._origin.ask("POST", self._path, self._headers, body.encode())
            claims = _object(answer)
        except CannotAuthenticate as error:
            self._complain(error.detail)
            raise CannotAuthenticate(f"{self._settings.url}: {error.detail}") from None
        self._complain("")
        return self._identify(claims)

    def _identify(self, claims: dict[str, Any]) -> Identity:
        if claims["active"] is False:
            raise Unauthenticated("invalid", "the server does not know it, or no longer")
        expires = moment(claims, "exp")
        check_times(claims, expires, self._now(), LEEWAY)
        if self._settings.audience:
            check_audience(claims, self._settings.audience)
        if text(claims, "token_type").lower() not in _BEARER:
            raise Unauthenticated("invalid", "it is no bearer token: its token_type is another")
        subject = text(claims, "username") or text(claims, "sub")
        if not subject:
            raise Unauthenticated("malformed", "the server names neither username nor sub")
        groups, scopes = texts(claims, "groups"), words(claims, "scope")
        return Identity(subject, groups, self.method, scopes=scopes, expires_at=expires)

    def _complain(self, complaint: str) -> None:
        """Log what changed: an outage is two lines, however many calls it meets."""
        if complaint != self._complaint:
            self._complaint = complaint
            if complaint:
                _log.error("%s: tokens cannot be checked: %s", self._settings.url, complaint)
            else:
                _log.info("%s: tokens can be checked again", self._settings.url)


def _basic(settings: IntrospectionSettings) -> str:
    """RFC 6749, 2.3.1: both halves are form-encoded before they are joined, so that a colon separates once."""
    pair = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret.reveal())}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _object(answer: Answer) -> dict[str, Any]:
    """What the server says of a token; CannotAuthenticate when it says nothing."""
    if answer.status in (401, 403):
        raise CannotAuthenticate(f"it refused us with {answer.status}: are client_id and client_secret right?")
    if answer.status != 200:
        raise CannotAuthenticate(f"it {answer.outcome}")
    claims = answer.json()
    if not isinstance(claims.get("active"), bool):
        raise CannotAuthenticate("its answer has no active: true or false")
    return claims
