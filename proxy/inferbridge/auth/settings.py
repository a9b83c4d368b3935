"""Settings of authentication and authorization as values."""

from dataclasses import dataclass, field
from pathlib import Path

from inferbridge.auth.identity import Grant
from inferbridge.secret import Secret
from inferbridge.upstream.tls import TlsSettings

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Kubernetes puts a pod's own token and the authority of its API server."""
KUBERNETES_AUDIENCE = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class NoneSettings:
    """Whoever shows no credential is let in as anonymous."""


@dataclass(frozen=True, slots=True)
class KeysSettings:
    """Keys of our own making, in a file of digests."""

    file: Path


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Signed tokens of an OpenID Connect issuer."""

    issuer: str
    """The exact `iss`; its discovery document names the keys unless `jwks` does."""
    audience: tuple[str, ...]
    """One of these must be in `aud`."""
    jwks: str = ""
    """URL of the key set, or path of a file that holds one."""
    leeway: float = 60.0
    """Seconds that clocks may differ."""
    subject_claim: str = "sub"
    groups_claim: str = "groups"
    scope_claim: str = "scope"
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True)
class AccessReview:
    """The attributes of a SubjectAccessReview: whoever may do this in the cluster may call."""

    name: str = ""
    namespace: str = ""
    verb: str = "get"
    group: str = "serving.kserve.io"
    version: str = "v1beta1"
    resource: str = "inferenceservices"
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Tokens that the cluster's API server reviews."""

    api: str = ""
    """URL; empty: what `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT` say."""
    ca: Path = Path(SERVICE_ACCOUNT) / "ca.crt"
    token: Path = Path(SERVICE_ACCOUNT) / "token"
    """Our own token, read again when it changes."""
    audiences: tuple[str, ...] = (KUBERNETES_AUDIENCE,)
    access: AccessReview | None = None
    cache: float = 60.0
    """Seconds that a good review counts."""
    timeout: float = 3.0
    """Seconds the API server may take."""


@dataclass(frozen=True, slots=True)
class IntrospectionSettings:
    """Tokens that an OAuth server is asked about (RFC 7662)."""

    url: str
    client_id: str
    client_secret: Secret
    audience: tuple[str, ...] = ()
    """One of these must be in `aud`, when given."""
    cache: float = 60.0
    """Seconds that a good answer counts."""
    timeout: float = 3.0
    tls: TlsSettings | None = None


@dataclass(frozen=True, slots=True)
class MtlsSettings:
    """Client certificates that the listener's TLS has verified."""


type AuthenticatorSettings = (
    NoneSettings | KeysSettings | JwtSettings | KubernetesSettings | IntrospectionSettings | MtlsSettings
)


@dataclass(frozen=True, slots=True)
class Rates:
    """What one identity may use; None limits nothing."""

    requests_per_minute: int | None = None
    concurrent_calls: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and of answers together."""


@dataclass(frozen=True, slots=True)
class Callers:
    """Some callers: all that is named must hold; nothing named is everybody."""

    subjects: tuple[str, ...] = ()
    """Globs."""
    groups: tuple[str, ...] = ()
    """Globs; one of the identity's groups must match."""
    keys: tuple[str, ...] = ()
    """Ids of keys."""
    methods: tuple[str, ...] = ()
    """Names of authenticators."""


@dataclass(frozen=True, slots=True)
class Rule(Callers):
    """Who may do what."""

    allow: Grant = field(default_factory=Grant)
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class Forwarding:
    """The headers in which a runtime is told who calls; empty tells nothing."""

    subject: str = ""
    groups: str = ""
    """Separated by `|`, as kube-rbac-proxy does."""


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """How callers are recognised, and what they may do."""

    authenticators: tuple[AuthenticatorSettings, ...] = ()
    headers: tuple[str, ...] = ("authorization",)
    """Where credentials may stand: `authorization` holds `Bearer <token>`, any other the token alone."""
    public: tuple[str, ...] = ("health",)
    """What anybody may call: `health`, `reflection`, or names of operations."""
    rules: tuple[Rule, ...] = ()
    """None: whoever is recognised may call everything."""
    forward: Forwarding = field(default_factory=Forwarding)
    realm: str = "inferbridge"
    failures_per_minute: int = 20
    """Refused credentials of one address after which it is told to wait."""


@dataclass(frozen=True, slots=True)
class UpstreamCredentials:
    """As whom the gateway calls a runtime; nothing set: as nobody."""

    static: Secret | None = None
    """A token."""
    service_account_token: Path | None = None
    """A file with a token, read again when it changes."""
    passthrough: bool = False
    """The client's own credential."""
    header: str = "authorization"
    """`authorization` is sent as `Bearer <token>`, any other header holds the token alone."""

    @property
    def is_set(self) -> bool:
        """Whether it is called as anybody."""
        return self.static is not None or self.service_account_token is not None or self.passthrough
