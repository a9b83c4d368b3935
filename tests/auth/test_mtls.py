"""Identities made of verified client certificates."""

from dataclasses import replace

import pytest

from inferbridge.auth.authenticator import Chain, Unauthenticated
from inferbridge.auth.identity import ClientCertificate, Identity, Presented, Token
from inferbridge.auth.mtls import MtlsAuthenticator

SPIFFE = "spiffe://cluster.local/ns/team-a/sa/client"
ALICE = ClientCertificate(
    common_name="alice",
    dns_names=("alice.test", "other.test"),
    uris=("https://alice.test/", SPIFFE),
    emails=("alice@example.test",),
    organizations=("team-a", "team-b"),
    serial="1f",
    not_after=2000.0,
)


def authenticate(certificate: ClientCertificate, time: float = 1000.0) -> Identity:
    """Whom a certificate alone is, at a time."""
    found = MtlsAuthenticator(now=lambda: time).authenticate(Presented(certificate=certificate))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("missing", "subject"),
    [
        ((), SPIFFE),
        (("uris",), "alice.test"),
        (("uris", "dns_names"), "alice@example.test"),
        (("uris", "dns_names", "emails"), "alice"),
    ],
)
def test_the_most_specific_name_is_the_subject(missing: tuple[str, ...], subject: str) -> None:
    """SPIFFE id, DNS name, email, common name: the first there is; organizations are the groups."""
    certificate = replace(ALICE, **dict.fromkeys(missing, ()))  # type: ignore[arg-type]
    assert authenticate(certificate) == Identity(subject, ("team-a", "team-b"), "mtls", expires_at=2000.0)


def test_a_certificate_is_always_the_same_identity() -> None:
    """Calls of one connection, and of another with the same certificate, get one object."""
    assert authenticate(ALICE) is authenticate(ALICE)
    assert authenticate(ALICE) is authenticate(replace(ALICE))
    assert authenticate(ALICE) is not authenticate(replace(ALICE, serial="20"))


def test_without_a_certificate_another_decides() -> None:
    """Nothing is claimed where no certificate was verified."""
    assert MtlsAuthenticator().authenticate(Presented()) is None


def test_a_token_decides_before_a_certificate() -> None:
    """Beside a token the certificate counts for nothing, so a bad token is not helped by a good certificate."""
    presented = Presented(Token.of("bad"), ALICE)
    assert MtlsAuthenticator(now=lambda: 0.0).authenticate(presented) is None
    with pytest.raises(Unauthenticated) as caught:
        Chain([MtlsAuthenticator(now=lambda: 0.0)]).authenticate(presented)
    assert caught.value.reason == "unknown"


def test_a_certificate_expires_while_its_connection_is_open() -> None:
    """From `not_after` on it is refused, however long before the handshake was."""
    assert authenticate(ALICE, 1999.9).subject == SPIFFE
    with pytest.raises(Unauthenticated) as caught:
        authenticate(ALICE, 2000.0)
    assert caught.value.reason == "expired"


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (ClientCertificate(organizations=("team-a",)), "invalid"),
        (ClientCertificate(uris=("https://alice.test/",)), "invalid"),
        (ClientCertificate(uris=(SPIFFE, SPIFFE + "2")), "malformed"),
        (ClientCertificate(common_name="alice\r\nx-remote-user: root"), "malformed"),
        (ClientCertificate(common_name="alice", organizations=("a\nb",)), "malformed"),
    ],
)
def test_a_certificate_that_names_nobody(certificate: ClientCertificate, reason: str) -> None:
    """No name, two ids of workloads, or a name that would end a line: refused, and the log is not told the name."""
    with pytest.raises(Unauthenticated) as caught:
        authenticate(certificate)
    assert caught.value.reason == reason
    assert "alice" not in caught.value.detail


def test_what_an_operator_is_told() -> None:
    """The posture says what is not verified."""
    assert any("revocation" in line for line in MtlsAuthenticator().posture())
