"""Callers known by their client certificate, which TLS has verified before anything was read.

The subject is the most specific name that the certificate has, in this order:

    URI SAN spiffe://…  ─▶  first DNS SAN  ─▶  first email SAN  ─▶  common name

and its organizations are the groups. A token decides before a certificate: behind a mesh or a load balancer the
certificate is often that of a machine, and whoever shows a token as well wants to be known by it. So a certificate is
not looked at where a token was presented, not even where that is a bad one.
"""

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import ClientCertificate, Identity, Presented

CERTIFICATES = 10_000
"""How many are remembered; each connection holds one."""


class MtlsAuthenticator:
    """Recognises callers by verified client certificates."""

    method = "mtls"
    challenge = ""

    def __init__(self, *, now: Callable[[], float] = time.time) -> None:
        """`now` is seconds since 1970."""
        self._now = now

    def authenticate(self, presented: Presented) -> Identity | None:
        """Who the certificate names; None without one, or beside a token.

        Unauthenticated for one that names nobody, or has expired since the handshake.
        """
        certificate = presented.certificate
        if certificate is None or presented.token is not None:
            return None
        identity = presented.memo.get(self.method)  # spares hashing the certificate
        if not isinstance(identity, Identity):
            identity = presented.memo[self.method] = _identity(certificate)
        if identity.expires_at is not None and identity.expires_at <= self._now():
            raise Unauthenticated("expired", "the client certificate has expired since the connection was made")
        return identity

    def posture(self) -> Sequence[str]:
        """What is trusted and what is not verified."""
        return (
            "mtls: the authorities of tls.client_ca say who callers are; revocation lists are not read",
            "mtls: a token decides before a client certificate",
        )

    async def close(self) -> None:
        """There is nothing to let go of."""


@lru_cache(CERTIFICATES)
def _identity(certificate: ClientCertificate) -> Identity:
    """The same object for the same certificate, on every connection; Unauthenticated is not kept."""
    subject = _subject(certificate)
    if not all(name.isprintable() for name in (subject, *certificate.organizations)):
        raise Unauthenticated("malformed", "a name in the client certificate has control characters")
    # no key_id: a rule for the id of a key must not apply to a serial number, which an authority chooses
    return Identity(
        subject, groups=certificate.organizations, method=MtlsAuthenticator.method, expires_at=certificate.not_after
    )


def _subject(certificate: ClientCertificate) -> str:
    workloads = [uri for uri in certificate.uris if uri.startswith("spiffe://")]
    if len(workloads) > 1:
        raise Unauthenticated("malformed", "the client certificate has more than one SPIFFE id")
    names = (*workloads, *certificate.dns_names, *certificate.emails, certificate.common_name)
    for name in names:
        if name:
            return name
    raise Unauthenticated("invalid", "the client certificate names nobody")
