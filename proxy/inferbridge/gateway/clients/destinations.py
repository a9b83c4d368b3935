"""Where clients of a transparent listener were going: to which of the configured upstreams.

The kernel has redirected their connections here, and remembers the address that they asked for. Only the address of an
upstream counts, whatever the redirection rule lets through: nothing that a client says makes the proxy connect anywhere
else. The hosts of upstreams are resolved anew now and then.
"""

import time
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address

from inferbridge.upstream.address import Address
from inferbridge.upstream.names import Lookup, system_lookup

FRESH_SECONDS = 30.0
type Endpoint = tuple[str, int]
"""IP address and port."""


class Destinations:
    """Upstreams by where they are."""

    def __init__(
        self,
        upstreams: Mapping[str, Address],
        now: Callable[[], float] = time.monotonic,
        lookup: Lookup = system_lookup,
    ) -> None:
        """`upstreams` by their names."""
        self._upstreams = upstreams
        self._now = now
        self._lookup = lookup
        self._resolved: dict[str, tuple[float, frozenset[str]]] = {}
        """Addresses of a host, and when they were found."""

    async def names(self, address: Endpoint) -> tuple[str, ...]:
        """The upstreams at an address; none for an address that is no upstream's."""
        host, port = _plain(address[0]), address[1]
        there = [(name, one.host) for name, one in self._upstreams.items() if one.port == port]
        return tuple([name for name, upstream in there if host in await self._addresses(upstream)])

    async def _addresses(self, host: str) -> frozenset[str]:
        when, found = self._resolved.get(host, (None, frozenset()))
        if when is None or self._now() - when >= FRESH_SECONDS:
            try:
                found = frozenset(_plain(found) for found, _ in await self._lookup(host, 0))
            except OSError:
                return found  # as it was before, if ever
            self._resolved[host] = (self._now(), found)
        return found


def _plain(host: str) -> str:
    """One spelling for each address; IPv4 that came through IPv6 is IPv4."""
    address = ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
