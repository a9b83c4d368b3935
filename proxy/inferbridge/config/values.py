"""Settings as values: what the proxy is told, checked and complete."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Literal

from inferbridge.auth.settings import AuthSettings, UpstreamCredentials
from inferbridge.bridge.context import NanPolicy, Policy
from inferbridge.capture.settings import CaptureSettings
from inferbridge.gateway.limits import UPSTREAM_AGE_SECONDS, Limits
from inferbridge.secret import Secret
from inferbridge.upstream.address import Address, Endpoint
from inferbridge.upstream.tls import TlsSettings

DRAIN_DELAY = 5.0
"""Seconds in which whoever sends traffic here should have noticed that the proxy is not ready any more."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen; an empty host is every interface, port 0 is any free one."""

    host: str
    port: int
    transparent: bool = False
    """Connections are redirected here by the kernel, and go to the upstream that their clients meant."""

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
class HealthCheck:
    """Asking each address of an upstream whether it is ready."""

    interval: float = 10.0
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One running runtime."""

    name: str
    runtime: str
    """Name of its description under `specs/runtimes`."""
    url: Address
    models: tuple[str, ...] = ("*",)
    """Globs (`*`, `?`, `[…]`) of the models it serves."""
    tls: TlsSettings | None = None
    default_model: str = ""
    """The model that a call without one means."""
    chat_template: Path | None = None
    """Makes prompts of chats for a runtime that takes none."""
    credentials: UpstreamCredentials = field(default_factory=UpstreamCredentials)
    """As whom we call it."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Model names that are LoRA adapters, and the ids that the runtime knows them by."""
    addresses: tuple[Endpoint, ...] = ()
    """Where it is, several times; the URL then says how these are called and what is spoken there."""
    resolve: float | None = None
    """Seconds after which names are looked up again, of which each address is one of the upstream's."""
    sticky: str = ""
    """Header whose value binds calls to an address."""
    health_check: HealthCheck | None = None
    connection_age: float = UPSTREAM_AGE_SECONDS
    """Seconds for which a connection takes calls."""

    @property
    def served(self) -> tuple[str, ...]:
        """Globs of all that it serves by name; with adapters that is never just any name."""
        if not self.adapters:
            return self.models
        base = (escape(self.default_model),) if "*" in self.models else self.models
        return (*base, *map(escape, self.adapters))

    @property
    def protocol(self) -> Literal["rest", "grpc"]:
        """What is spoken there."""
        return "grpc" if self.url.scheme.startswith("grpc") else "rest"


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """How clients see us over TLS."""

    certificate: Path | None = None
    """PEM with the chain, the listener's own certificate first, and the private key unless `key` holds it."""
    passphrase: Secret | None = None
    """Of the private key."""
    client_ca: Path | None = None
    """PEM file of the authorities that sign clients' certificates; None asks clients for none."""
    client_certificate: Literal["require", "request"] = "require"
    """Whether a client without a certificate is refused in the handshake. A bad one always is."""
    key: Path | None = None
    """PEM with the private key, when it is not in `certificate`."""


@dataclass(frozen=True, slots=True)
class Log:
    """How the proxy talks on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One JSON line for each call on stdout."""

    enabled: bool = False


@dataclass(frozen=True, slots=True)
class Admin:
    """The port for probes, metrics and people; there is none unless it is given."""

    listen: Listener | None = None
    tokens: str = "translated"
    """Of which calls log and metrics tell the tokens: those that are `translated`, or `all`."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How the proxy stops."""

    delay: float | None = None
    """Seconds between not being ready and taking no new clients; None: as long as it makes sense."""
    timeout: float = 30.0
    """Seconds that calls in flight have from then on."""


@dataclass(frozen=True, slots=True)
class Reload:
    """When the configuration is read again; on SIGHUP it always is."""

    watch: bool = True
    """Also when its file changes."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the proxy is told."""

    listen: tuple[Listener, ...] = (Listener("127.0.0.1", 8080),)
    upstreams: tuple[Upstream, ...] = ()
    limits: Limits = field(default_factory=Limits)
    lossy: Literal["reject", "allow"] = "reject"
    nan: NanPolicy = "reject"
    tls: ListenerTls = ListenerTls()
    allow_unauthenticated: bool = False
    auth: AuthSettings | None = None
    """None: nobody is authenticated."""
    log: Log = Log()
    access_log: AccessLog = AccessLog()
    admin: Admin = Admin()
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    drain: Drain = Drain()
    reload: Reload = Reload()
    workers: int = 1
    """Processes that serve the same listeners."""
    event_loop: Literal["auto", "asyncio", "uvloop"] = "auto"
    """What serves them; `auto`: uvloop where it is installed and works."""

    @property
    def drain_delay(self) -> float:
        """Seconds; by itself 5 where there is an admin port, and none where nobody could look at it."""
        if self.drain.delay is not None:
            return self.drain.delay
        return DRAIN_DELAY if self.admin.listen is not None else 0.0

    @property
    def policy(self) -> Policy:
        """What the half-bridges are allowed."""
        return Policy(lossy=self.lossy == "allow", nan=self.nan)
