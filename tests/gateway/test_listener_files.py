"""The files of a listener's TLS: what becomes of renewed, broken and missing ones."""

import asyncio
import datetime
import logging
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from OpenSSL import SSL

from gateway.authority import SERVER, Issued
from gateway.conftest import Serve
from gateway.serving import serving
from gateway.tls_clients import ALICE, OTHER, SERVERS, Names, ask, client, close, once, refused, server_certificate
from inferbridge.config import ListenerTls
from inferbridge.gateway.clients.client_tls import ClientTls


def peer_serial(writer: asyncio.StreamWriter) -> int:
    """The serial number of the server's certificate."""
    return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True)).serial_number


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


async def test_renewed_files(serve: Serve, listener: ListenerTls, tmp_path: Path) -> None:
    """The next handshake uses a renewed certificate and authority; a connection that is open goes on."""
    clock, old, new = Clock(), client(tmp_path, ALICE), client(tmp_path, OTHER.issue("CN=bob"))
    async with serve(now=clock) as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=old)
        assert await once(reader, writer) == b"alice"
        assert listener.certificate is not None
        assert listener.client_ca is not None
        renewed = server_certificate()
        renewed.write(listener.certificate)
        listener.client_ca.write_bytes(OTHER.certificate_pem)
        await refused(port, new)  # it is not yet time to look
        clock.time = 1.0
        again, writer_again = await asyncio.open_connection("localhost", port, ssl=new)
        assert await once(again, writer_again) == b"bob"
        assert peer_serial(writer_again) == renewed.certificate.serial_number
        await close(writer_again)
        await refused(port, old)
        assert await once(reader, writer) == b"alice"
        assert peer_serial(writer) != renewed.certificate.serial_number
        await close(writer)


def serial(tls: ClientTls) -> int:
    """The serial number of the certificate that the next client is shown."""
    certificate = tls.connection().get_certificate(as_cryptography=True)
    assert certificate is not None
    return certificate.serial_number


def publish(folder: Path, name: str, certificate: Issued, key: Issued) -> ListenerTls:
    """Put a pair where Kubernetes would: files are links through a link to a folder, which is swapped."""
    data = folder / name
    data.mkdir()
    (data / "tls.crt").write_bytes(certificate.certificate_pem)
    (data / "tls.key").write_bytes(key.key_pem)
    link = folder / "..new"
    link.symlink_to(name)
    link.replace(folder / "..data")
    return ListenerTls(folder / "..data" / "tls.crt", key=folder / "..data" / "tls.key")


def test_a_mismatched_pair_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate without its key is an error in the log, said once, and the pair before stays until a good one."""
    clock, first, second = Clock(), server_certificate(), server_certificate()
    tls = ClientTls(publish(tmp_path, "1", first, first), now=clock)
    publish(tmp_path, "2", second, first)
    for clock.time in (1.0, 2.0, 3.0):
        assert serial(tls) == first.certificate.serial_number
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "tls.crt and " in error
    assert "what was there before still is" in error
    publish(tmp_path, "3", second, second)
    clock.time = 4.0
    assert serial(tls) == second.certificate.serial_number


def test_it_is_known_when_the_certificate_expires(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also after it was renewed without a client in between; in the last two weeks the log has a warning."""
    clock, short = Clock(), server_certificate()
    tls = ClientTls(publish(tmp_path, "1", short, short), now=clock)
    assert 0 < tls.seconds_left() <= 86400
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "tls.crt: the certificate expires at 20" in warning
    days = datetime.timedelta(days=30)
    long = SERVERS.issue("CN=localhost", usages=SERVER, valid=(-days, days))
    publish(tmp_path, "2", long, long)
    clock.time = 1.0
    assert tls.seconds_left() > 29 * 86400
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_file_that_is_gone_changes_nothing(
    listener: ListenerTls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be read is an error in the log, said once, and what it held before still counts."""
    clock = Clock()
    tls = ClientTls(listener, now=clock)
    before = serial(tls)
    assert listener.client_ca is not None
    listener.client_ca.unlink()
    for clock.time in (1.0, 2.0):
        assert serial(tls) == before
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "clients.pem: No such file" in error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"certificate": "nowhere.pem"}, r"TLS file .*nowhere\.pem: No such file"),
        ({"certificate": "empty.pem"}, r"TLS file .*empty\.pem: no usable certificate and key"),
        ({"certificate": "clients.pem"}, r"TLS file .*clients\.pem: no usable certificate and key"),
        ({"key": "other.pem"}, r"server\.pem and .*other\.pem: no usable certificate and key \(key values mismatch"),
        ({"client_ca": "empty.pem"}, r"TLS file .*empty\.pem: no usable PEM certificate"),
        ({"client_ca": "nowhere.pem"}, r"TLS file .*nowhere\.pem: No such file"),
    ],
)
def test_files_that_cannot_be_used(
    changed: dict[str, str], message: str, listener: ListenerTls, tmp_path: Path
) -> None:
    """At the start a file that cannot be used is an error that names it."""
    (tmp_path / "empty.pem").write_bytes(b"")
    OTHER.write(tmp_path / "other.pem")
    paths = {name: tmp_path / file for name, file in changed.items()}
    with pytest.raises((OSError, ValueError), match=message):
        ClientTls(replace(listener, **paths))  # type: ignore[arg-type]


class Broken(ClientTls):
    """Cannot make a connection."""

    def connection(self) -> SSL.Connection:
        raise RuntimeError("no")


async def test_a_fault_serves_nobody(
    listener: ListenerTls, names: Names, confdir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When our TLS fails the connection is closed, and not served with what mitmproxy would use instead."""
    async with serving(names, confdir, client_tls=Broken(listener)) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(port, client(tmp_path, ALICE))
    assert names.heads == []
    assert "connection closed: no layer for it" in caplog.text
