"""TLS towards runtimes: one `ssl.SSLContext` per distinct set of files and options, by file content.

Contexts are cheap to share and costly to build (loading a CA bundle takes milliseconds). Keying the cache by content
means that a certificate renewed in place is used from the next connection on.
"""

import hashlib
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How to verify a runtime, and who we are to it."""

    ca_file: str | None = None
    """PEM bundle to trust instead of the system's."""
    client_certificate: str | None = None
    """PEM chain for mutual TLS."""
    client_key: str | None = None
    """PEM key; None when it is in `client_certificate`."""
    server_name: str | None = None
    """Name to verify and to send as SNI, when it is not the host of the URL."""
    verify: bool = True
    """False accepts any certificate."""


def client_context(settings: TlsSettings, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """A context offering `alpn`; ValueError names the file that cannot be used."""
    files = (settings.ca_file, settings.client_certificate, settings.client_key)
    return _build(settings, alpn, tuple(_digest(name) for name in files))


def _digest(name: str | None) -> bytes | None:
    if name is None:
        return None
    try:
        return hashlib.sha256(Path(name).read_bytes()).digest()
    except OSError as error:
        raise ValueError(f"TLS file {name}: {error.strerror}") from error


@lru_cache(maxsize=64)
def _build(settings: TlsSettings, alpn: tuple[str, ...], _content: tuple[bytes | None, ...]) -> ssl.SSLContext:
    if settings.client_key is not None and settings.client_certificate is None:
        raise ValueError("TLS: a client key needs a client certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _trust(context, settings)
    _identify(context, settings)
    return context


def _trust(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.ca_file is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(settings.ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"TLS file {settings.ca_file}: no usable PEM certificate ({error.reason})") from error


def _identify(context: ssl.SSLContext, settings: TlsSettings) -> None:
    if settings.client_certificate is None:
        return
    try:
        # an encrypted key would otherwise prompt on the terminal
        context.load_cert_chain(settings.client_certificate, settings.client_key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        names = " and ".join(filter(None, (settings.client_certificate, settings.client_key)))
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"TLS file {names}: no usable certificate and key ({reason})") from error


def _no_password() -> str:
    raise ValueError("encrypted keys are not supported")
