"""TLS towards clients: a pyOpenSSL context of the listener's files, and the connections that are made of it.

    certificate, key, client_ca ──▶ bytes ──changed?──▶ context ──▶ one SSL.Connection for each handshake

mitmproxy's own context asks for a client certificate and then accepts any, and none. This one has OpenSSL verify it in
the handshake: signed by an authority of `client_ca` and nobody else, in its time, for clients. So a certificate that a
connection has after its handshake is a verified one.

Files are looked at when a client connects, at most once in `LOOK_SECONDS`. A renewed certificate is used by the next
handshake, what is open goes on as it began. Files that do not fit together (two of them are not written at once) leave
the context before in use and are an error in the log.

Where clients show certificates no session is resumed: OpenSSL does not verify the certificate of a resumed session
again, so the session would outlive the certificate.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto

from inferbridge.auth.identity import ClientCertificate
from inferbridge.config.values import ListenerTls
from inferbridge.gateway.clients.client_certificate import is_for_clients, read_certificate
from inferbridge.secret import Secret

LOOK_SECONDS = 1.0
EXPIRES_SOON = timedelta(days=14)
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:!aNULL:!SHA1"
"""Of TLS 1.2, forward secret; those of TLS 1.3 are not chosen here."""
_ALPN = frozenset({b"h2", b"http/1.1"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class _Contents:
    """What the files hold; no repr, because the key must not be in a log."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class ClientTls:
    """The TLS side of client connections."""

    def __init__(self, settings: ListenerTls, *, now: Callable[[], float] = time.monotonic) -> None:
        """`settings` has a certificate. ValueError or OSError, naming the file, when one cannot be used."""
        self._settings = settings
        self._now = now
        self._looked = now()
        self._contents = _read(settings)
        self._context = _context(settings, self._contents)
        self._expires = self._expiry()
        self._complaint = ""

    @property
    def verifies(self) -> bool:
        """Whether clients are asked for certificates."""
        return self._settings.client_ca is not None

    def seconds_left(self) -> float:
        """Until the certificate that clients are shown expires; negative when it has."""
        self._look_again()
        return (self._expires - datetime.now(UTC)).total_seconds()

    def _expiry(self) -> datetime:
        """When that will be. It is said in the log when it is soon."""
        expires = x509.load_pem_x509_certificates(self._contents.certificate)[0].not_valid_after_utc
        left = expires - datetime.now(UTC)
        if left < EXPIRES_SOON:
            _log.warning("TLS file %s: the certificate expires at %s", self._settings.certificate, expires.isoformat())
        return expires

    def connection(self) -> SSL.Connection:
        """The server's side of a handshake that is to come."""
        self._look_again()
        connection = SSL.Connection(self._context)
        connection.set_accept_state()
        return connection

    def _look_again(self) -> None:
        now = self._now()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._look()

    def _look(self) -> None:
        try:
            contents = _read(self._settings)
            if contents != self._contents:
                self._contents = contents  # broken ones are not tried again either
                self._context = _context(self._settings, contents)
                self._expires = self._expiry()
                _log.info("%s: the renewed files are used from now on", self._settings.certificate)
            self._complaint = ""
        except (OSError, ValueError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("what was renewed cannot be used, what was there before still is: %s", error)


def verified_certificate(connection: SSL.Connection) -> ClientCertificate | None:
    """Whose certificate a connection of `ClientTls` has verified; None when the client has shown none."""
    chain = connection.get_verified_chain(as_cryptography=True)
    return read_certificate(chain[0]) if chain else None


def objection(connection: SSL.Connection) -> str:
    """What we, other than OpenSSL, have against the client's certificate; empty for nothing."""
    reason = connection.get_app_data()
    return reason if isinstance(reason, str) else ""


def _read(settings: ListenerTls) -> _Contents:
    certificate = _file(settings.certificate)
    key = _file(settings.key) if settings.key is not None else certificate
    return _Contents(certificate, key, None if settings.client_ca is None else _file(settings.client_ca))


def _file(path: Path | None) -> bytes:
    if path is None:
        raise ValueError("TLS needs a certificate")
    try:
        return path.read_bytes()
    except OSError as error:
        raise OSError(f"TLS file {path}: {error.strerror}") from None


def _context(settings: ListenerTls, contents: _Contents) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_cipher_list(CIPHERS)
    context.set_alpn_select_callback(_select_alpn)
    try:
        _identify(context, contents, settings.passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm, SSL.Error) as error:
        names = " and ".join(str(path) for path in (settings.certificate, settings.key) if path is not None)
        raise ValueError(f"TLS file {names}: no usable certificate and key ({_reason(error)})") from None
    if contents.client_ca is not None:
        try:
            _verify_clients(context, contents.client_ca, required=settings.client_certificate == "require")
        except (ValueError, crypto.Error, SSL.Error) as error:
            raise ValueError(f"TLS file {settings.client_ca}: no usable PEM certificate ({_reason(error)})") from None
    return context


def _reason(error: Exception) -> str:
    """pyOpenSSL's errors hold a list of (library, function, reason)."""
    found = error.args[0] if error.args else ""
    return ", ".join(str(entry[-1]) for entry in found) if isinstance(found, list) else str(error)


def _identify(context: SSL.Context, contents: _Contents, passphrase: Secret | None) -> None:
    chain = x509.load_pem_x509_certificates(contents.certificate)
    try:
        key = load_pem_private_key(contents.key, passphrase.reveal().encode() if passphrase is not None else None)
    except TypeError:
        if passphrase is None:
            raise ValueError("the private key is encrypted, give its passphrase") from None
        key = load_pem_private_key(contents.key, None)  # it has none, whatever was given
    context.use_certificate(chain[0])
    for issuer in chain[1:]:
        context.add_extra_chain_cert(issuer)
    context.use_privatekey(key)  # type: ignore[arg-type]  # a key that OpenSSL does not use in TLS is an SSL.Error
    context.check_privatekey()


def _select_alpn(_connection: SSL.Connection, offers: list[bytes]) -> Any:
    """The client's first choice among ours. One that offers nothing of ours is taken for HTTP/1.1, like one without."""
    return next((offer for offer in offers if offer in _ALPN), SSL.NO_OVERLAPPING_PROTOCOLS)


def _verify_clients(context: SSL.Context, authorities: bytes, *, required: bool) -> None:
    store = context.get_cert_store()
    assert store is not None
    for authority in x509.load_pem_x509_certificates(authorities):
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)  # told to clients, which choose among their certificates by it
    store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)  # who is listed is trusted, be it no root
    context.set_verify(SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0), _verify)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET)


def _verify(connection: SSL.Connection, certificate: crypto.X509, _error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict on each certificate of the chain, and ours on the client's own (depth 0)."""
    if not ok or depth:
        return bool(ok)
    reason = _objection(certificate)
    connection.set_app_data(reason)
    return not reason


def _objection(certificate: crypto.X509) -> str:
    try:
        found = certificate.to_cryptography()
        read_certificate(found)
        return "" if is_for_clients(found) else "its extended key usage does not name clientAuth"
    except Exception as error:  # pyOpenSSL would raise it in the middle of the handshake
        return f"it cannot be read: {type(error).__name__}"
