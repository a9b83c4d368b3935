"""What a connection pool to one runtime offers, whatever the protocol."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

from msgspec import Struct

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Chunks, Headers

type State = Literal["closed", "half open", "open"]
"""Of a circuit breaker."""


class UpstreamRequest(Struct, frozen=True):
    """One HTTP request to a runtime. For gRPC, `chunks` are already framed (5-byte prefix and message)."""

    method: str
    path: str
    headers: Headers = ()
    """Without host, content-length, te and hop-by-hop headers: the pool adds what its protocol needs."""
    chunks: Chunks = ()
    idempotent: bool = False
    """May be sent again after it may have reached the runtime."""
    own: Headers = ()
    """Further headers, which no other request has."""


class Receiver(Protocol):
    """Where the answer goes. Calls come on the event loop, in order; `on_end` or `on_failure` is the last one."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers (lower-case names). A gRPC trailers-only answer has its trailers here."""

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""

    def on_failure(self, error: BridgeError) -> None:
        """The call failed in transport: cannot connect, reset, cut off, timed out."""


class Call(Protocol):
    """One call in flight."""

    def cancel(self) -> None:
        """Stop it: RST_STREAM (CANCEL) on HTTP/2, close on HTTP/1.1. The receiver hears nothing more."""

    def throttle(self, paused: bool) -> None:
        """Read no more of the answer, or go on: the runtime is slowed down by its own flow control."""


class Opening(Struct, frozen=True):
    """When a connection was opened: readings of `time.perf_counter`."""

    began: float
    connected: float
    """TCP, after the name's resolution."""
    secured: float
    """TLS; 0.0 where there is none."""


def opening_of(call: Call | None) -> Opening | None:
    """How the connection of a call was opened; None while it is on none, and for a call that does not tell."""
    opening: Opening | None = getattr(call, "opening", None)  # a protocol to check would cost ten times as much
    return opening


class GrowingCall(Call, Protocol):
    """A call in flight whose request is still being made, while its answer may come already."""

    def write(self, data: Buffer) -> bool:
        """More of the request's body. False: the runtime has no room for it yet, wait for `drained`."""

    def finish(self) -> None:
        """The request is complete."""


class Pool(Protocol):
    """Connections to one runtime, shared by the whole process."""

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        """Start a call; never blocks, never raises for network reasons. `timeout` in seconds covers the whole call."""

    async def close(self) -> None:
        """Close all connections; calls in flight fail with UNAVAILABLE."""


@runtime_checkable
class DuplexPool(Pool, Protocol):
    """Connections on which request and answer may be under way at once."""

    def begin(
        self, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None], timeout: float | None = None
    ) -> GrowingCall:
        """As `send`, for a request without chunks, which follow. `drained` is called when there is room again."""


@runtime_checkable
class WatchedPool(Pool, Protocol):
    """A pool that tells how it is."""

    @property
    def connections(self) -> int:
        """Open connections."""

    @property
    def state(self) -> State:
        """Of its breaker; of several, the worst."""
