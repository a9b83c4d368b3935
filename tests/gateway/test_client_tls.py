"""Client certificates on real sockets: who gets in, as whom, and what becomes of renewed files."""

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import grpc.aio
import pytest
from cryptography import x509
from OpenSSL import SSL

from gateway.applications import Echo, EchoSink
from gateway.authority import DAY, SERVER, Authority, Issued, self_signed
from gateway.serving import TIMEOUT, curl, serving, talk
from inferbridge.auth.identity import ClientCertificate
from inferbridge.auth.settings import AuthSettings, MtlsSettings, Rule
from inferbridge.config import Listener, ListenerTls, Settings, Upstream
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.client_tls import ClientTls
from inferbridge.run import running
from inferbridge.upstream.address import Address

CALL = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SPIFFE = "spiffe://cluster.local/ns/team-a/sa/client"
AUTHORITY = Authority.make("clients")
OTHER = Authority.make("others")
MIDDLE = Authority.make("middle", AUTHORITY)
SERVERS = Authority.make("servers")
ALICE = AUTHORITY.issue(
    "O=team-a,CN=alice",
    x509.UniformResourceIdentifier(SPIFFE),
    x509.DNSName("alice.test"),
    x509.RFC822Name("alice@example.test"),
)

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def server_certificate() -> Issued:
    """A certificate of the listener."""
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return SERVERS.issue("CN=localhost", *names, usages=SERVER)


class Names(Echo):
    """Answers with the common name in the client's certificate, and keeps every head."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[RequestHead] = []

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        self.heads.append(head)
        return NamesSink(head, responder)


class NamesSink(EchoSink):
    def on_end(self) -> None:
        certificate = self.head.certificate
        name = certificate.common_name if certificate is not None else "nobody"
        if self.head.headers and dict(self.head.headers).get("content-type") == "application/grpc":
            body = b"\0" + len(name).to_bytes(4) + name.encode()
            self.responder.head(200, (("content-type", "application/grpc"),))
            self.responder.data(body)
            self.responder.end((("grpc-status", "0"),))
        else:
            self.responder.whole(200, (("content-length", str(len(name))),), (name.encode(),))


@pytest.fixture
def application() -> Names:
    """What is served."""
    return Names()


@pytest.fixture
def settings(tmp_path: Path) -> ListenerTls:
    """A listener that verifies clients."""
    authorities = tmp_path / "clients.pem"
    authorities.write_bytes(AUTHORITY.certificate_pem)
    return ListenerTls(server_certificate().write(tmp_path / "server.pem"), client_ca=authorities)


type Serve = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture
def serve(application: Names, settings: ListenerTls, confdir: Path) -> Serve:
    """Serves `application`; gives the port."""

    def serve(
        client_certificate: Literal["require", "request"] = "require", now: Callable[[], float] = lambda: 0.0
    ) -> AbstractAsyncContextManager[int]:
        tls = ClientTls(replace(settings, client_certificate=client_certificate), now=now)
        return serving(application, confdir, client_tls=tls)

    return serve


def client(folder: Path, shown: Issued | None, *chain: Issued, version: str | None = None) -> ssl.SSLContext:
    """A client that trusts our servers and shows a certificate."""
    context = ssl.create_default_context(cadata=SERVERS.certificate_pem.decode())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the test's authorities are short of key ids
    if version is not None:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if shown is not None:
        context.load_cert_chain(shown.write(folder / "shown.pem", *chain))
    return context


async def ask(port: int, context: ssl.SSLContext) -> bytes:
    """The body of the answer on a connection of its own; ssl.SSLError when the server refuses the handshake."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        return await once(reader, writer)
    finally:
        await close(writer)


async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The body of the answer to one call."""
    writer.write(CALL)
    async with asyncio.timeout(TIMEOUT):
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line.split(b":")[1]) for line in head.splitlines() if line.startswith(b"content-length"))
        return await reader.readexactly(length)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever state TLS has left it in."""
    writer.close()
    with suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()


async def listen_only(port: int, context: ssl.SSLContext) -> bytes:
    """What the server says on its own account."""
    reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
    try:
        async with asyncio.timeout(TIMEOUT):
            return await reader.read()
    finally:
        await close(writer)


async def refused(port: int, context: ssl.SSLContext) -> None:
    """The server ends the handshake with an alert, which in TLS 1.3 comes right after the client's half of it."""
    with pytest.raises(ssl.SSLError, match="alert"):
        await listen_only(port, context)


