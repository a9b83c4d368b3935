"""HTTP/1.1 seen from the server: one request at a time, in order, on one connection.

The request side is a machine of four phases; bytes that come early stay in the buffer until their turn:

    HEAD ──head complete──▶ BODY ──body complete──▶ ANSWER ──answer complete──▶ HEAD
      │                       │                        │
      └──────── refused, answered too early, told to close, flooded ───────▶ DEAF (input is thrown away)

The answer of the current request is held back until the output is taken, so that an answer which is complete by
then gets a content-length and leaves in one piece; a longer one is chunked, or ended by closing for HTTP/1.0.
`closing` is true when the connection is DEAF and owes no answer.
"""

from enum import Enum, auto
from http import HTTPStatus

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Chunks, Headers, size
from inferbridge.gateway import fields
from inferbridge.gateway.codecs import output
from inferbridge.gateway.codecs.chunked import ChunkedDecoder
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http1_head import HeadReader, Http1Request, Peer
from inferbridge.gateway.codecs.known_heads import KnownHeads, Ready
from inferbridge.gateway.limits import Limits

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_BODILESS = frozenset({204, 304})


class _Phase(Enum):
    HEAD = auto()
    BODY = auto()
    ANSWER = auto()
    DEAF = auto()


class _Framing(Enum):
    NONE = auto()
    LENGTH = auto()
    CHUNKED = auto()
    CLOSE = auto()


