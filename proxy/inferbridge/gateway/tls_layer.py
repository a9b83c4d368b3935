"""mitmproxy's TLS layer with connections of our own.

Its hooks are not asked for a connection: whatever an addon does, and also when one raises (mitmproxy would go on with
what another has made), the client is verified as configured or is not served.
"""

import logging

from mitmproxy.proxy import commands
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layer import CommandGenerator
from mitmproxy.proxy.layers.tls import ClientTLSLayer, TLSLayer

from inferbridge.auth.identity import ClientCertificate
from inferbridge.gateway.client_tls import ClientTls, objection, verified_certificate

_log = logging.getLogger(__name__)


class ListenerTlsLayer(ClientTLSLayer):
    """Terminates a client's TLS; its child gets the plaintext."""

    def __init__(self, context: Context, client_tls: ClientTls) -> None:
        super().__init__(context)
        self._client_tls = client_tls

    def certificate(self) -> ClientCertificate | None:
        """The client's, after the handshake."""
        return verified_certificate(self.tls)

    def start_tls(self) -> CommandGenerator[None]:
        """Called by mitmproxy once the ClientHello is there."""
        try:
            self.tls = self._client_tls.connection()
        except Exception:
            _log.exception("connection closed: no TLS for it")
            yield commands.CloseConnection(self.conn)

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
