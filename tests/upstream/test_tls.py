"""TLS towards runtimes: verification, mutual TLS, ALPN, renewed files."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from inferbridge.bridge.errors import Code
from inferbridge.gateway.limits import Limits
from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.tls import TlsSettings, client_context
from upstream.certificates import Certificates, make_certificates
from upstream.conftest import OpenPool
from upstream.grpc_server import framed, grpc_request, grpc_server
from upstream.h1_server import h1_server
from upstream.recorder import Recorder

GET = UpstreamRequest("GET", "/")
ECHO = grpc_request("Echo")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Fresh certificates."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def mutual(certificates: Certificates) -> Iterator[int]:
    """Port of a gRPC server that wants a client certificate."""
    pair = (certificates.content("server.key"), certificates.content("server.crt"))
    credentials = grpc.ssl_server_credentials([pair], certificates.content("ca.crt"), require_client_auth=True)
    with grpc_server(credentials) as (_, port, _):
        yield port


def _settings(certificates: Certificates, *, client: bool = True, ca: str | None = "ca.crt") -> TlsSettings:
    return TlsSettings(
        ca_file=None if ca is None else certificates.path(ca),
        client_certificate=certificates.path("client.crt") if client else None,
        client_key=certificates.path("client.key") if client else None,
    )


async def test_mutual_tls_with_grpcio(opened: OpenPool, certificates: Certificates, mutual: int) -> None:
    """A gRPC server that wants a client certificate gets ours, we verify its own, and HTTP/2 is agreed by ALPN."""
    recorder = Recorder()
    opened(f"grpcs://localhost:{mutual}", tls=_settings(certificates)).send(ECHO, recorder)
    await recorder.answer()
    assert recorder.body == b"".join(framed(b"hello"))


async def test_without_a_client_certificate(opened: OpenPool, certificates: Certificates, mutual: int) -> None:
    """The server refuses us: UNAVAILABLE, not a hang."""
    recorder = Recorder()
    opened(f"grpcs://localhost:{mutual}", tls=_settings(certificates, client=False)).send(ECHO, recorder)
    assert (await recorder.failure()).code is Code.UNAVAILABLE


async def test_an_untrusted_server(opened: OpenPool, certificates: Certificates, mutual: int) -> None:
    """A certificate of an unknown CA is refused by name, unless verification is off."""
    url = f"grpcs://localhost:{mutual}"
    refused = Recorder()
    opened(url, tls=_settings(certificates, ca="other.crt")).send(ECHO, refused)
    error = await refused.failure()
    assert error.code is Code.UNAVAILABLE
    assert error.message.startswith(f"cannot connect to {url}: certificate refused: ")
    accepted = Recorder()
    trusting = TlsSettings(
        client_certificate=certificates.path("client.crt"), client_key=certificates.path("client.key"), verify=False
    )
    opened(url, tls=trusting).send(ECHO, accepted)
    await accepted.answer()


def _server_context(certificates: Certificates, name: str = "server") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.path(f"{name}.crt"), certificates.path(f"{name}.key"))
    return context


async def test_https(opened: OpenPool, certificates: Certificates) -> None:
    """HTTP/1.1 over TLS: one connection carries several calls, and the name is verified."""
    async with h1_server(tls=_server_context(certificates)) as server:
        pool = opened(server.url, tls=_settings(certificates, client=False))
        for _ in range(3):
            recorder = Recorder()
            pool.send(GET, recorder)
            assert (await recorder.answer()).body == b"ok"
        assert server.connections == 1


@pytest.mark.parametrize("expired", [False, True])
async def test_renewed_authorities_count_from_the_next_connection(
    expired: bool, opened: OpenPool, certificates: Certificates, tmp_path: Path
) -> None:
    """A pool that refuses a server trusts it when the file of authorities has changed; an expired one it never does."""
    authorities = tmp_path / "service-ca.crt"
    authorities.write_bytes(certificates.content("other.crt"))
    async with h1_server(tls=_server_context(certificates, "expired" if expired else "server")) as server:
        pool = opened(server.url, tls=TlsSettings(ca_file=str(authorities)))
        before, after = Recorder(), Recorder()
        pool.send(GET, before)
        assert "certificate refused" in (await before.failure()).message
        renewed = tmp_path / "renewed"
        renewed.write_bytes(certificates.content("ca.crt"))
        renewed.replace(authorities)
        pool.send(GET, after)
        if expired:
            assert "certificate refused: certificate has expired" in (await after.failure()).message
        else:
            assert (await after.answer()).body == b"ok"


async def test_the_server_name_can_be_set(opened: OpenPool, certificates: Certificates) -> None:
    """`server_name` is what is verified instead of the URL's host."""
    async with h1_server(tls=_server_context(certificates)) as server:
        ca_file = certificates.path("ca.crt")
        wrong, right = Recorder(), Recorder()
        opened(server.url, tls=TlsSettings(ca_file=ca_file, server_name="triton.example")).send(GET, wrong)
        assert "certificate refused: Hostname mismatch" in (await wrong.failure()).message
        by_address = server.url.replace("localhost", "127.0.0.1")
        opened(by_address, tls=TlsSettings(ca_file=ca_file, server_name="localhost")).send(GET, right)
        await right.answer()


async def test_a_server_without_http2(opened: OpenPool, certificates: Certificates) -> None:
    """grpcs needs ALPN h2; a server that does not offer it is named so, not spoken to in the wrong protocol."""
    async with h1_server(tls=_server_context(certificates)) as server:
        recorder = Recorder()
        url = server.url.replace("https", "grpcs")
        opened(url, tls=_settings(certificates, client=False)).send(ECHO, recorder)
        error = await recorder.failure()
        assert error.message == f"cannot connect to {url}: the server does not offer HTTP/2 by ALPN"


async def test_a_plain_server_behind_https(opened: OpenPool) -> None:
    """A server without TLS is UNAVAILABLE, with a TLS reason."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        recorder = Recorder()
        opened(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}").send(GET, recorder)
        error = await recorder.failure()
        assert error.code is Code.UNAVAILABLE
        assert ": TLS: " in error.message


def test_contexts_are_shared_by_content(certificates: Certificates, tmp_path: Path) -> None:
    """The same files give the same context; a file renewed in place gives another."""
    copy = tmp_path / "ca.crt"
    copy.write_bytes(certificates.content("ca.crt"))
    settings = TlsSettings(ca_file=str(copy))
    first = client_context(settings, ("h2",))
    assert client_context(settings, ("h2",)) is first
    assert client_context(settings, ("http/1.1",)) is not first
    copy.write_bytes(certificates.content("other.crt"))
    assert client_context(settings, ("h2",)) is not first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ca_file": "missing.crt"}, r"missing\.crt: No such file"),
        ({"ca_file": "server.key"}, r"server\.key: no usable PEM certificate"),
        ({"client_certificate": "client.crt"}, r"client\.crt: no usable certificate and key"),
        ({"client_certificate": "client.crt", "client_key": "server.key"}, "no usable certificate and key"),
        ({"client_key": "client.key"}, "a client key needs a client certificate"),
    ],
)
def test_unusable_files_are_named(certificates: Certificates, settings: dict[str, str], message: str) -> None:
    """Opening a pool with TLS files that cannot be used raises ValueError with the file and the reason."""
    tls = TlsSettings(**{key: certificates.path(value) for key, value in settings.items()})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        open_pool("https://localhost:1", limits=Limits(), tls=tls)
