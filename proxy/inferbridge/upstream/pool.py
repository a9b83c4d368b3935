"""Opening the right kind of pool for a URL."""

from collections.abc import Callable

from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS, Limits
from inferbridge.upstream.address import Address, parse_address
from inferbridge.upstream.api import Pool
from inferbridge.upstream.balanced import Balanced, DuplexBalanced, Spread
from inferbridge.upstream.http1 import Http1Pool
from inferbridge.upstream.http2 import Http2Pool
from inferbridge.upstream.retries import NoRetries, Reason, Retries, unheard
from inferbridge.upstream.tls import TlsSettings


def open_pool(
    url: str,
    *,
    limits: Limits,
    tls: TlsSettings | None = None,
    age_seconds: float = UPSTREAM_AGE_SECONDS,
    retried: Callable[[Reason], None] = unheard,
    spread: Spread | None = None,
) -> Pool:
    """The pool for `url`: http, https (HTTP/1.1), grpc (HTTP/2 with prior knowledge) or grpcs (HTTP/2 over TLS).

    Connects on the first call. With `spread` calls go to several addresses under that URL. A connection takes calls
    for `age_seconds`; `retried` hears of each call that is sent again. ValueError when the URL or a TLS file cannot be
    used.
    """
    address = parse_address(url)
    if tls is not None and not address.tls:
        raise ValueError(f"upstream URL {url!r}: TLS settings need https:// or grpcs://")

    def open_one(place: Address, retries: Retries) -> Http1Pool | Http2Pool:
        if place.scheme in ("http", "https"):
            return Http1Pool(place, limits, tls, age_seconds=age_seconds, retries=retries)
        return Http2Pool(place, limits, tls, age_seconds=age_seconds, retries=retries)

    if spread is None:
        return open_one(address, Retries(retried))
    kind = Balanced if address.scheme in ("http", "https") else DuplexBalanced
    return kind(address, spread, lambda place: open_one(place, NoRetries()), Retries(retried))
