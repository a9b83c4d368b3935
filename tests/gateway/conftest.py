"""Certificates and mitmproxy's folder, made once; a gateway that verifies its clients."""

import datetime
import ipaddress
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.serving import serving
from gateway.tls_clients import AUTHORITY, Names, server_certificate
from inferbridge.config import ListenerTls
from inferbridge.gateway.clients.client_tls import ClientTls

type Serve = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture(scope="session")
def confdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which mitmproxy keeps its authority."""
    return tmp_path_factory.mktemp("mitmproxy")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost with its key, as one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + signed.public_bytes(serialization.Encoding.PEM)
    path = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    path.write_bytes(pem)
    return path


@pytest.fixture(scope="session")
def trusted(certificate: Path) -> bytes:
    """The bytes of the certificate file, for clients that take no file."""
    return certificate.read_bytes()


@pytest.fixture
def names() -> Names:
    """What is served."""
    return Names()


@pytest.fixture
def listener(tmp_path: Path) -> ListenerTls:
    """A listener that verifies clients."""
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(AUTHORITY.certificate_pem)
    return ListenerTls(server_certificate().write(tmp_path / "server.pem"), client_ca=authorities)


@pytest.fixture
def serve(names: Names, listener: ListenerTls, confdir: Path) -> Serve:
    """Serves `names`; gives the port."""

    def serve(
        client_certificate: Literal["require", "request"] = "require", now: Callable[[], float] = lambda: 0.0
    ) -> AbstractAsyncContextManager[int]:
        tls = ClientTls(replace(listener, client_certificate=client_certificate), now=now)
        return serving(names, confdir, client_tls=tls)

    return serve
