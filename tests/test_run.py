"""A proxy made from settings, on real sockets."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inferbridge.config import Listener, ListenerTls, Settings, Upstream
from inferbridge.run import running
from inferbridge.secret import Secret
from inferbridge.upstream.address import Address

NOBODY = (Upstream("down", "triton", Address("grpc", "127.0.0.1", 9)),)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate whose private key is encrypted with `secret`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway.test")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1)).sign(key, hashes.SHA256())
    encoding = serialization.Encoding.PEM
    sealed = serialization.BestAvailableEncryption(b"secret")
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, sealed)
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(private + signed.public_bytes(encoding))
    return path


async def ask(address: Listener, tls: ssl.SSLContext | None) -> bytes:
    """What the proxy answers to a request for its metadata."""
    reader, writer = await asyncio.open_connection(address.host, address.port, ssl=tls)
    writer.write(b"GET /v2 HTTP/1.1\r\nhost: gateway.test\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_certificate_is_used_and_plaintext_refused(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a certificate, opened by its passphrase, calls go over TLS, and one in the clear is told so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    tls = ListenerTls(certificate, Secret("secret"))
    client = ssl.create_default_context(cafile=str(certificate))
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=NOBODY, tls=tls)) as address:
        assert b"cannot connect" in await ask(address, client)
        assert b"this port speaks TLS" in await ask(address, None)


async def test_a_certificate_that_cannot_be_opened_is_an_error(certificate: Path) -> None:
    """A wrong passphrase or a missing file stops the start instead of serving with another certificate."""
    for tls in (ListenerTls(certificate, Secret("wrong")), ListenerTls(certificate), ListenerTls(Path("/nowhere.pem"))):
        with pytest.raises((OSError, ValueError), match="TLS file"):
            async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=NOBODY, tls=tls)):
                pass


async def test_with_a_certificate_nothing_is_written(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who brings a certificate gets no folder with an authority of mitmproxy's, so read-only machines can serve."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    tls = ListenerTls(certificate, Secret("secret"))
    async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=NOBODY, tls=tls)):
        assert not (tmp_path / "inferbridge").exists()


async def test_without_a_certificate_both_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One port answers plaintext and, with a certificate of its own authority, TLS."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    client = ssl.create_default_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    async with running(Settings(listen=(Listener("127.0.0.1", 0),), upstreams=NOBODY)) as address:
        assert b"503" in (await ask(address, None)).splitlines()[0]
        assert b"503" in (await ask(address, client)).splitlines()[0]
