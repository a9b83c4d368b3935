"""Settings as values: what the proxy is told, checked and complete."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inferbridge.bridge.context import NanPolicy, Policy
from inferbridge.gateway.limits import Limits

type Protocol = Literal["rest", "grpc"]
SCHEMES: dict[str, tuple[Protocol, bool]] = {
    "http": ("rest", False),
    "https": ("rest", True),
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
}
"""URL scheme to (protocol, whether it is under TLS); grpc is HTTP/2 with prior knowledge."""


class Secret:
    """A text that prints as ***, so that it cannot leak through a log line, a traceback or `--check`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen; an empty host is every interface, port 0 is any free one."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect. A name other than localhost counts as reachable from elsewhere."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Url:
    """Where a runtime listens."""

    scheme: str
    host: str
    port: int

    @property
    def protocol(self) -> Protocol:
        """What is spoken there."""
        return SCHEMES[self.scheme][0]

    @property
    def secure(self) -> bool:
        """Whether it is spoken under TLS."""
        return SCHEMES[self.scheme][1]

    def __str__(self) -> str:
        return f"{self.scheme}://{Address(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How to trust a runtime, and how to prove ourselves to it; all files are PEM."""

    ca: Path | None = None
    """Authorities to trust instead of the system's."""
    certificate: Path | None = None
    """Our certificate chain, with `key`, for a runtime that asks for one."""
    key: Path | None = None
    server_name: str | None = None
    """The name in the runtime's certificate when it is not the host of its URL."""
    insecure: bool = False
    """Accept any certificate."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One running runtime."""

    name: str
    runtime: str
    """Name of its description under `specs/runtimes`."""
    url: Url
    models: tuple[str, ...] = ("*",)
    """Globs (`*`, `?`, `[…]`) of the models it serves."""
    tls: UpstreamTls = UpstreamTls()


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """How clients see us over TLS."""

    certificate: Path | None = None
    """PEM with private key and chain."""
    passphrase: Secret | None = None
    """Of the private key."""


@dataclass(frozen=True, slots=True)
class Log:
    """How the proxy talks on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the proxy is told."""

    listen: tuple[Address, ...] = (Address("127.0.0.1", 8080),)
    upstreams: tuple[Upstream, ...] = ()
    limits: Limits = field(default_factory=Limits)
    lossy: Literal["reject", "allow"] = "reject"
    nan: NanPolicy = "reject"
    tls: ListenerTls = ListenerTls()
    allow_unauthenticated: bool = False
    log: Log = Log()

    @property
    def policy(self) -> Policy:
        """What the half-bridges are allowed."""
        return Policy(lossy=self.lossy == "allow", nan=self.nan)
