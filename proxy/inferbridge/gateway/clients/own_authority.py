"""mitmproxy's own certificate authority, made when the first client speaks TLS and not before.

A listener without a certificate may never meet such a client, and may have nowhere to keep an authority: containers run
with a file system that they cannot write to. Where none can be made TLS fails, and plaintext is served as before.
"""

import logging
from collections.abc import Iterable

from mitmproxy import ctx
from mitmproxy.tls import ClientHelloData, TlsData

from inferbridge.sparing import without_its_siblings

with without_its_siblings("mitmproxy.addons"):
    from mitmproxy.addons.tlsconfig import TlsConfig

_log = logging.getLogger(__name__)


class OwnAuthority(TlsConfig):
    """Signs certificates for clients of listeners that have none."""

    def __init__(self) -> None:
        self._changed: set[str] = set()
        """Options that have not been looked at yet."""
        self._complaint = ""

    def configure(self, updated: Iterable[str]) -> None:
        """Options have changed: remember that."""
        self._changed.update(updated)

    def tls_clienthello(self, tls_clienthello: ClientHelloData) -> None:
        """Nothing to decide: there is no server whose certificate could be looked at first."""

    def tls_start_client(self, tls_start: TlsData) -> None:
        """A client begins a handshake; without a connection of OpenSSL's in `tls_start` mitmproxy fails it."""
        try:
            if self._changed:
                super().configure(self._changed)
                self._changed.clear()
        except OSError as error:
            self._complain(error)
        else:
            super().tls_start_client(tls_start)

    def _complain(self, error: OSError) -> None:
        if str(error) != self._complaint:
            self._complaint = str(error)
            _log.error(
                "TLS needs a certificate (tls.certificate), or a folder to keep an authority of its own in: %s: %s",
                ctx.options.confdir,
                error.strerror,
            )
