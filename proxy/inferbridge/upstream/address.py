"""Where an upstream is: `http`, `https`, `grpc` (HTTP/2 with prior knowledge) and `grpcs` (HTTP/2 over TLS) URLs."""

import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

type Scheme = Literal["http", "https", "grpc", "grpcs"]

_SCHEMES: dict[str, Scheme] = {"http": "http", "https": "https", "grpc": "grpc", "grpcs": "grpcs"}
_DEFAULT_PORTS: dict[Scheme, int | None] = {"http": 80, "https": 443, "grpc": None, "grpcs": 443}
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts of a URL that are this machine: what is sent there passes nobody."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._\-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._\-]+)?")


@dataclass(frozen=True, slots=True)
class Address:
    """One upstream endpoint."""

    scheme: Scheme
    host: str
    """Name or address to connect to; an IPv6 address has no brackets."""
    port: int
    at: tuple[str, int] | None = None
    """Where to connect instead, one of several places behind one name; host and port are then what is said there."""

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port to connect to."""
        return self.at or (self.host, self.port)

    @property
    def tls(self) -> bool:
        """The connection is encrypted."""
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """What `Host` and `:authority` say: no port when it is the scheme's own."""
        host = f"[{self.host.split('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        host, port = self.endpoint
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of several places behind one URL."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """`host:port`, with an IPv6 host in brackets; ValueError says what belongs there."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _HOST.fullmatch(bare) or (":" in bare) != (bare != host) or not re.fullmatch("[0-9]{1,5}", port):
        raise ValueError("must be host:port, such as 10.0.0.1:8000 or [fd00::1]:8000")
    if not 0 < int(port) < 1 << 16:
        raise ValueError("must have a port from 1 to 65535")
    return Endpoint(bare, int(port))


def parse_address(url: str) -> Address:
    """The address `url` names; ValueError says what is wrong and repeats nothing: it may hold a password."""
    if _CONTROL.search(url):  # `urlsplit` would drop some of them in silence
        raise ValueError("upstream URL: it has control characters")
    try:
        parts = urlsplit(url)
        given = parts.port
    except ValueError:  # its message repeats a part of the URL
        raise ValueError("upstream URL: host or port cannot be read") from None
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError("upstream URL: expected http://, https://, grpc:// or grpcs:// and host:port")
    _refuse_extras(parts)
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError("upstream URL: what stands for the host is not a host name or address")
    port = _DEFAULT_PORTS[scheme] if given is None else given
    if not port:
        raise ValueError(f"upstream URL: a port is needed, as in {scheme}://host:8001")
    return Address(scheme, parts.hostname, port)


def _refuse_extras(parts: SplitResult) -> None:
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"upstream URL {parts.scheme}://…@{parts.hostname}: credentials do not belong in the URL")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("upstream URL: nothing may follow host:port (paths come from the endpoints)")


def describe(error: BaseException) -> str:
    """Why connecting failed, in words, without errno numbers and socket addresses."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"certificate refused: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS: {error.reason or error}".replace("_", " ").lower().replace("tls:", "TLS:")
        case socket.gaierror():
            return (error.strerror or str(error)).lower()
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
    return str(error) or type(error).__name__
