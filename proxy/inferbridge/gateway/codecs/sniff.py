"""Which HTTP a client speaks, from its first bytes."""

from typing import Literal

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TLS_HANDSHAKE = 0x16


def detect(data: bytes) -> Literal["http1", "http2"] | None:
    """The protocol, or None while `data` could still become either ("P" may be "POST" or the HTTP/2 preface)."""
    if data.startswith(PREFACE):
        return "http2"
    return None if PREFACE.startswith(data) else "http1"
