"""Who calls, as far as that is known, and what an authenticator was shown to find out."""

import hashlib
import re
from dataclasses import dataclass, field

from inferbridge.secret import Secret

TOKEN_BYTES = 16 * 1024
"""Of a token that anybody looks at."""
TOKEN = re.compile(r"[\x21-\x7e]+")
"""Visible ASCII without a space: what a header carries unchanged."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do. Everything that is named must hold; an empty tuple or None limits nothing."""

    models: tuple[str, ...] = ()
    """Globs (`*`, `?`, `[…]`) of model names."""
    operations: tuple[str, ...] = ()
    """Names of operations: generate, embed, infer …"""
    endpoints: tuple[str, ...] = ()
    """`api/endpoint`, with globs: `openai/chat_completions`, `caikit/*`."""
    max_tokens: int | None = None
    """The most new tokens that a call may ask for; a call that does not say how many is refused."""
    max_body: int | None = None
    """Bytes of a call's body: all of its messages in gRPC."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom an authenticator has recognised. Authenticators hand out the same object for the same credential while
    they can: what follows from an identity is remembered by it."""

    subject: str
    """Unique among those of one method: a user, a service account, the name of a key."""
    groups: tuple[str, ...] = ()
    method: str = "none"
    """The authenticator: keys, jwt, kubernetes, mtls, introspection, none."""
    key_id: str = ""
    """Which of the subject's credentials, where they have names."""
    scopes: tuple[str, ...] = ()
    expires_at: float | None = None
    """Seconds since 1970. The authenticator refuses it from then on; caches must not outlive it."""
    grant: Grant | None = None
    """What this credential alone is limited to, whatever its subject may do."""


ANONYMOUS = Identity("anonymous")
"""Nobody in particular: callers of what is public, and everybody where nobody is authenticated."""


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token or key, as the client sent it."""

    secret: Secret
    digest: bytes
    """SHA-256 of it: what caches and comparisons use."""

    @classmethod
    def of(cls, text: str) -> "Token":
        """The token with this text."""
        return cls(Secret(text), hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())


def read_token(content: bytes, holder: str) -> Secret:
    """The token in a file; ValueError that begins with `holder` when it holds none."""
    text = content.decode("ascii", "replace").strip()
    if not TOKEN.fullmatch(text):
        raise ValueError(f"{holder} holds no token")
    return Secret(text)


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client's certificate that TLS has verified against the listener's authorities."""

    common_name: str = ""
    dns_names: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    """Such as `spiffe://cluster.local/ns/team-a/sa/client`."""
    emails: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    serial: str = ""
    """Hexadecimal."""
    not_after: float | None = None
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Presented:
    """What a client has shown; the same object for every call with the same head."""

    token: Token | None = None
    certificate: ClientCertificate | None = None
    memo: dict[str, object] = field(default_factory=dict, compare=False, repr=False)
    """What authenticators have worked out from it, by their names."""
