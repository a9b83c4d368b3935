"""An application whose answers a test gives, and that writes down what breaks the promises of its seam.

What a sink raises would be caught and answered, as it must be; so faults are kept, for the test to look at.
"""

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead, RequestSink, Responder


class Watched:
    """One call, from the side of the application."""

    def __init__(self, head: RequestHead, responder: Responder, faults: list[str]) -> None:
        self.head = head
        self.responder = responder
        self.body = b""
        self.complete = False
        self.cancelled = False
        self.answering = b""
        """Of the answer, so far."""
        self.begun = False
        self.ended = False
        """The answer is complete, or was cut."""
        self._faults = faults

    @property
    def over(self) -> bool:
        """Nothing more may come of it."""
        return self.cancelled or self.ended

    def on_data(self, data: Buffer) -> None:
        self._expect(not self.over and not self.complete, "data after the end")
        self.body += bytes(data)

    def on_end(self) -> None:
        self._expect(not self.over and not self.complete, "a second end")
        self.complete = True

    def on_cancel(self) -> None:
        self._expect(not self.over, "cancelled after the end")
        self.cancelled = True

    def _expect(self, right: bool, fault: str) -> None:
        if not right:
            self._faults.append(f"{self.head.target}: {fault}")

    def begin(self) -> None:
        """Send the head of the answer."""
        self.begun = True
        self.responder.head(200, ())

    def say(self, data: bytes) -> None:
        """Send a piece of the body."""
        self.answering += data
        self.responder.data(data)

    def finish(self, trailers: tuple[tuple[str, str], ...] = ()) -> None:
        """End the answer, which may not have begun."""
        if not self.begun:
            self.begin()
        self.ended = True
        self.responder.end(trailers)

    def abort(self) -> None:
        """Cut the answer."""
        self.ended = True
        self.responder.abort()


class Watching:
    """Keeps its calls by their targets; says no with the status of the error."""

    def __init__(self) -> None:
        self.calls: dict[str, Watched] = {}
        self.faults: list[str] = []
        self.held: set[str] = set()
        """Targets of calls that want no body for now, from their beginning."""

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        if head.target in self.calls:
            self.faults.append(f"{head.target}: opened twice")
        call = self.calls[head.target] = Watched(head, responder, self.faults)
        if head.target in self.held:
            responder.hold()
        return call

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        if error.code is Code.INTERNAL:
            self.faults.append(f"an internal error: {error.message}")
        responder.whole(error.status or 400, (), (error.message.encode(),))
