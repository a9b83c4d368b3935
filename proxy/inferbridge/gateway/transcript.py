"""Both sides of one call as they went over the wire: what the client asked, what runtimes were asked, and the answers.

    client ── asked ──▶ gateway ── asked ──▶ runtime
           ◀── told ──         ◀── told ────

Kept only for calls that somebody wants to see (`recording.Transcriber`), as the attribute `transcript` of the call's
record. Values of credentials are hidden when they are noted, so that no reader of a transcript can let one out by
mistake. Of each message at most `limit` bytes are kept; of what is left out the size is known. Times are readings of
`record.clock`.

Where many calls are kept their messages share an `Allowance`: what is not granted is not kept.

A call that is still under way has a transcript that grows; `changed` is told after each piece.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from time import perf_counter

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.secret import HIDDEN, shown_target, shown_value
from inferbridge.upstream.api import Call, GrowingCall, Opening, Receiver, UpstreamRequest, opening_of

DEFAULT_LIMIT = 1 << 20
"""Bytes of each message."""
MAX_PIECES = 4096
"""Whose times are kept; further ones count as part of the last."""
MAX_LEGS = 64
"""Whose bodies are kept; of further ones, of a batch that becomes many calls, the sizes are known."""
PIECE_BYTES = 128
"""That a piece costs beside its data, as a header does beside its texts."""


@dataclass(slots=True)
class Allowance:
    """Memory that all messages of some transcripts may still take."""

    left: int
    """Bytes; less than 0 where small things were charged that nobody can refuse."""

    def take(self, wanted: int) -> int:
        """As much of `wanted` bytes as there is."""
        granted = max(0, min(wanted, self.left))
        self.left -= granted
        return granted


@dataclass(slots=True)
class Message:
    """One HTTP message, of either direction."""

    method: str = ""
    """Of a request."""
    target: str = ""
    """Path and query of a request; credentials in the query are hidden."""
    status: int = 0
    """Of an answer; 0 until there is one."""
    headers: Headers = ()
    pieces: list[bytes] = field(default_factory=list)
    """The body as it came, of which what exceeds the limit is missing."""
    times: list[float] = field(default_factory=list)
    """When each piece was there."""
    size: int = 0
    """Bytes of the whole body."""
    trailers: Headers = ()
    began: float = 0.0
    ended: float = 0.0
    """0.0 while it is under way, and for good where it was cut off."""
    limit: int = DEFAULT_LIMIT
    kept: int = 0
    """Bytes of the pieces."""
    allowance: Allowance | None = None
    """What it is charged to."""
    charged: int = 0
    """Bytes."""

    @property
    def body(self) -> bytes:
        """What was kept of the body; it is one piece from then on, so that whoever holds it costs no more memory."""
        if len(self.pieces) > 1:
            self.pieces[:] = [b"".join(self.pieces)]
        return self.pieces[0] if self.pieces else b""

    @property
    def is_cut(self) -> bool:
        """Whether some of the body was not kept."""
        return self.kept < self.size

    def add(self, data: Buffer) -> None:
        """A piece of the body."""
        size = memoryview(data).nbytes
        self.size += size
        room = min(self.limit - self.kept, size)
        if room > 0 and self.allowance is not None:
            room = self.allowance.take(room)
        if room <= 0:
            return
        piece = bytes(memoryview(data).cast("B")[:room])
        self.kept += len(piece)
        self.charged += len(piece)
        if len(self.times) < MAX_PIECES:
            self.times.append(perf_counter())
            self._charge(PIECE_BYTES)
        if len(self.pieces) < MAX_PIECES:
            self.pieces.append(piece)
        else:
            self.pieces[-1] += piece

    def head(self, status: int, headers: Headers, hidden: Collection[str]) -> None:
        """Status and headers of an answer."""
        self.status, self.headers, self.began = status, _shown(headers, hidden), self.began or perf_counter()
        self._charge_fields(headers)

    def end(self, trailers: Headers, hidden: Collection[str]) -> None:
        """It is complete."""
        self.trailers, self.ended = _shown(trailers, hidden), perf_counter()
        self._charge_fields(trailers)

    def _charge_fields(self, fields: Headers) -> None:
        self._charge(sum(PIECE_BYTES + len(name) + len(value) for name, value in fields))

    def _charge(self, size: int) -> None:
        if self.allowance is not None:
            self.allowance.left -= size
            self.charged += size


@dataclass(frozen=True, slots=True)
class Runtime:
    """Whom a leg asks."""

    upstream: str
    name: str
    api: str
    variant: str
    protocol: str
    """`rest` or `grpc`."""
    credential: str = ""
    """Name of the header with the gateway's own credential."""


@dataclass(slots=True)
class Leg:
    """One call of a runtime."""

    runtime: Runtime
    asked: Message
    told: Message
    opening: Opening | None = None
    """Of the connection that it was answered on."""
    error: str = ""
    """Why it failed on the way."""

    @property
    def connected(self) -> bool:
        """Whether its connection was opened while it waited, and not before."""
        opening = self.opening
        return opening is not None and max(opening.connected, opening.secured) > self.asked.began


