"""Throw-away certificates: a CA, a server `localhost`, a client, and a CA nobody trusts."""

import datetime
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """PEM files in one folder."""

    folder: Path

    def path(self, name: str) -> str:
        """`ca.crt`, `other.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`."""
        return str(self.folder / name)

    def content(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.folder / name).read_bytes()


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, age: int = 0) -> x509.CertificateBuilder:
    """Valid from a day ago to a day from now, `age` days earlier."""
    now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=age)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


def _write(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / f"{name}.key").write_bytes(key.private_bytes(pem, form, plain))


def _authority(folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(identifier, critical=False).add_extension(usage, critical=True)
    _write(folder, name, key, builder.sign(key, hashes.SHA256()))
    return key


def _leaf(folder: Path, name: str, authority: ec.EllipticCurvePrivateKey, age: int = 0) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    builder = _builder(name, "ca", key, age).add_extension(names, critical=False).add_extension(issuer, critical=False)
    _write(folder, name, key, builder.sign(authority, hashes.SHA256()))


def make_certificates(folder: Path) -> Certificates:
    """Write all files."""
    _authority(folder, "other")
    authority = _authority(folder, "ca")
    _leaf(folder, "server", authority)
    _leaf(folder, "client", authority)
    _leaf(folder, "expired", authority, age=5)
    return Certificates(folder)
