"""Opening the right kind of pool for a URL."""

from inferbridge.gateway.limits import Limits
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import Pool
from inferbridge.upstream.http1 import Http1Pool
from inferbridge.upstream.http2 import Http2Pool
from inferbridge.upstream.tls import TlsSettings


def open_pool(url: str, *, limits: Limits, tls: TlsSettings | None = None) -> Pool:
    """The pool for `url`: http, https (HTTP/1.1), grpc (HTTP/2 with prior knowledge) or grpcs (HTTP/2 over TLS).

    Connects on the first call. ValueError when the URL or a TLS file cannot be used.
    """
    address = parse_address(url)
    if tls is not None and not address.tls:
        raise ValueError(f"upstream URL {url!r}: TLS settings need https:// or grpcs://")
    if address.scheme in ("http", "https"):
        return Http1Pool(address, limits, tls)
    return Http2Pool(address, limits, tls)
