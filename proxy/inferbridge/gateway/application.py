"""The seam between the wire and the work: codecs and layer on one side, routing and translation on the other.

For each call the layer hands the application a `RequestHead` and a `Responder`; the application answers with a
`RequestSink` that takes the body. The responder may be used at once or later, from the event loop, and ignores
everything after `end` or `abort` or once the client has gone, so the application never asks whether it may speak.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from inferbridge.auth.identity import ANONYMOUS, ClientCertificate, Identity
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.gateway.record import CallRecord
from inferbridge.secret import Secret


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of one HTTP request; names are lower case, values have no CR, LF or NUL."""

    method: str
    target: str
    """Path and query as sent, origin-form."""
    authority: str
    headers: Headers
    """Without pseudo-headers; hop-by-hop headers removed."""
    version: str
    """"1.0", "1.1" or "2"."""
    tls: bool = False
    peer: str = ""
    """Address of the client, host:port."""
    certificate: ClientCertificate | None = None
    """The client's, verified in the handshake; the same object for every call of a connection."""
    identity: Identity = ANONYMOUS
    """Who calls; the guard finds out, and takes the credential out of `headers`."""
    token: Secret | None = None
    """The client's own credential, for runtimes that are to get it."""
    destination: tuple[str, ...] = ()
    """Names of the upstreams that alone may serve the call; empty for any."""
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What the application has made of this head. A client that sends the same head again is given the same object."""

    def derived(self, **changes: Any) -> "RequestHead":
        """The head of a call made of this one, by the same caller; nothing is remembered with it yet."""
        return replace(self, **changes, memo={})


class Responder(Protocol):
    """How the application answers one call."""

    record: CallRecord | None = None
    """What is known of the call, where somebody keeps it; whoever wraps a responder hands it on."""

    def head(self, status: int, headers: Headers) -> None:
        """Send status and headers; the codec adds what framing needs."""

    def data(self, data: Buffer) -> None:
        """Send a piece of the body."""

    def message(self, data: Buffer) -> None:
        """Send a piece of the body that the client waits for; it leaves at once where that is possible."""
        self.data(data)

    def end(self, trailers: Headers = ()) -> None:
        """End the answer; HTTP/1.1 clients get trailers only in a chunked body."""

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """Send a whole answer: the same as `head`, `data` for each chunk and `end`, at once."""
        self.head(status, headers)
        for chunk in chunks:
            self.data(chunk)
        self.end()

    def hold(self) -> None:
        """Let the client send no more of its body than its window holds already (HTTP/2), until `resume`.

        One that waits for `100 Continue` goes on waiting.
        """
        return  # nothing to do where the body is complete by then, which is usual

    def resume(self) -> None:
        """What was sent is through: the client may go on."""
        return  # as above

    def unhurried(self) -> None:
        """The body is a stream, which may come as slowly as its client likes."""
        return  # for most calls it is not

    def abort(self) -> None:
        """Cut the answer so that the client can tell (RST_STREAM, or close without the last chunk)."""


class Wrapped(Responder):
    """A responder before another: how the client may go on sending is the other's to see to."""

    __slots__ = ()
    _responder: Responder

    def hold(self) -> None:
        """No more of the body for now."""
        self._responder.hold()

    def resume(self) -> None:
        """The client may go on."""
        self._responder.resume()

    def unhurried(self) -> None:
        """The client streams."""
        self._responder.unhurried()


class RequestSink(Protocol):
    """How the application takes the body of one call."""

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""

    def on_end(self) -> None:
        """The body is complete."""

    def on_cancel(self) -> None:
        """The client went away or reset the call; nobody will read an answer."""


@runtime_checkable
class Throttled(Protocol):
    """A sink whose answer can be slowed down at its source."""

    def on_pressure(self, full: bool) -> None:
        """The client does not take the answer as fast as it comes: no more for now; or, it has caught up."""


def press(sink: RequestSink | None, full: bool) -> None:
    """Tell a sink, if it can do anything about it, whether its answer piles up."""
    if isinstance(sink, Throttled):
        sink.on_pressure(full)


class RefusedCall:
    """What a client still sends for a call that has its answer already."""

    def on_data(self, data: Buffer) -> None:
        """Nobody reads it."""

    def on_end(self) -> None:
        """Nothing more to say."""

    def on_cancel(self) -> None:
        """Nothing to stop."""


class Application(Protocol):
    """What a gateway serves."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins. May answer at once; what raises here is our own fault: logged, and an internal error."""

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer a request that could not be accepted, in the dialect the head asks for (None: unknown)."""