REFUSED: dict[str, tuple[Issued | None, str]] = {
    "none": (None, "the client showed no certificate"),
    "self-signed": (self_signed("CN=alice"), "self-signed certificate"),
    "other authority": (OTHER.issue("CN=alice"), "unable to get local issuer certificate"),
    "server's authority": (SERVERS.issue("CN=alice"), "self-signed certificate in certificate chain"),
    "expired": (AUTHORITY.issue("CN=alice", valid=(-2 * DAY, -DAY)), "certificate has expired"),
    "not yet valid": (AUTHORITY.issue("CN=alice", valid=(DAY, 2 * DAY)), "certificate is not yet valid"),
    "for servers": (AUTHORITY.issue("CN=alice", usages=SERVER), "purpose"),
    "for nothing said": (AUTHORITY.issue("CN=alice", usages=None), "does not name clientAuth"),
    "signed by a client": (
        Authority(ALICE.certificate, ALICE.key).issue("CN=mallory"),
        "unable to get local issuer certificate",
    ),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("shown", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_certificate_is_refused_in_the_handshake(
    shown: Issued | None,
    reason: str,
    version: str,
    serve: Serve,
    application: Names,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No certificate, or one that is not good, ends the handshake: an alert for the client, the reason in the log."""
    async with serve() as port:
        await refused(port, client(tmp_path, shown, version=version))
    assert application.heads == []
    (line,) = [record.getMessage() for record in caplog.records if "handshake" in record.getMessage()]
    assert line.startswith("TLS handshake with 127.0.0.1 port ")
    assert reason in line


@pytest.mark.parametrize("version", VERSIONS)
async def test_whoever_shows_a_good_certificate_is_known(
    version: str, serve: Serve, application: Names, tmp_path: Path
) -> None:
    """The names in a verified certificate come with every call, as one object for a connection."""
    async with serve() as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client(tmp_path, ALICE, version=version))
        assert await once(reader, writer) == b"alice"
        assert await once(reader, writer) == b"alice"
        await close(writer)
    first, second = application.heads
    assert first.certificate is second.certificate
    assert first.certificate == ClientCertificate(
        common_name="alice",
        dns_names=("alice.test",),
        uris=(SPIFFE,),
        emails=("alice@example.test",),
        organizations=("team-a",),
        serial=f"{ALICE.certificate.serial_number:x}",
        not_after=ALICE.certificate.not_valid_after_utc.timestamp(),
    )


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
async def test_curl_is_known(protocol: str, serve: Serve, application: Names, tmp_path: Path) -> None:
    """curl with a certificate is known over HTTP/1.1 and over HTTP/2."""
    shown, servers = ALICE.write(tmp_path / "alice.pem"), tmp_path / "servers.pem"
    servers.write_bytes(SERVERS.certificate_pem)
    async with serve() as port:
        options = (protocol, "--cacert", str(servers), "--cert", str(shown))
        assert await curl(*options, f"https://localhost:{port}/") == b"alice"
    assert application.heads[0].version == protocol.removeprefix("--http")


async def test_grpcio_is_known(serve: Serve) -> None:
    """A gRPC client with a certificate is known."""
    credentials = grpc.ssl_channel_credentials(SERVERS.certificate_pem, ALICE.key_pem, ALICE.certificate_pem)
    async with serve() as port, grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        assert await channel.unary_unary("/package.Service/Method")(b"", timeout=TIMEOUT) == b"alice"


async def test_grpcio_without_a_certificate(serve: Serve, application: Names) -> None:
    """A gRPC client without one finds the server unavailable."""
    credentials = grpc.ssl_channel_credentials(SERVERS.certificate_pem)
    async with serve() as port, grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/package.Service/Method")(b"", timeout=TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert application.heads == []


async def test_a_certificate_that_is_only_requested(serve: Serve, tmp_path: Path) -> None:
    """Where one is only requested a client without it is served as nobody, a good one is known, a bad one refused."""
    async with serve("request") as port:
        assert await ask(port, client(tmp_path, None)) == b"nobody"
        assert await ask(port, client(tmp_path, ALICE)) == b"alice"
        await refused(port, client(tmp_path, OTHER.issue("CN=alice")))


async def test_intermediate_authorities(serve: Serve, settings: ListenerTls, tmp_path: Path) -> None:
    """A chain up to a listed authority counts, and an authority that is listed need not be a root."""
    shown = MIDDLE.issue("CN=bob")
    async with serve() as port:
        assert await ask(port, client(tmp_path, shown, MIDDLE)) == b"bob"
        await refused(port, client(tmp_path, shown))
    assert settings.client_ca is not None
    settings.client_ca.write_bytes(MIDDLE.certificate_pem)
    async with serve() as port:
        assert await ask(port, client(tmp_path, shown)) == b"bob"
        await refused(port, client(tmp_path, ALICE))


async def test_plaintext_is_not_served_beside(serve: Serve, application: Names) -> None:
    """Where clients are verified nobody comes in without TLS."""
    async with serve() as port:
        assert b"this port speaks TLS" in await talk(port, CALL)
    assert application.heads == []


async def openssl(port: int, *options: str) -> bytes:
    """What `openssl s_client` prints when it sends one call."""
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"localhost:{port}", "-quiet", "-ign_eof", *options),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TIMEOUT):
        output, _ = await process.communicate(CALL.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    return output


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_no_credential(version: str, serve: Serve, application: Names, tmp_path: Path) -> None:
    """A client that resumes a session is verified again: with the certificate it is known, without it is refused."""
    shown, session = ALICE.write(tmp_path / "alice.pem"), tmp_path / "session"
    options = (f"-tls{version.replace('.', '_')}",)
    mine = ("-cert", str(shown), "-key", str(shown))
    async with serve() as port:
        assert b"alice" in await openssl(port, *options, *mine, "-sess_out", str(session))
        assert session.exists() is (version == "1.3")  # before, there is none to resume without id and ticket
        resumed = ("-sess_in", str(session)) if version == "1.3" else ()
        assert b"alice" in await openssl(port, *options, *mine, *resumed)
        assert b"alert" in await openssl(port, *options, *resumed)
    assert len(application.heads) == 2


def peer_serial(writer: asyncio.StreamWriter) -> int:
    """The serial number of the server's certificate."""
    return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True)).serial_number


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


async def test_renewed_files(serve: Serve, settings: ListenerTls, tmp_path: Path) -> None:
    """The next handshake uses a renewed certificate and authority; a connection that is open goes on."""
    clock, old, new = Clock(), client(tmp_path, ALICE), client(tmp_path, OTHER.issue("CN=bob"))
    async with serve(now=clock) as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=old)
        assert await once(reader, writer) == b"alice"
        assert settings.certificate is not None
        assert settings.client_ca is not None
        renewed = server_certificate()
        renewed.write(settings.certificate)
        settings.client_ca.write_bytes(OTHER.certificate_pem)
        await refused(port, new)  # it is not yet time to look
        clock.time = 1.0
        assert await ask(port, new) == b"bob"
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


