"""Upstream URLs."""

import pytest

from inferbridge.gateway.limits import Limits
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.http1 import Http1Pool
from inferbridge.upstream.http2 import Http2Pool
from inferbridge.upstream.pool import open_pool
from inferbridge.upstream.tls import TlsSettings


@pytest.mark.parametrize(
    ("url", "host", "port", "authority"),
    [
        ("http://localhost:8000", "localhost", 8000, "localhost:8000"),
        ("http://Runtime.example/", "runtime.example", 80, "runtime.example"),
        ("https://127.0.0.1:443", "127.0.0.1", 443, "127.0.0.1"),
        ("grpc://[::1]:8001", "::1", 8001, "[::1]:8001"),
        ("grpcs://triton_a", "triton_a", 443, "triton_a"),
    ],
)
def test_addresses(url: str, host: str, port: int, authority: str) -> None:
    """Host, port and authority of good URLs."""
    address = parse_address(url)
    assert (address.host, address.port, address.authority) == (host, port, authority)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected http://"),
        ("127.0.0.1:8001", "expected http://"),
        ("h2c://x:1", "expected http://"),
        ("grpc://", "expected http://"),
        ("grpc://triton", "a port is needed, as in grpc://host:8001"),
        ("grpc://triton:0", "a port is needed"),
        ("grpc://triton:99999", "host or port cannot be read"),
        ("grpc://triton:x", "host or port cannot be read"),
        ("http://x:1/v2", "nothing may follow host:port"),
        ("http://x:1?a", "nothing may follow host:port"),
        ("http://[::1", "host or port cannot be read"),
        ("http://a b:1", "not a host name"),
        ("http://a\r\nb:1", "control characters"),
        ("http://user:secret@x:1", "credentials do not belong"),
        ("http://user:secret/word@x:1", "host or port cannot be read"),
        ("http://secret/word@x:1", "nothing may follow host:port"),
        ("http://x:1?token=secret", "nothing may follow host:port"),
        ("secret://x", "expected http://"),
        ("grpc://secret", "a port is needed"),
    ],
)
def test_bad_urls_say_what_is_wrong(url: str, message: str) -> None:
    """A URL that cannot be used raises ValueError with the reason, and shows no password."""
    with pytest.raises(ValueError, match=message) as caught:
        open_pool(url, limits=Limits())
    assert "secret" not in str(caught.value)


def test_the_scheme_decides_on_the_protocol() -> None:
    """http and https are HTTP/1.1, grpc and grpcs are HTTP/2."""
    assert isinstance(open_pool("http://x:1", limits=Limits()), Http1Pool)
    assert isinstance(open_pool("https://x:1", limits=Limits()), Http1Pool)
    assert isinstance(open_pool("grpc://x:1", limits=Limits()), Http2Pool)
    assert isinstance(open_pool("grpcs://x:1", limits=Limits()), Http2Pool)


def test_tls_settings_need_a_tls_scheme() -> None:
    """A client certificate for a plain connection is a mistake, not a wish to be ignored."""
    with pytest.raises(ValueError, match="need https:// or grpcs://"):
        open_pool("grpc://x:1", limits=Limits(), tls=TlsSettings())
