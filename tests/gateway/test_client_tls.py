"""Client certificates on real sockets: who gets in, and as whom."""

import asyncio
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from gateway.authority import DAY, SERVER, Authority, Issued, self_signed
from gateway.conftest import Serve
from gateway.serving import TIMEOUT, curl, talk
from gateway.tls_clients import (
    ALICE,
    AUTHORITY,
    CALL,
    MIDDLE,
    OTHER,
    SERVERS,
    SPIFFE,
    VERSIONS,
    Names,
    ask,
    client,
    close,
    once,
    openssl,
    refused,
)
from inferbridge.auth.identity import ClientCertificate
from inferbridge.auth.settings import AuthSettings, MtlsSettings, Rule
from inferbridge.config import Listener, ListenerTls, Settings, Upstream
from inferbridge.run import running
from inferbridge.upstream.address import Address

REFUSED: dict[str, tuple[Issued | None, str]] = {
    "none": (None, "the client showed no certificate"),
    "self-signed": (self_signed("CN=alice"), "self-signed certificate"),
    "other authority": (OTHER.issue("CN=alice"), "unable to get local issuer certificate"),
    "server's authority": (SERVERS.issue("CN=alice"), "self-signed certificate in certificate chain"),
    "expired": (AUTHORITY.issue("CN=alice", valid=(-2 * DAY, -DAY)), "certificate has expired"),
    "not yet valid": (AUTHORITY.issue("CN=alice", valid=(DAY, 2 * DAY)), "certificate is not yet valid"),
    "for servers": (AUTHORITY.issue("CN=alice", usages=SERVER), "purpose"),
    "for nothing said": (AUTHORITY.issue("CN=alice", usages=None), "does not name clientAuth"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("shown", "reason"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_certificate_is_refused_in_the_handshake(
    shown: Issued | None,
    reason: str,
    version: str,
    serve: Serve,
    names: Names,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No certificate, or one that is not good, ends the handshake: an alert for the client, the reason in the log."""
    async with serve() as port:
        await refused(port, client(tmp_path, shown, version=version))
    assert names.heads == []
    (line,) = [record.getMessage() for record in caplog.records if "handshake" in record.getMessage()]
    assert line.startswith("TLS handshake with 127.0.0.1 port ")
    assert reason in line


@pytest.mark.parametrize("version", VERSIONS)
async def test_whoever_shows_a_good_certificate_is_known(
    version: str, serve: Serve, names: Names, tmp_path: Path
) -> None:
    """The names in a verified certificate come with every call, as one object for a connection."""
    async with serve() as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=client(tmp_path, ALICE, version=version))
        assert await once(reader, writer) == b"alice"
        assert await once(reader, writer) == b"alice"
        await close(writer)
    first, second = names.heads
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
async def test_curl_is_known(protocol: str, serve: Serve, names: Names, tmp_path: Path) -> None:
    """curl with a certificate is known over HTTP/1.1 and over HTTP/2."""
    shown, servers = ALICE.write(tmp_path / "alice.pem"), tmp_path / "servers.pem"
    servers.write_bytes(SERVERS.certificate_pem)
    async with serve() as port:
        options = (protocol, "--cacert", str(servers), "--cert", str(shown))
        assert await curl(*options, f"https://localhost:{port}/") == b"alice"
    assert names.heads[0].version == protocol.removeprefix("--http")


async def test_grpcio_is_known(serve: Serve) -> None:
    """A gRPC client with a certificate is known."""
    credentials = grpc.ssl_channel_credentials(SERVERS.certificate_pem, ALICE.key_pem, ALICE.certificate_pem)
    async with serve() as port, grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        assert await channel.unary_unary("/package.Service/Method")(b"", timeout=TIMEOUT) == b"alice"


async def test_grpcio_without_a_certificate(serve: Serve, names: Names) -> None:
    """A gRPC client without one finds the server unavailable."""
    credentials = grpc.ssl_channel_credentials(SERVERS.certificate_pem)
    async with serve() as port, grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/package.Service/Method")(b"", timeout=TIMEOUT)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert names.heads == []


async def test_a_certificate_that_is_only_requested(serve: Serve, tmp_path: Path) -> None:
    """Where one is only requested a client without it is served as nobody, a good one is known, a bad one refused."""
    async with serve("request") as port:
        assert await ask(port, client(tmp_path, None)) == b"nobody"
        assert await ask(port, client(tmp_path, ALICE)) == b"alice"
        await refused(port, client(tmp_path, OTHER.issue("CN=alice")))


async def test_intermediate_authorities(serve: Serve, listener: ListenerTls, tmp_path: Path) -> None:
    """A chain up to a listed authority counts, and an authority that is listed need not be a root."""
    shown = MIDDLE.issue("CN=bob")
    async with serve() as port:
        assert await ask(port, client(tmp_path, shown, MIDDLE)) == b"bob"
        await refused(port, client(tmp_path, shown))
    assert listener.client_ca is not None
    listener.client_ca.write_bytes(MIDDLE.certificate_pem)
    async with serve() as port:
        assert await ask(port, client(tmp_path, shown)) == b"bob"
        await refused(port, client(tmp_path, ALICE))


async def test_a_client_is_no_authority(serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate that a client has signed with its own good one is refused, chain and all."""
    shown = Authority(ALICE.certificate, ALICE.key).issue("CN=mallory")
    async with serve() as port:
        await refused(port, client(tmp_path, shown, ALICE))
    assert "invalid CA certificate" in caplog.text


async def test_plaintext_is_not_served_beside(serve: Serve, names: Names) -> None:
    """Where clients are verified nobody comes in without TLS."""
    async with serve() as port:
        assert b"this port speaks TLS" in await talk(port, CALL)
    assert names.heads == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_no_credential(version: str, serve: Serve, names: Names, tmp_path: Path) -> None:
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
    assert len(names.heads) == 2


async def test_old_tls_is_refused(serve: Serve, names: Names) -> None:
    """TLS 1.1 is not spoken."""
    async with serve() as port:
        assert b"alert" in await openssl(port, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert names.heads == []


@pytest.mark.parametrize(
    ("shown", "status"), [(ALICE, b"404"), (AUTHORITY.issue("CN=bob"), b"403"), (None, b"401")], ids=["a", "b", "none"]
)
async def test_rules_apply_to_who_the_certificate_names(
    shown: Issued | None, status: bytes, listener: ListenerTls, tmp_path: Path
) -> None:
    """A whole gateway lets in whom its rules name, forbids others, and asks for a credential where none is shown."""
    made = Settings(
        listen=(Listener("127.0.0.1", 0),),
        upstreams=(Upstream("down", "triton", Address("grpc", "127.0.0.1", 9), models=("other",)),),
        tls=replace(listener, client_certificate="request"),
        auth=AuthSettings((MtlsSettings(),), rules=(Rule(subjects=(SPIFFE,), methods=("mtls",)),)),
    )
    async with running(made) as address:
        reader, writer = await asyncio.open_connection("localhost", address.port, ssl=client(tmp_path, shown))
        writer.write(b"GET /v2/models/m HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            assert (await reader.readline()).split()[1] == status
        await close(writer)
