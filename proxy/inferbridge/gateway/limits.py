"""Limits on everything a stranger can send; the defaults are those of hardened edge proxies."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
UPSTREAM_AGE_SECONDS = 600.0
"""A connection to a runtime takes calls for so long: what balances connections before it gets to choose again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds."""

    header_bytes: int = 64 * KIB
    """All header names and values of one request; beyond it 431."""
    header_fields: int = 100
    target_bytes: int = 8 * KIB
    """The request target; beyond it 414."""
    body_bytes: int = 32 * MIB
    """A REST body, as sent and after decompression; beyond it 413."""
    message_bytes: int = 4 * MIB
    """A gRPC message; beyond it RESOURCE_EXHAUSTED."""
    reply_bytes: int = 256 * MIB
    """A runtime's reply; beyond it the call fails with RESOURCE_EXHAUSTED."""
    streams: int = 100
    """Concurrent calls on one HTTP/2 connection."""
    stream_window: int = 256 * KIB
    connection_window: int = MIB
    connections: int = 1000
    """Client connections at one time."""
    connections_per_peer: int = 1000
    """Of one address. As many as there may be at all unless set: clients behind a load balancer share one."""
    header_seconds: float = 10.0
    """For a request's head, from its first byte on; for the first one, and the TLS handshake, from the connect."""
    body_seconds: float = 10.0
    """How long a body may come slower than `patience.RATE`; calls whose client streams may take their time."""
    stall_seconds: float = 10.0
    """How long a client may take its answer slower than that while there is more for it."""
    call_seconds: float = 300.0
    """How long a runtime may take for one call."""
    idle_seconds: float = 600.0
    """How long a client connection may sit idle."""
