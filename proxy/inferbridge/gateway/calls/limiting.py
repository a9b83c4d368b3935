"""Calls of identities whose rule limits how much they may use.

A `LimitedCall` stands between the client and the exchange, in both directions, so that it sees every end of a call and
gives its lease back exactly then:

    the exchange answers    head, data …, end | whole | abort
    the client leaves       on_cancel; also what the connection does with a call that raised
    it was never opened     refused by a limit: there is no lease; raised while it was opened: given back there

The lease is given back before the end is handed on: a client's next call may be let in by what that sets off.
"""

from collections.abc import Callable

from inferbridge.auth.rates import Lease
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.gateway.application import RequestSink, Responder, Wrapped, press
from inferbridge.gateway.records.usage import Used


def booking(lease: Lease | None) -> Used | None:
    """What books the tokens of a call; None where nobody wants to know."""
    if lease is None or not lease.limits_tokens:
        return None
    return lambda usage: lease.book(usage.prompt_tokens + usage.completion_tokens)


class LimitedCall(Wrapped):
    """One call with a lease: the exchange's `Responder`, and the client's `RequestSink`."""

    def __init__(self, lease: Lease, responder: Responder) -> None:
        self.record = responder.record
        self._lease = lease
        self._responder = responder
        self._sink: RequestSink | None = None
        self._over = False

    def open(self, opening: Callable[[Responder], RequestSink]) -> RequestSink:
        """Begin the exchange."""
        try:
            sink = opening(self)
        except BaseException:
            self._finish()
            raise
        if not self._over:
            self._sink = sink
        return self

    def _finish(self) -> None:
        self._over, self._sink = True, None  # they hold each other: leave nothing to the garbage collector
        self._lease.give_back()

    # the client's side

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        if self._sink is not None:
            self._sink.on_data(data)

    def on_end(self) -> None:
        """The body is complete."""
        if self._sink is not None:
            self._sink.on_end()

    def on_cancel(self) -> None:
        """The client went away."""
        sink = self._sink
        self._finish()
        if sink is not None:
            sink.on_cancel()

    def on_pressure(self, full: bool) -> None:
        """The answer piles up, or no more."""
        press(self._sink, full)

    # the exchange's side

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._responder.head(status, headers)

    def data(self, data: Buffer) -> None:
        """A piece of the answer."""
        self._responder.data(data)

    def message(self, data: Buffer) -> None:
        """Whole messages of a streamed answer."""
        self._responder.message(data)

    def end(self, trailers: Headers = ()) -> None:
        """The answer is complete."""
        self._finish()
        self._responder.end(trailers)

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """The whole answer."""
        self._finish()
        self._responder.whole(status, headers, chunks)

    def abort(self) -> None:
        """The answer is cut."""
        self._finish()
        self._responder.abort()
