"""Clients with and without certificates, a listener's certificate, and an application that says whom it sees."""

import asyncio
import ipaddress
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography import x509

from gateway.applications import Echo, EchoSink
from gateway.authority import SERVER, Authority, Issued
from gateway.serving import TIMEOUT
from inferbridge.gateway.application import RequestHead, Responder

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
