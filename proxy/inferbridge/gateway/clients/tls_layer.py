"""mitmproxy's TLS layer with a connection of our own.

Its hook is not asked for one: whatever an addon does, and also when one raises (mitmproxy would go on with what another
has made), the client is verified as configured or is not served.
"""

import logging

from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.tls import ClientTLSLayer, TLSLayer
from OpenSSL import SSL

from inferbridge.auth.identity import ClientCertificate
from inferbridge.gateway.clients.client_tls import objection, verified_certificate

_log = logging.getLogger(__name__)


class ListenerTlsLayer(ClientTLSLayer):
    """Terminates a client's TLS; its child gets the plaintext."""

    def __init__(self, context: Context, connection: SSL.Connection) -> None:
        """`connection` is of `ClientTls`."""
        super().__init__(context)
        self._connection = connection

    def certificate(self) -> ClientCertificate | None:
        """The client's, after the handshake."""
        return verified_certificate(self._connection)

    def start_tls(self) -> CommandGenerator[None]:
        """Called by mitmproxy once the ClientHello is there."""
        self.tls = self._connection
        yield from ()

    def on_handshake_error(self, err: str) -> CommandGenerator[None]:
        """Called by mitmproxy; it blames the client's trust in us for everything, and keeps the alert to itself."""
        if self.tls:
            yield from self.tls_interact()
            err = objection(self.tls) or err
        if "peer did not return a certificate" in err:
            err = "the client showed no certificate, and tls.client_certificate is require"
        host, port, *_ = self.conn.peername or ("unknown", 0)
        level = logging.INFO if err.startswith("connection closed") else logging.WARNING
        _log.log(level, "TLS handshake with %s port %s failed: %s", host, port, err)
        yield from TLSLayer.on_handshake_error(self, err)
        self.event_to_child = self.errored  # type: ignore[method-assign]