class _Answer:
    """The answer to the current request, as far as the application has given it."""

    __slots__ = ("fields", "framing", "pieces", "remaining", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the application sends a head."""
        self.fields: list[tuple[str, str]] | None = None
        """Not yet written."""
        self.framing: _Framing | None = None
        self.remaining = 0
        """Bytes still owed where the length is declared."""
        self.pieces: list[Buffer] = []


class Http1Codec:
    """`ServerCodec` for HTTP/1.0 and 1.1."""

    def __init__(self, limits: Limits, peer: Peer | None = None) -> None:
        self._limits = limits
        self._peer = peer or Peer()
        self._phase = _Phase.HEAD
        self.unread = b""
        self._reader: HeadReader | None = None
        self._known: Http1Request | None = None
        self._stream = 0
        self._request: Http1Request | None = None
        self._body_left = 0
        self._chunked: ChunkedDecoder | None = None
        self._answer: _Answer | None = None
        """None between requests."""
        self._keep_alive = True
        self._draining = False
        """The next answer is the last one."""
        self._may_continue = False
        self._output: list[Buffer] = []

    @property
    def closing(self) -> bool:
        return self._phase is _Phase.DEAF and self._answer is None

    # Request side

    def receive(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        if self._phase is _Phase.DEAF or not (data or self.unread):
            return events
        self.unread = self.unread + data if self.unread else data
        try:
            if self._phase is _Phase.HEAD and self.unread:
                self._read_head(events)
            if self._phase is _Phase.BODY and self.unread:
                self._read_body(events)
            if self._phase is _Phase.ANSWER and len(self.unread) > self._limits.connection_window:
                self._turn_deaf()  # too much pipelined: answer this request, then close
        except BridgeError as error:
            self._refuse(error, events)
        return events

    def _read_head(self, events: list[Event]) -> None:
        request = self._next_request()
        if request is None:
            return
        self._begin(request)
        events.append(RequestOpened(self._stream, request.head))
        if request.length == 0:
            self._phase = _Phase.ANSWER
            events.append(RequestEnd(self._stream))

    def _next_request(self) -> Http1Request | None:
        """Take a head off the buffer. A client that sends the same head again is spared reading it again."""
        known, data = self._known, self.unread
        if self._reader is None:
            if known is not None and data.startswith(known.block):
                self.unread = data[len(known.block) :]
                return known
            self._reader = HeadReader(self._limits, self._peer)
        request, self.unread = self._reader.feed(data)
        if request is not None:
            self._known, self._reader = request, None
        return request

    def _begin(self, request: Http1Request | None) -> None:
        self._stream += 1
        self._answer = _Answer()
        self._request = request
        if request is not None:
            self._phase = _Phase.BODY
            self._keep_alive = request.keep_alive and not self._draining
            self._may_continue = request.expects_continue and request.head.version == "1.1"
            self._body_left = request.length or 0
            self._chunked = ChunkedDecoder(self._limits.header_bytes) if request.length is None else None

    def _read_body(self, events: list[Event]) -> None:
        self._may_continue = False
        data = self.unread
        if self._chunked is not None:
            pieces, self.unread = self._chunked.feed(data)
            complete = self._chunked.complete
        elif len(data) <= self._body_left:
            pieces, self.unread = [data], b""
            self._body_left -= len(data)
            complete = not self._body_left
        else:
            pieces, self.unread = [memoryview(data)[: self._body_left]], data[self._body_left :]
            complete = True
        events.extend(RequestData(self._stream, piece, len(piece)) for piece in pieces)
        if complete:
            self._phase = _Phase.ANSWER
            events.append(RequestEnd(self._stream))

    def _refuse(self, error: BridgeError, events: list[Event]) -> None:
        """What follows a framing error cannot be trusted: answer if that is still possible, then close."""
        between_requests = self._answer is None
        if between_requests:
            self._begin(None)
        self._turn_deaf()
        if self._answer is not None and self._answer.status:
            events.append(RequestCancelled(self._stream))
            self.reset(self._stream)
        else:
            head = self._request.head if self._request is not None else None
            events.append(ProtocolRefused(self._stream, error, head))

    def _turn_deaf(self) -> None:
        self._phase = _Phase.DEAF
        self._keep_alive = False
        self.unread = b""

    @property
    def awaits_head(self) -> int | None:
        begun = self._reader is not None or self.unread or not self._stream
        return self._stream if self._phase is _Phase.HEAD and begun else None

    def give_up(self, error: BridgeError) -> list[Event]:
        events: list[Event] = []
        self._refuse(error, events)
        return events

    def proceed(self, stream: int) -> None:
        if self._may_continue and self._phase is _Phase.BODY and self._current(stream) is not None:
            self._may_continue = False
            if self._answer is not None and not self._answer.status:
                self._output.append(_CONTINUE)

    def acknowledge(self, stream: int, credit: int) -> None:
        """TCP does the flow control."""

    # Answer side

    def _current(self, stream: int) -> _Answer | None:
        return self._answer if stream == self._stream else None

    def send_head(self, stream: int, status: int, headers: Headers) -> None:
        answer = self._current(stream)
        if answer is None:
            return
        if answer.status:
            raise ValueError("the answer has a head already")
        if not 200 <= status <= 999:
            raise ValueError(f"{status} is not a final status")
        ready = fields.outgoing(headers)
        length = fields.declared_length(ready)
        if status == HTTPStatus.NO_CONTENT:
            ready = [field for field in ready if field[0] != "content-length"]
        answer.status, answer.fields = status, ready
        if status in _BODILESS or (self._request is not None and self._request.head.method == "HEAD"):
            answer.framing = _Framing.NONE
        elif length is not None:
            answer.framing, answer.remaining = _Framing.LENGTH, length

    def send_data(self, stream: int, data: Buffer) -> None:
        answer = self._current(stream)
        if answer is None:
            return
        if not answer.status:
            raise ValueError("body before head")
        if answer.framing is _Framing.NONE or not len(data):
            return
        if answer.framing is _Framing.LENGTH:
            if len(data) > answer.remaining:
                raise ValueError("the answer is longer than its content-length")
            answer.remaining -= len(data)
        answer.pieces.append(data)

    def end(self, stream: int, trailers: Headers = ()) -> None:
        answer = self._current(stream)
        if answer is None:
            return
        if not answer.status:
            raise ValueError("end before head")
        if answer.remaining:
            raise ValueError("the answer is shorter than its content-length")
        closing_fields = fields.outgoing(trailers)
        if answer.fields is not None and answer.framing is None and not closing_fields:
            answer.framing = _Framing.LENGTH
            answer.fields.append(("content-length", str(sum(map(len, answer.pieces)))))
        self._write(answer)
        if answer.framing is _Framing.CHUNKED:
            self._output.append(b"0\r\n" + _lines(closing_fields) + b"\r\n")
        self._answered()

    def send_whole(self, stream: int, status: int, headers: Headers, chunks: Chunks) -> None:
        answer, request = self._current(stream), self._request
        if answer is None:
            return
        has_body = status not in _BODILESS and request is not None and request.head.method != "HEAD"
        if has_body and self._keep_alive and self._phase is _Phase.ANSWER and not answer.status:
            head = _HEADS.encoded(status, headers)
            if head is not None and request is not None and request.head.version == "1.1":
                self._output += (head, b"content-length: %d\r\n\r\n" % size(chunks), *chunks)
                self._answered()
                return
        if has_body and fields.declared_length(fields.outgoing(headers)) not in {None, size(chunks)}:
            raise ValueError("the answer is not as long as its content-length")  # before anything of it is sent
        self.send_head(stream, status, headers)
        for chunk in chunks:
            self.send_data(stream, chunk)
        self.end(stream)

    def reset(self, stream: int) -> None:
        if self._current(stream) is not None:
            self._turn_deaf()
            self._answer = None

    def drain(self) -> None:
        self._draining = True
        self._keep_alive = False

    def leave(self) -> None:
        self.drain()
        if self._answer is None and self._reader is None and not self.unread:
            self._turn_deaf()  # nothing of a request has come

    def _answered(self) -> None:
        self._answer = None
        self._request = None
        if self._keep_alive and self._phase is _Phase.ANSWER:
            self._phase = _Phase.HEAD
        else:
            self._turn_deaf()

    @property
    def waiting(self) -> int:
        return 0

    def queued(self, stream: int) -> int:
        """Nothing waits here: TCP does the flow control."""
        return 0

    def take_pressed(self) -> list[tuple[int, bool]]:
        """TCP does the flow control."""
        return []

    def release(self) -> None:
        """Nothing here holds itself."""

    # Output

    def take_output(self) -> Buffer:
        if self._answer is not None and self._answer.status:
            self._write(self._answer)
        return output.take(self._output)

    @property
    def more(self) -> bool:
        return bool(self._output)

    def _write(self, answer: _Answer) -> None:
        """Move what the application has given so far to the output."""
        if answer.fields is not None:
            self._write_head(answer, answer.fields)
            answer.fields = None
        if not answer.pieces:
            return
        if answer.framing is _Framing.CHUNKED:
            self._output.append(b"%x\r\n" % sum(map(len, answer.pieces)))
            answer.pieces.append(b"\r\n")
        self._output.extend(answer.pieces)
        answer.pieces.clear()

    def _write_head(self, answer: _Answer, ready: list[tuple[str, str]]) -> None:
        version = self._request.head.version if self._request is not None else "1.1"
        if answer.framing is None:
            answer.framing = _Framing.CHUNKED if version == "1.1" else _Framing.CLOSE
        if answer.framing is _Framing.CHUNKED:
            ready.append(("transfer-encoding", "chunked"))
        if answer.framing is _Framing.CLOSE or self._phase is not _Phase.ANSWER:
            self._keep_alive = False
        if not self._keep_alive:
            ready.append(("connection", "close"))
        elif version == "1.0":
            ready.append(("connection", "keep-alive"))
        self._output.append(_status_line(answer.status) + _lines(ready) + b"\r\n")


def _whole_head(status: int, ready: Ready) -> bytes | None:
    """Status line and fields of a whole answer, but for its length; None where the length is declared."""
    if not 200 <= status <= 999 or fields.declared_length(ready) is not None:
        return None
    return _status_line(status) + _lines(ready)


def _status_line(status: int) -> bytes:
    return (_STATUS_LINES.get(status) or f"HTTP/1.1 {status} \r\n").encode("ascii")


def _lines(ready: Ready) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in ready]).encode("latin-1")


_HEADS = KnownHeads(_whole_head, _lines)
