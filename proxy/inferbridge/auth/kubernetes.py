"""Tokens that the cluster's own API server recognises, and what its roles allow their owners.

    token ──TokenReview──▶ authenticated, for one of our audiences? ──no──▶ 401
                                  │ yes: user, uid, groups, extra
                                  ▼
           SubjectAccessReview (where `access` is set) ──not allowed──▶ 403
                                  │ allowed
                                  ▼
                              Identity

The second question is the one that OpenShift AI's kube-rbac-proxy asks about every caller of a model: the attributes
are fixed by the configuration, whatever the caller's path and method are. Answers are kept, see `cache`: good ones for
`settings.cache` but never beyond the token's own `exp`, refusals for 10 s, failures to ask not at all.

`exp` is read without verifying anything: it can only make us ask sooner or refuse sooner.
"""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

import msgspec

from inferbridge.auth.authenticator import CannotAuthenticate, Unauthenticated
from inferbridge.auth.cache import AnswerCache, Key, Looked
from inferbridge.auth.claims import moment, unverified
from inferbridge.auth.identity import TOKEN, TOKEN_BYTES, Identity, Presented, Token
from inferbridge.auth.kubernetes_api import ApiServer
from inferbridge.auth.rules import Forbidden
from inferbridge.auth.settings import AccessReview, KubernetesSettings

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str] | None] | None = None


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False  # Kubernetes leaves out what is false
    user: _User = msgspec.field(default_factory=_User)
    audiences: list[str] | None = None


class _TokenReview(msgspec.Struct):
    status: _TokenStatus


class _AccessStatus(msgspec.Struct):
    allowed: bool = False
    denied: bool = False


class _SubjectAccessReview(msgspec.Struct):
    status: _AccessStatus


@dataclass(frozen=True, slots=True)
class _Read:
    """What we read in a token ourselves."""

    key: Key
    expires_at: float | None


class KubernetesAuthenticator:
    """Claims every token: whether it is one of the cluster's only the API server knows."""

    method = "kubernetes"
    challenge = "Bearer"

    def __init__(
        self,
        settings: KubernetesSettings,
        environment: Mapping[str, str] = os.environ,
        *,
        now: Callable[[], float] = time.time,
        looked: Looked = lambda hit: None,
    ) -> None:
        """`now` and `looked` as in `AnswerCache`.

        ValueError when there is no API server, or a file of ours that cannot be used.
        """
        self._settings = settings
        self._api = ApiServer(settings, environment)
        self._now = now
        self._answers = AnswerCache(settings.cache, now=now, looked=looked)
        self._audiences = "\0".join(settings.audiences).encode()

    def authenticate(self, presented: Presented) -> Identity | Awaitable[Identity] | None:
        """Who the cluster says that is, see `Authenticator.authenticate`; Forbidden for who may not call."""
        token = presented.token
        if token is None:
            return None
        read = presented.memo.get(self.method)
        if not isinstance(read, _Read):
            read = presented.memo[self.method] = self._read(token)
        known = self._answers.find(read.key)
        return known if known is not None else self._answers.ask(read.key, partial(self._review, token, read))

    def _read(self, token: Token) -> _Read:
        text = token.secret.reveal()
        # With a space in front, an API server would see no token at all, and call that system:anonymous.
        if len(text) > TOKEN_BYTES or not TOKEN.fullmatch(text):
            raise Unauthenticated("malformed", "not a token, or one of more than 16 KiB")
        return _Read((token.digest, self._audiences), _expiry(text))

    async def _review(self, token: Token, read: _Read) -> Identity:
        if read.expires_at is not None and read.expires_at <= self._now():
            raise Unauthenticated("expired")
        user = await self._ask_who(token)
        if self._settings.access is not None:
            await self._ask_whether(user, self._settings.access)
        return Identity(user.username, tuple(user.groups or ()), self.method, expires_at=read.expires_at)

    async def _ask_who(self, token: Token) -> _User:
        asked = self._settings.audiences
        spec = _set({"token": token.secret.reveal(), "audiences": asked})
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec}
        status = _decode(_TokenReview, await self._api.create(TOKEN_REVIEWS, review)).status
        user = status.user
        if not status.authenticated or "system:unauthenticated" in (user.groups or ()):
            raise Unauthenticated("invalid", "the API server does not authenticate the token")
        if asked and not set(asked).intersection(status.audiences or ()):
            raise Unauthenticated("audience", f"the token is for none of {', '.join(asked)}")
        if not user.username:
            raise CannotAuthenticate("the API server authenticates the token, but does not say whose it is")
        return user

    async def _ask_whether(self, user: _User, access: AccessReview) -> None:
        who = {"user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra}
        # the names of the settings are those of Kubernetes
        spec = _set(who) | {"resourceAttributes": _set(asdict(access))}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        status = _decode(_SubjectAccessReview, await self._api.create(ACCESS_REVIEWS, review)).status
        if status.denied or not status.allowed:
            raise Forbidden(f"{user.username} may not {_describe(access)}")

    def posture(self) -> Sequence[str]:
        """What an operator should know, see `Authenticator.posture`."""
        settings = self._settings
        audiences = ", ".join(settings.audiences) or "whatever the API server itself takes"
        who = "every account of the cluster, each pod's own included"
        if settings.access is not None:
            who = f"whoever may {_describe(settings.access)}"
        kept = f"a token that is withdrawn still counts for up to {settings.cache:g} s"
        return (f"kubernetes: {self._api.url} reviews tokens, audience {audiences}; lets in {who}; {kept}",)

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()


def _set(fields: Mapping[str, object]) -> dict[str, object]:
    """What is not empty, as Kubernetes writes its objects."""
    return {name: value for name, value in fields.items() if value}


def _decode[T](kind: type[T], body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CannotAuthenticate(f"the API server's answer is no {kind.__name__[1:]}: {error}") from None


def _describe(access: AccessReview) -> str:
    """`get inferenceservices.serving.kserve.io/flan in namespace team-a`."""
    resource = "/".join(filter(None, (access.resource, access.subresource)))
    named = ".".join(filter(None, (resource, access.group)))
    return f"{access.verb} {named} {access.name!r} in namespace {access.namespace!r}"


def _expiry(token: str) -> float | None:
    """The `exp` of a JWT, in seconds since 1970; None when it is no JWT or never expires."""
    parts = token.split(".")
    try:
        return moment(unverified(parts[1]), "exp") if len(parts) == 3 else None
    except Unauthenticated:
        return None