@dataclass(slots=True)
class Transcript:
    """One call."""

    asked: Message
    told: Message
    changed: Callable[[], None]
    """Something was added."""
    hidden: frozenset[str] = frozenset()
    """Names of headers that hold credentials, beside those which always do."""
    legs: list[Leg] = field(default_factory=list)
    """Calls of runtimes, in the order in which they began; none where no runtime was asked."""

    @classmethod
    def of(
        cls,
        method: str,
        target: str,
        headers: Headers,
        *,
        limit: int = DEFAULT_LIMIT,
        hidden: frozenset[str] = frozenset(),
        changed: Callable[[], None] = lambda: None,
        allowance: Allowance | None = None,
    ) -> "Transcript":
        """Of a call that begins with this head, as it came."""
        asked = _asked(method, target, headers, hidden, limit, allowance)
        return cls(asked, Message(limit=limit, allowance=allowance), changed, hidden)

    def share(
        self,
        limit: int,
        hidden: frozenset[str] = frozenset(),
        changed: Callable[[], None] | None = None,
    ) -> "Transcript":
        """The same one, for one more who wants it, at the call's begin: what any of them needs is kept or hidden."""
        self.asked.limit = self.told.limit = max(self.asked.limit, limit)
        self.hidden |= hidden
        if changed is not None:
            self.changed = _both(self.changed, changed)
        return self

    @property
    def size(self) -> int:
        """Bytes of bodies that are kept."""
        return sum(message.kept for message in self.messages)

    @property
    def charged(self) -> int:
        """Bytes that were charged to its allowance."""
        return sum(message.charged for message in self.messages)

    @property
    def messages(self) -> list[Message]:
        """All there are."""
        return [self.asked, self.told, *(message for leg in self.legs for message in (leg.asked, leg.told))]

    def ask(self, request: UpstreamRequest, runtime: Runtime) -> Leg:
        """A runtime is asked."""
        hidden, allowance = self.hidden | {runtime.credential}, self.asked.allowance
        limit = self.asked.limit if len(self.legs) < MAX_LEGS else 0
        headers = (*request.headers, *request.own)
        asked = _asked(request.method, request.path, headers, hidden, limit, allowance)
        for chunk in request.chunks:
            asked.add(chunk)
        leg = Leg(runtime, asked, Message(limit=limit, allowance=allowance))
        self.legs.append(leg)
        self.changed()
        return leg


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def tell() -> None:
        first()
        second()

    return tell


def _asked(
    method: str, target: str, headers: Headers, hidden: Collection[str], limit: int, allowance: Allowance | None
) -> Message:
    shown = shown_target(target) if "?" in target else target
    asked = Message(method, shown, limit=limit, allowance=allowance)
    asked.head(0, headers, hidden)
    return asked


def _shown(headers: Headers, hidden: Collection[str]) -> Headers:
    return tuple((name, HIDDEN if name in hidden else shown_value(name, value)) for name, value in headers)


class TranscribedReceiver:
    """What a runtime answers, noted on its way to the receiver."""

    def __init__(self, receiver: Receiver, transcript: Transcript, leg: Leg) -> None:
        self._receiver = receiver
        self._transcript = transcript
        self._leg = leg
        self.call: Call | None = None
        """The call itself, until it is answered or given up."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._leg.told.head(status, headers, self._transcript.hidden)
        call, self.call = self.call, None  # they hold each other
        self._leg.opening = opening_of(call)
        self._receiver.on_head(status, headers)
        self._transcript.changed()

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._leg.told.add(data)
        self._receiver.on_data(data)
        self._transcript.changed()

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        self._leg.told.end(trailers, self._transcript.hidden)
        self._receiver.on_end(trailers)
        self._transcript.changed()

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self._leg.error, self.call = error.message, None
        self._receiver.on_failure(error)
        self._transcript.changed()


class TranscribedAsk:
    """A call of a runtime whose answer is noted."""

    def __init__(self, call: Call, receiver: TranscribedReceiver) -> None:
        self._call = call
        self._receiver = receiver
        receiver.call = call

    def cancel(self) -> None:
        """Stop it."""
        self._receiver.call = None
        self._call.cancel()

    def throttle(self, paused: bool) -> None:
        """Stop reading the answer, or go on."""
        self._call.throttle(paused)


class TranscribedUpload(TranscribedAsk):
    """A growing call of a runtime, whose messages are noted as they are sent."""

    _call: GrowingCall

    def __init__(self, call: GrowingCall, receiver: TranscribedReceiver, transcript: Transcript, leg: Leg) -> None:
        super().__init__(call, receiver)
        self._transcript = transcript
        self._leg = leg

    def write(self, data: Buffer) -> bool:
        """More of the request's body."""
        self._leg.asked.add(data)
        self._transcript.changed()
        return self._call.write(data)

    def finish(self) -> None:
        """The request is complete."""
        self._leg.asked.ended = perf_counter()
        self._call.finish()
