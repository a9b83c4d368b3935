"""Client certificates at a running proxy, in all four corners."""

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509

from auth.corners import CORNERS, REST, Corner, Gateway, bearer, running_gateway
from gateway.authority import DAY, SERVER, Issued, self_signed
from gateway.tls_clients import ALICE, AUTHORITY, OTHER, SERVERS, SPIFFE, client, server_certificate

pytestmark = pytest.mark.usefixtures("home")
corners = pytest.mark.parametrize("corner", CORNERS, ids=[one.name for one in CORNERS])
upstreams = pytest.mark.parametrize("upstream", ["rest", "grpc"])
BAD = {
    "none": None,
    "self-signed": self_signed("CN=alice"),
    "another authority's": OTHER.issue("CN=alice"),
    "expired": AUTHORITY.issue("CN=alice", valid=(-2 * DAY, -DAY)),
    "for servers": AUTHORITY.issue("CN=alice", usages=SERVER),
    "for nothing in particular": AUTHORITY.issue("CN=alice", usages=None),
}
NAMED = {
    SPIFFE: ALICE,
    "bob.test": AUTHORITY.issue("CN=bob", x509.DNSName("bob.test"), x509.RFC822Name("bob@example.test")),
    "carol@example.test": AUTHORITY.issue("CN=carol", x509.RFC822Name("carol@example.test")),
    "dave": AUTHORITY.issue("CN=dave"),
}


def channel_of(shown: Issued | None) -> Callable[[str], grpc.aio.Channel]:
    """Opens channels that show a certificate."""
    key, certificate = (shown.key_pem, shown.certificate_pem) if shown is not None else (None, None)
    credentials = grpc.ssl_channel_credentials(SERVERS.certificate_pem, key, certificate)
    return lambda target: grpc.aio.secure_channel(target, credentials)


def running(
    folder: Path, upstream: str, shown: Issued | None, required: str = "require"
) -> AbstractAsyncContextManager[Gateway]:
    """A proxy that asks for certificates, and callers that show this one."""
    server_certificate().write(folder / "server.pem")
    (folder / "clients.pem").write_bytes(AUTHORITY.certificate_pem)
    tls = f"tls: {{certificate: server.pem, client_ca: clients.pem, client_certificate: {required}}}"
    auth = "authenticators: [mtls]\nforward: {subject: x-remote-user, groups: x-remote-groups}"
    context = client(folder, shown)
    return running_gateway(folder, upstream, auth, more=tls, channel=channel_of(shown), tls=context)


@corners
@pytest.mark.parametrize("shown", BAD.values(), ids=BAD)
async def test_a_bad_certificate_ends_the_handshake(corner: Corner, shown: Issued | None, tmp_path: Path) -> None:
    """A-11: none, self-signed, of another authority, expired, not for clients: no call is heard at all."""
    async with running(tmp_path, "rest", shown) as gateway:
        if corner.rest:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await gateway.call(corner)
        else:
            assert (await gateway.call(corner)).outcome == "unavailable"  # grpcio's word for it
        assert gateway.runtime.calls == []


@corners
@upstreams
@pytest.mark.parametrize("name", NAMED)
async def test_a_good_certificate_names_the_caller(corner: Corner, upstream: str, name: str, tmp_path: Path) -> None:
    """A-11: SPIFFE id, DNS name, email, common name: the first there is, is the identity; a header never is."""
    claimed = (("x-forwarded-client-cert", "By=spiffe://x;URI=spiffe://mallory"), ("x-remote-user", "mallory"))
    async with running(tmp_path, upstream, NAMED[name]) as gateway:
        reply = await gateway.call(corner, claimed)
        assert reply.outcome == "ok", reply
        (call,) = gateway.runtime.calls
    assert call.get("x-remote-user") == name
    assert not call.shows("mallory")


@corners
async def test_a_certificate_may_be_left_out_where_it_is_requested(corner: Corner, tmp_path: Path) -> None:
    """With `request` a client without one is heard, and is 401 or 16, whatever a header claims it has shown."""
    async with running(tmp_path, "rest", None, "request") as gateway:
        for metadata in ((), (("x-forwarded-client-cert", "URI=spiffe://alice"),)):
            assert (await gateway.call(corner, metadata)).outcome == "unauthenticated"
        assert gateway.runtime.calls == []


@corners
async def test_a_token_decides_before_a_certificate(corner: Corner, tmp_path: Path) -> None:
    """Who shows a bad token is refused, though the certificate is good."""
    async with running(tmp_path, "rest", ALICE) as gateway:
        assert (await gateway.call(corner, bearer("bad"))).outcome == "unauthenticated"
        assert (await gateway.call(corner)).outcome == "ok"


async def test_where_there_is_tls_nothing_goes_in_the_clear(tmp_path: Path) -> None:
    """A plaintext call to the port is told so, before anybody looks at its credential."""
    async with running(tmp_path, "rest", ALICE) as gateway:
        gateway.tls = None
        assert (await gateway.call(REST, bearer("secret"))).outcome == "invalid"
        assert gateway.runtime.calls == []
