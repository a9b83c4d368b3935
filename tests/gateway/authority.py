"""An authority that signs good and bad certificates."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)
CLIENT = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)
PEM = serialization.Encoding.PEM
NAMES = {"CN": NameOID.COMMON_NAME, "O": NameOID.ORGANIZATION_NAME}


def subject(text: str) -> x509.Name:
    """The name `CN=alice,O=team-a`."""
    parts = [part.partition("=") for part in text.split(",") if part]
    return x509.Name([x509.NameAttribute(NAMES[kind], value) for kind, _, value in parts])


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(PEM)

    @property
    def key_pem(self) -> bytes:
        """The key alone."""
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())

    def write(self, path: Path, *chain: "Issued") -> Path:
        """One PEM file of key, certificate and `chain`."""
        path.write_bytes(self.key_pem + self.certificate_pem + b"".join(one.certificate_pem for one in chain))
        return path


@dataclass(frozen=True)
class Authority(Issued):
    """Signs certificates."""

    @classmethod
    def make(cls, name: str, issuer: Issued | None = None) -> "Authority":
        """A root, or what `issuer` has signed."""
        made = _make(subject(f"CN={name}"), issuer, (), None, (-DAY, DAY), ca=True)
        return cls(made.certificate, made.key)

    def issue(
        self,
        name: str,
        *alternatives: x509.GeneralName,
        usages: Sequence[x509.ObjectIdentifier] | None = CLIENT,
        valid: tuple[datetime.timedelta, datetime.timedelta] = (-DAY, DAY),
    ) -> Issued:
        """A certificate; `usages` None leaves the extended key usage out, `valid` counts from now."""
        return _make(subject(name), self, alternatives, usages, valid, ca=False)


def self_signed(name: str) -> Issued:
    """A client's certificate that nobody else has signed."""
    return _make(subject(name), None, (), CLIENT, (-DAY, DAY), ca=False)


def _make(
    name: x509.Name,
    issuer: Issued | None,
    alternatives: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier] | None,
    valid: tuple[datetime.timedelta, datetime.timedelta],
    *,
    ca: bool,
) -> Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return Issued(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)
