"""One client connection: the codec on one side, the application on the other, a `_Call` for each request between.

Fail closed. Whatever raises while a call is served (the application, its sink, its answer breaking a rule) is logged
once and ends that call alone, with an error in the client's dialect if nothing was sent yet, cut off if it was:

    exception ──▶ sink.on_cancel ──▶ head sent? ──yes──▶ abort
                                          └──no──▶ application.refuse ──raises──▶ bare 500

What raises in the codec ends the connection. Nothing is ever passed on unread.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.gateway.application import Application, RequestHead, RequestSink, press
from inferbridge.gateway.clients.patience import Debt
from inferbridge.gateway.codecs.codec import ServerCodec
from inferbridge.gateway.codecs.events import (
    Event,
    ProtocolRefused,
    RequestCancelled,
    RequestData,
    RequestEnd,
    RequestOpened,
)
from inferbridge.gateway.codecs.http1 import Http1Codec
from inferbridge.gateway.codecs.http1_head import Peer
from inferbridge.gateway.codecs.http2 import Http2Codec
from inferbridge.gateway.codecs.sniff import detect
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord
from inferbridge.secret import path_of

_log = logging.getLogger(__name__)

_BARE_ERROR_HEADERS: Headers = (("content-type", "text/plain"),)
_BARE_ERROR_BODY = b"internal error\n"


class _Call(Struct):
    """One request and its answer; what the application holds is the `_Answer`."""

    stream: int
    head: RequestHead | None
    sink: RequestSink | None = None
    answer: "_Answer | None" = None
    refused: bool = False
    """The application was asked to refuse it."""
    held: bool = False
    """The application wants no more of the body for now."""
    owed: int = 0
    """Credit that the client gets when it may go on."""
    received: int = 0
    """Bytes of the body so far."""
    complete: bool = False
    """All of the body is here."""
    unhurried: bool = False
    """The body is a stream, which comes as its client likes."""
    full: bool = False
    """The answer has outrun the client's window."""
    pressed: bool = False
    """The application knows that the answer piles up."""
    record: CallRecord | None = None
    """The application's, the same for every answer that is tried."""

    def failing(self, error: BridgeError) -> None:
        """It is given up, and not because the client has left."""
        if self.record is not None:
            self.record.failing = True
            self.record.failed(error)