def test_a_file_that_is_gone_changes_nothing(
    settings: ListenerTls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that cannot be read is an error in the log, said once, and what it held before still counts."""
    clock = Clock()
    tls = ClientTls(settings, now=clock)
    before = serial(tls)
    assert settings.client_ca is not None
    settings.client_ca.unlink()
    for clock.time in (1.0, 2.0):
        assert serial(tls) == before
    (error,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "clients.pem: No such file" in error


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"certificate": "nowhere.pem"}, r"certificate file .*nowhere\.pem: No such file"),
        ({"certificate": "empty.pem"}, r"certificate file .*empty\.pem: no usable certificate and key"),
        ({"certificate": "clients.pem"}, r"certificate file .*clients\.pem: no usable certificate and key"),
        ({"key": "other.pem"}, r"server\.pem and .*other\.pem: no usable certificate and key: key values mismatch"),
        ({"client_ca": "empty.pem"}, r"client_ca file .*empty\.pem: no usable certificates"),
        ({"client_ca": "nowhere.pem"}, r"certificate file .*nowhere\.pem: No such file"),
    ],
)
def test_files_that_cannot_be_used(
    changed: dict[str, str], message: str, settings: ListenerTls, tmp_path: Path
) -> None:
    """At the start a file that cannot be used is an error that names it."""
    (tmp_path / "empty.pem").write_bytes(b"")
    OTHER.write(tmp_path / "other.pem")
    paths = {name: tmp_path / file for name, file in changed.items()}
    with pytest.raises((OSError, ValueError), match=message):
        ClientTls(replace(settings, **paths))  # type: ignore[arg-type]


class Broken(ClientTls):
    """Cannot make a connection."""

    def connection(self) -> SSL.Connection:
        raise RuntimeError("no")


async def test_a_fault_serves_nobody(
    settings: ListenerTls, application: Names, confdir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When our TLS fails the connection is closed, and not served with what mitmproxy would use instead."""
    async with serving(application, confdir, client_tls=Broken(settings)) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(port, client(tmp_path, ALICE))
    assert application.heads == []
    assert "connection closed: no layer for it" in caplog.text


async def test_old_tls_is_refused(serve: Serve, application: Names) -> None:
    """TLS 1.1 is not spoken."""
    async with serve() as port:
        assert b"alert" in await openssl(port, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert application.heads == []


@pytest.mark.parametrize(
    ("shown", "status"), [(ALICE, b"404"), (AUTHORITY.issue("CN=bob"), b"403"), (None, b"401")], ids=["a", "b", "none"]
)
async def test_rules_apply_to_who_the_certificate_names(
    shown: Issued | None, status: bytes, settings: ListenerTls, tmp_path: Path
) -> None:
    """A whole gateway lets in whom its rules name, forbids others, and asks for a credential where none is shown."""
    made = Settings(
        listen=(Listener("127.0.0.1", 0),),
        upstreams=(Upstream("down", "triton", Address("grpc", "127.0.0.1", 9), models=("other",)),),
        tls=replace(settings, client_certificate="request"),
        auth=AuthSettings((MtlsSettings(),), rules=(Rule(subjects=(SPIFFE,), methods=("mtls",)),)),
    )
    async with running(made) as address:
        reader, writer = await asyncio.open_connection("localhost", address.port, ssl=client(tmp_path, shown))
        writer.write(b"GET /v2/models/m HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.readline()).split()[1] == status
        await close(writer)