class _Answer:
    """`Responder` for one call; mute once the call is over, or when another answer has taken its place."""

    __slots__ = ("_call", "_connection", "started")

    def __init__(self, connection: "ClientConnection", call: _Call) -> None:
        self._connection: ClientConnection | None = connection
        self._call = call
        self.started = False

    @property
    def record(self) -> CallRecord | None:
        """That of the call."""
        return self._call.record

    @record.setter
    def record(self, record: CallRecord | None) -> None:
        self._call.record = record

    def mute(self) -> None:
        """The application may go on talking; nobody listens."""
        self._connection = None

    def head(self, status: int, headers: Headers) -> None:
        connection = self._connection
        if connection is not None:
            try:
                connection.codec.send_head(self._call.stream, status, headers)
                self.started = True
            except Exception as error:
                connection.fail(self._call, error)
            connection.output_ready()

    def data(self, data: Buffer) -> None:
        connection = self._connection
        if connection is not None:
            self._send(connection, data)
            connection.output_ready()

    def message(self, data: Buffer) -> None:
        connection = self._connection
        if connection is not None:
            self._send(connection, data)
            connection.output_complete()

    def _send(self, connection: "ClientConnection", data: Buffer) -> None:
        try:
            connection.codec.send_data(self._call.stream, data)
        except Exception as error:
            connection.fail(self._call, error)

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        connection = self._connection
        if connection is not None:
            try:
                connection.codec.send_whole(self._call.stream, status, headers, chunks)
                connection.forget(self._call)
            except Exception as error:
                connection.fail(self._call, error)
            connection.output_complete()

    def end(self, trailers: Headers = ()) -> None:
        connection = self._connection
        if connection is not None:
            try:
                connection.codec.end(self._call.stream, trailers)
                connection.forget(self._call)
            except Exception as error:
                connection.fail(self._call, error)
            connection.output_ready()

    def hold(self) -> None:
        self._call.held = True

    def resume(self) -> None:
        connection = self._connection
        held, self._call.held = self._call.held, False
        if connection is not None and held:
            connection.let_on(self._call)
            connection.output_ready()

    def unhurried(self) -> None:
        self._call.unhurried = True

    def abort(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.cut(self._call)
            connection.output_ready()


class ClientConnection:
    """Bytes in, bytes out, calls to the application in between. `wake` is called when output appears out of turn."""

    def __init__(
        self,
        application: Application,
        limits: Limits,
        wake: Callable[[], None],
        peer: Peer | None = None,
        alpn: bytes | None = None,
        counters: Counters = NO_COUNTERS,
    ) -> None:
        self._application = application
        self._limits = limits
        self._counters = counters
        self.wake = wake
        """Asks for a turn, in which the output is taken."""
        self.flush = wake
        """Takes a turn at once where that is possible."""
        self._peer = peer or Peer()
        self._calls: dict[int, _Call] = {}
        self._in_turn = False
        self._unknown = b""
        """Bytes that do not tell the protocol yet."""
        self._gone = False
        self._full = False
        """The socket takes no more output for now."""
        self._taken = 0
        """Bytes of output so far."""
        self._drains = False
        self._leaves = False
        self._codec: ServerCodec | None = self._http2() if alpn == b"h2" else None

    def _http2(self) -> Http2Codec:
        return Http2Codec(self._limits, self._peer, self._abused)

    def _abused(self, kind: str) -> None:
        _log.warning("connection from %s closed: more HTTP/2 frames than in good faith (%s)", self._peer.address, kind)
        self._counters.abused(kind)

    @property
    def calls(self) -> int:
        """Calls in flight."""
        return len(self._calls)

    @property
    def codec(self) -> ServerCodec:
        """The codec of this connection; there is one as soon as there is a call."""
        assert self._codec is not None
        return self._codec

    @property
    def closing(self) -> bool:
        """Close the connection now; true only once the output has been taken."""
        return self._gone or (self._leaves if self._codec is None else self._codec.closing)

    # From whoever stops the gateway

    def drain(self) -> None:
        """Ask the client to take further calls elsewhere; those that it sends all the same are still served."""
        self._drains = True
        if self._codec is not None:
            self._codec.drain()
        self.wake()

    def leave(self) -> None:
        """Take no further call, and close when those in flight are answered."""
        self._drains = self._leaves = True
        if self._codec is not None:
            self._codec.leave()
        self.wake()

    def end(self, error: BridgeError) -> None:
        """End every call with an error in the client's dialect; one whose answer has begun is cut. Never raises."""
        for call in list(self._calls.values()):
            if call.answer is None or call.refused:
                continue
            call.failing(error)
            sink, call.sink = call.sink, None
            started = call.answer.started
            call.answer.mute()
            self._cancel_sink(sink)
            if started:
                self.cut(call)
            else:
                self._refuse(call, error)
        self.wake()

    def marked(self, matters: Callable[[RequestHead | None], bool] = lambda _: True) -> Callable[[], bool]:
        """Asks later whether any of the calls that are in flight now, and matter, still is."""
        calls = [call for call in self._calls.values() if matters(call.head)]
        return lambda: any(self._calls.get(call.stream) is call for call in calls)

    # From the client

    def receive(self, data: bytes) -> None:
        """Bytes from the client; none after answers out of turn, which may free a pipelined request. Never raises."""
        if self._gone or not (data or (self._codec is not None and self._codec.unread)):
            return
        self._in_turn = True
        try:
            if self._codec is None:
                data = self._choose(data)
            if self._codec is not None:
                self._pump(self._codec, data)
        except Exception:
            self._break()
        finally:
            self._in_turn = False

    def _choose(self, data: bytes) -> bytes:
        """Make the codec if `data` tells which, and give the bytes it is to receive."""
        self._unknown += data
        protocol = detect(self._unknown)
        if protocol is None:
            return b""
        self._codec = self._http2() if protocol == "http2" else Http1Codec(self._limits, self._peer)
        data, self._unknown = self._unknown, b""
        if self._drains:
            self._codec.drain()
        return data

    def _pump(self, codec: ServerCodec, data: bytes) -> None:
        """Handle what `data` completes, then what the answers free."""
        events: Sequence[Event] = codec.receive(data)
        while events:
            self._handle(events)
            events = codec.receive(b"") if codec.unread else ()

    def _handle(self, events: Sequence[Event]) -> None:
        for event in events:
            _HANDLERS[type(event)](self, event)

    def lost(self) -> None:
        """The client is gone: cancel every call. Never raises."""
        self._gone = True
        for call in list(self._calls.values()):
            self._cancel(call)

    def release(self) -> None:
        """The connection is closed, and nobody will ask again: leave nothing to the garbage collector."""
        self.lost()
        self.wake = self.flush = _nobody
        codec, self._codec = self._codec, None
        if codec is not None:
            codec.release()

    def _break(self) -> None:
        """Called while an exception is handled that nothing else could answer."""
        _log.exception("connection from %s closed after an internal error", self._peer.address)
        self.lost()

    def take_all(self) -> bytes:
        """All bytes to send to the client now. Never raises."""
        pieces = [self.take_output()]
        while self.more:
            pieces.append(self.take_output())
        return b"".join(pieces)

    @property
    def more(self) -> bool:
        """`take_output` is to be called again."""
        return not self._gone and self._codec is not None and self._codec.more

    def take_output(self) -> Buffer:
        """The bytes to send to the client now, and `more` of them the next time. Never raises."""
        if self._codec is None:
            return b""
        try:
            output = self._codec.take_output()
            for stream, full in self._codec.take_pressed():
                if (call := self._calls.get(stream)) is not None:
                    call.full = full
                    self._press(call)
        except Exception:
            self._break()
            return b""
        self._taken += len(output)
        return output

    # Clients that take answers more slowly than they come

    def pressure(self, full: bool) -> None:
        """The socket takes no more output for now, or does again. Never raises."""
        self._full = full
        for call in list(self._calls.values()):
            self._press(call)

    def _press(self, call: _Call) -> None:
        full = self._full or call.full
        if full != call.pressed:
            call.pressed = full
            try:
                press(call.sink, full)
            except Exception as error:
                self.fail(call, error)

    # Clients that take their time

    def debts(self, unsent: int) -> list[Debt]:
        """What the client owes; `unsent` bytes of the output have not left yet."""
        codec = self._codec
        if self.closing:
            return []
        if unsent or (codec is not None and codec.waiting):
            return [Debt("stall", 0, self._taken - unsent)]  # it is not read, so that it cannot owe anything else
        head = 0 if codec is None else codec.awaits_head
        debts = [Debt("body", call.stream, call.received) for call in self._calls.values() if _is_slow(call)]
        return debts if head is None else [*debts, Debt("header", head)]

    def overdue(self, debt: Debt) -> bool:
        """Give up what the client owes, and answer that where there is something to answer. False: close at once."""
        codec = self._codec
        if codec is None:
            return False
        late = BridgeError(Code.DEADLINE_EXCEEDED, f"the request's {debt.kind} came too slowly", status=408)
        self._in_turn = True
        try:
            if debt.kind == "header":
                self._handle(codec.give_up(late))
            elif (call := self._calls.get(debt.of)) is not None:
                self._on_refused(ProtocolRefused(call.stream, late, call.head))
        except Exception:
            self._break()
        finally:
            self._in_turn = False
        return True

    def output_ready(self) -> None:
        """Ask for a turn unless this is one."""
        if not self._in_turn:
            self.wake()

    def output_complete(self) -> None:
        """As `output_ready`, and nothing more is to come for now unless another call has something to say."""
        if not self._in_turn:
            (self.flush if len(self._calls) < 2 else self.wake)()

    # Events

    def _on_cancelled(self, event: RequestCancelled) -> None:
        if call := self._calls.get(event.stream):
            self._cancel(call)

    def _on_opened(self, event: RequestOpened) -> None:
        call = self._calls[event.stream] = _Call(event.stream, event.head)
        answer = call.answer = _Answer(self, call)
        try:
            sink = self._application.open(event.head, answer)
        except Exception as error:
            self.fail(call, error)
            return
        if call.answer is answer:
            call.sink = sink
            if self._full:
                self._press(call)
            if not call.held:
                self.codec.proceed(event.stream)
        elif call.refused:  # failed while it was opened
            self._cancel_sink(sink)

    def _on_data(self, event: RequestData) -> None:
        call = self._calls.get(event.stream)
        if call is not None and call.sink is not None:
            try:
                call.sink.on_data(event.data)
            except Exception as error:
                self.fail(call, error)
        if call is not None:
            call.received += event.credit
        if call is not None and call.held:
            call.owed += event.credit
        else:
            self.codec.acknowledge(event.stream, event.credit)

    def let_on(self, call: _Call) -> None:
        """The client that was held may go on: it waits for `100 Continue`, or for the credit that was held back."""
        try:
            self.codec.proceed(call.stream)
        except Exception:
            self._break()
        if call.owed:
            self.pay(call)

    def pay(self, call: _Call) -> None:
        """Give the client the credit that was held back."""
        credit, call.owed = call.owed, 0
        try:
            self.codec.acknowledge(call.stream, credit)
        except Exception:
            self._break()

    def _on_end(self, event: RequestEnd) -> None:
        call = self._calls.get(event.stream)
        if call is not None:
            call.complete = True
        if call is not None and call.sink is not None:
            try:
                call.sink.on_end()
            except Exception as error:
                self.fail(call, error)

    def _on_refused(self, event: ProtocolRefused) -> None:
        before = self._calls.get(event.stream)
        call = _Call(event.stream, event.head)
        if before is not None:
            before.failing(event.error)
            call.record = before.record
            self._cancel(before)
        self._calls[event.stream] = call
        self._refuse(call, event.error)

    def _cancel(self, call: _Call) -> None:
        """Nobody will read an answer."""
        sink = call.sink
        self.forget(call)
        self._cancel_sink(sink)

    def _cancel_sink(self, sink: RequestSink | None) -> None:
        if sink is not None:
            try:
                sink.on_cancel()
            except Exception:
                _log.exception("cancelling a call failed")

    # The end of a call

    def forget(self, call: _Call) -> None:
        """The call is over; what still comes for it is ignored."""
        if call.answer is not None:
            call.answer.mute()
        call.answer = call.sink = None  # call, answer and sink hold each other: leave nothing to the garbage collector
        if call.owed:
            self.pay(call)  # the connection's window is everybody's
        if self._calls.get(call.stream) is call:
            del self._calls[call.stream]

    def cut(self, call: _Call) -> None:
        """End the call so that the client can tell that the answer is not complete."""
        self.forget(call)
        try:
            self.codec.reset(call.stream)
        except Exception:
            self._break()

    def fail(self, call: _Call, error: Exception) -> None:
        """Fail closed: end the call, whatever went wrong with it."""
        if self._calls.get(call.stream) is not call:
            _log.error("error after the end of a call", exc_info=error)
            return
        _log.error("call failed: %s", _describe(call), exc_info=error)
        started = call.answer is not None and call.answer.started
        if call.answer is not None:
            call.answer.mute()
        sink, call.sink = call.sink, None
        told = BridgeError(Code.INTERNAL, "internal error")
        call.failing(told)
        self._cancel_sink(sink)
        if started:
            self.cut(call)
        elif call.refused:
            self._bare_error(call)
        else:
            self._refuse(call, told)

    def _refuse(self, call: _Call, error: BridgeError) -> None:
        """Have the application say no; if it cannot even do that, say so without it."""
        call.refused = True
        answer = call.answer = _Answer(self, call)
        try:
            self._application.refuse(error, call.head, answer)
        except Exception as failure:
            self.fail(call, failure)

    def _bare_error(self, call: _Call) -> None:
        self.forget(call)
        try:
            self.codec.send_head(call.stream, 500, _BARE_ERROR_HEADERS)
            self.codec.send_data(call.stream, _BARE_ERROR_BODY)
            self.codec.end(call.stream)
        except Exception:
            self._break()


_HANDLERS: dict[type[Event], Callable[[ClientConnection, Any], None]] = {
    RequestOpened: ClientConnection._on_opened,
    RequestData: ClientConnection._on_data,
    RequestEnd: ClientConnection._on_end,
    RequestCancelled: ClientConnection._on_cancelled,
    ProtocolRefused: ClientConnection._on_refused,
}


def _nobody() -> None:
    """Takes no turn any more."""


def _is_slow(call: _Call) -> bool:
    """Whether the client is waited for, and for nothing else."""
    if call.complete or call.held or call.unhurried or call.sink is None:
        return False
    return call.answer is not None and not call.answer.started


def _describe(call: _Call) -> str:
    if call.head is None:
        return "request without a readable head"
    return f"{call.head.method} {path_of(call.head.target)}"
