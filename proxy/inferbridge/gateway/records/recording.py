"""Makes the record of every call, and hands it to whoever wants it when the call has ended: exactly once for each.

A `Recorder` is the outermost application. It stands on both sides of all that happens to a call:

    client ⇄ RecordedCall ⇄ guard, limits, exchange … ⇄ RecordedReceiver ⇄ pool of the runtime

A call has ended with the first of these:

    answered       end, whole, abort
    left           on_cancel, while the connection is not `failing` the call
    failed         on_cancel of a call that the connection fails and whose answer has begun: it is cut
    refused        by a codec (`refuse`), or by the connection after a failure, with the same record then

Its id is the client's `x-request-id` if that is acceptable, else a new one. The client finds it with its answer, the
runtime with its request. A head that is sent again is read once.
"""

import logging
import re
from collections.abc import Callable, Sequence
from itertools import count
from time import time
from typing import Protocol, runtime_checkable
from uuid import uuid4

from msgspec import Struct

from inferbridge.bridge.bridge import LOST_HEADER
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import unquote_message
from inferbridge.bridge.values import Buffer, Chunks, Headers, header
from inferbridge.gateway.answering import is_grpc
from inferbridge.gateway.application import Application, RequestHead, RequestSink, Responder, Wrapped, press
from inferbridge.gateway.fields import REQUEST_ID
from inferbridge.gateway.record import CallRecord, Flag, Parent, bounded, clock
from inferbridge.gateway.records.counting import Counter, kind_of, octets
from inferbridge.gateway.records.pace import Pace
from inferbridge.gateway.transcript import Transcript
from inferbridge.upstream.api import Receiver

_log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACE = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_TRACEPARENT_LENGTH = 55
"""In version 00; later ones may be longer."""
_STATUS = {str(number): number for number in range(100)}
"""What `grpc-status` may say, and more."""
_VERSIONS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2"}
_UPSTREAM_FLAGS: dict[Code, Flag] = {Code.DEADLINE_EXCEEDED: "UT", Code.RESOURCE_EXHAUSTED: "LR"}
_BITS = (1 << 48) - 1
_SPREAD = 0x9E3779B97F4B
"""Odd, so that no two numbers of 48 bits have the same multiple."""


class Observer(Protocol):
    """Wants to know of calls."""

    def ended(self, record: CallRecord) -> None:
        """One has ended; the record is complete."""


@runtime_checkable
class EarlyObserver(Observer, Protocol):
    """Wants to know of them from the beginning."""

    def began(self, record: CallRecord) -> None:
        """A call has begun; its record knows the client's side alone."""


class Transcriber(Protocol):
    """Decides which calls are worth a transcript."""

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript | None:
        """Of a call that begins, its head as it came; None: not wanted. One that the record has already is shared."""


class _Known(Struct, frozen=True):
    """What a head says of every call that it begins."""

    record: CallRecord
    """As it stands at the beginning but for the times, and the id where the client has sent none."""
    counts: Callable[[], Counter] | None
    """What counts the messages of the body; None where it is one."""

    @classmethod
    def of(cls, head: RequestHead) -> "_Known":
        """The same object for a head that is sent again."""
        known: _Known | None = head.memo.get("record")
        if known is None:
            known = head.memo["record"] = cls._read(head)
        return known

    @classmethod
    def _read(cls, head: RequestHead) -> "_Known":
        ids = [value for name, value in head.headers if name == REQUEST_ID]
        acceptable = ids[0] if len(ids) == 1 and _ID.fullmatch(ids[0]) else ""
        parent = _parent(head.headers)
        record = CallRecord(
            request_id=acceptable,
            own_id=not acceptable,
            hostile_id=bool(ids) and not acceptable,
            trace_id=parent.trace_id if parent is not None else "",
            span_id=parent.span_id if parent is not None else "",
            parent=parent,
            protocol="gRPC" if is_grpc(head) else _VERSIONS.get(head.version, ""),
            method=bounded(head.method),
            peer=head.peer,
        )
        return cls(record, kind_of(header(head.headers, "content-type") or ""))


_NOTHING = CallRecord(own_id=True)
"""What is known of a call whose head cannot be read."""


def _parent(headers: Headers) -> Parent | None:
    """What the client's trace context says (W3C); one that is not valid is none."""
    sent = [value for name, value in headers if name == "traceparent"]
    trace = _TRACE.fullmatch(sent[0]) if len(sent) == 1 else None
    if trace is None or (trace[0].startswith("00-") and len(trace[0]) != _TRACEPARENT_LENGTH):
        return None
    state = ",".join(value for name, value in headers if name == "tracestate")
    return Parent(trace[1], trace[2], int(trace[3], 16), state)


def ids() -> Callable[[], str]:
    """Makes the ids of one process: UUIDs in the form of version 4, for speed, since an id is no secret.

    The first 48 bits count, spread so that neighbours look different where people look first. 74 more are random, but
    the same for all.
    """
    random = uuid4()
    shared, numbers = f"{random}"[13:], count(random.node)

    def made() -> str:
        return (next(numbers) * _SPREAD & _BITS).to_bytes(6).hex("-", -4) + shared  # twice as fast as a format

    return made


def grpc_status(fields: Headers) -> int | None:
    """What headers or trailers say; None where they say nothing that is one."""
    return _STATUS.get(header(fields, "grpc-status") or "")


class Recorder:
    """The `Application` that codecs hand calls to; `observers` hear of all of them."""

    def __init__(
        self, application: Application, observers: Sequence[Observer] = (), transcribers: Sequence[Transcriber] = ()
    ) -> None:
        self._application = application
        self._observers = tuple(observers)
        self._early = tuple(each for each in observers if isinstance(each, EarlyObserver))
        self._observed = bool(observers)
        self._transcribers = tuple(transcribers)
        self._new_id = ids()

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins."""
        known = _Known.of(head)
        record = responder.record = self._begin(head, known.record)
        kind, counts = RecordedCall if record.transcript is None else TranscribedCall, known.counts
        return kind(self, record, responder, counts and counts()).open(self._application, head)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        """Answer what no call came of, or a call that has failed."""
        record = responder.record
        if record is None:
            record = responder.record = self._begin(head, _Known.of(head).record if head is not None else _NOTHING)
        elif record.ended:  # its answer was on the way when the client broke a rule
            self._application.refuse(error, head, responder)
            return
        record.failing = False
        record.failed(error)
        kind = RecordedCall if record.transcript is None else TranscribedCall
        kind(self, record, responder, None).refuse(self._application, error, head)

    def _begin(self, head: RequestHead | None, known: CallRecord) -> CallRecord:
        record: CallRecord = known.__copy__()  # type: ignore[attr-defined]  # its types lack what `copy` calls
        if record.own_id:
            record.request_id = self._new_id()
        record.observed, record.began_at, record.began = self._observed, time(), clock()
        if head is not None:
            for transcriber in self._transcribers:
                self._transcribe(transcriber, head, record)
        for observer in self._early:
            try:
                observer.began(record)
            except Exception:
                _log.exception("noting the begin of a call failed")
        return record

    def _transcribe(self, transcriber: Transcriber, head: RequestHead, record: CallRecord) -> None:
        try:
            record.transcript = transcriber.begin(head, record) or record.transcript
        except Exception:
            _log.exception("a call goes on without a transcript")

    def end(self, record: CallRecord) -> None:
        """Tell of a call that has ended."""
        for observer in self._observers:
            try:
                observer.ended(record)
            except Exception:
                _log.exception("noting the end of a call failed")


class RecordedCall(Wrapped):
    """One call: its application's `Responder`, and its client's `RequestSink`."""

    __slots__ = ("_asked", "_begun", "_pace", "_recorder", "_responder", "_sink", "_told", "record")

    def __init__(self, recorder: Recorder, record: CallRecord, responder: Responder, asked: Counter | None) -> None:
        """`asked` counts the client's messages; None: its body is one."""
        self.record: CallRecord = record
        self._recorder = recorder
        self._responder = responder
        self._asked = asked
        self._told: Counter | None = None
        self._sink: RequestSink | None = None
        self._begun = False
        self._pace: Pace | None = None
        """Of a streamed answer that somebody wants to know about, from its first piece on."""

    def open(self, application: Application, head: RequestHead) -> RequestSink:
        """Begin the call; one that raises is refused by the connection, or cut if its answer has begun."""
        try:
            sink = application.open(head, self)
        except BaseException:
            if self._begun:
                self._end()
            raise
        if not self.record.ended:
            self._sink = sink
        return self

    def refuse(self, application: Application, error: BridgeError, head: RequestHead | None) -> None:
        """Have it refused; where even that fails the connection says 500."""
        try:
            application.refuse(error, head, self)
        except BaseException:
            self.record.status = 500
            self._end()
            raise

    def _end(self) -> None:
        record, self._sink = self.record, None  # they hold each other: leave nothing to the garbage collector
        if not record.ended:
            if record.spent is not None and (spent := record.spent()) is not None:
                record.use(*spent)
            if self._pace is not None:
                self._pace.count()
            record.ended = clock()
            self._recorder.end(record)

    # the client's side

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        record = self.record
        record.bytes_in += len(data) if type(data) is bytes else octets(data)
        if self._asked is not None:
            record.messages_in += self._asked.feed(data)
        if self._sink is not None:
            self._sink.on_data(data)

    def on_end(self) -> None:
        """The body is complete."""
        record = self.record
        record.received = clock()
        if self._asked is None and record.bytes_in:
            record.messages_in = 1
        if self._sink is not None:
            self._sink.on_end()

    def on_pressure(self, full: bool) -> None:
        """The answer piles up, or no more."""
        press(self._sink, full)

    def on_cancel(self) -> None:
        """The client went away, or the connection has given the call up."""
        sink, self._sink = self._sink, None
        if not self.record.failing:
            self.record.flag("DC")
        try:
            if sink is not None:
                sink.on_cancel()
        finally:
            if self._begun or not self.record.failing:  # else it will be refused
                self._end()

    # the application's side

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers, and the id."""
        self._responder.head(status, self._headed(status, headers))
        self._begun = True

    def _headed(self, status: int, headers: Headers) -> Headers:
        record, found = self.record, dict(headers)
        record.status = status
        counts = kind_of(found.get("content-type", ""))
        if counts is not None:
            self._told = counts()
            record.streamed = record.streamed or not record.is_grpc
        if "grpc-status" in found or LOST_HEADER in found:
            self._outcome(found)
        if REQUEST_ID in found:
            headers = tuple(pair for pair in headers if pair[0] != REQUEST_ID)
        return (*headers, (REQUEST_ID, record.request_id))

    def _outcome(self, found: dict[str, str]) -> None:
        """What headers or trailers say of the call."""
        record = self.record
        if LOST_HEADER in found:
            record.losses = found[LOST_HEADER]
        status = _STATUS.get(found.get("grpc-status", ""))
        if status is not None:
            record.grpc_status = status
            if status and not record.error:
                record.error = bounded(unquote_message(found.get("grpc-message", "")))

    def data(self, data: Buffer) -> None:
        """A piece of the answer."""
        if self.record.observed:
            self._sent(data)
        self._responder.data(data)

    def message(self, data: Buffer) -> None:
        """Whole messages of a stream."""
        pace = self._pace
        if pace is not None:
            pace.add(data)
        elif self.record.observed:
            self._sent(data)
        self._responder.message(data)

    def _sent(self, data: Buffer) -> None:
        """Count a piece that may hold parts of messages, or be the first one."""
        record, pace = self.record, self._pace
        if pace is not None:
            pace.mark()
        elif not record.first_byte:
            record.first_byte = clock()
            if record.streamed:
                self._pace = Pace(record, self._told)
        record.bytes_out += len(data) if type(data) is bytes else octets(data)
        if self._told is not None:
            record.messages_out += self._told.feed(data)

    def end(self, trailers: Headers = ()) -> None:
        """The answer is complete."""
        if trailers:
            self._outcome(dict(trailers))
        if self._told is None and self.record.bytes_out:
            self.record.messages_out = 1
        self._responder.end(trailers)
        self._end()

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """The whole answer."""
        record = self.record
        headers = self._headed(status, headers)
        for chunk in chunks:
            record.bytes_out += len(chunk) if type(chunk) is bytes else octets(chunk)
            if self._told is not None:
                record.messages_out += self._told.feed(chunk)
        if record.bytes_out:
            record.first_byte = clock()
            if self._told is None:
                record.messages_out = 1
        self._responder.whole(status, headers, chunks)
        self._end()

    def abort(self) -> None:
        """The answer is cut."""
        self._responder.abort()
        self._end()


class TranscribedCall(RecordedCall):
    """A call whose two sides on the client's wire are kept."""

    __slots__ = ()

    @property
    def _transcript(self) -> Transcript:
        assert self.record.transcript is not None
        return self.record.transcript

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._transcript.asked.add(data)
        self._transcript.changed()
        super().on_data(data)

    def on_end(self) -> None:
        """The body is complete."""
        self._transcript.asked.ended = clock()
        super().on_end()

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers, as the client gets them."""
        super().head(status, headers)
        self._transcript.changed()

    def _headed(self, status: int, headers: Headers) -> Headers:
        headers = super()._headed(status, headers)
        self._transcript.told.head(status, headers, self._transcript.hidden)
        return headers

    def data(self, data: Buffer) -> None:
        """A piece of the answer."""
        self._transcript.told.add(data)
        super().data(data)
        self._transcript.changed()

    def message(self, data: Buffer) -> None:
        """Whole messages of a stream."""
        self._transcript.told.add(data)
        super().message(data)
        self._transcript.changed()

    def end(self, trailers: Headers = ()) -> None:
        """The answer is complete."""
        self._transcript.told.end(trailers, self._transcript.hidden)
        super().end(trailers)

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """The whole answer."""
        told = self._transcript.told
        for chunk in chunks:
            told.add(chunk)
        told.began = told.ended = clock()
        super().whole(status, headers, chunks)


class RecordedReceiver:
    """What a runtime answers, noted on its way to the receiver; pieces of the body go there directly."""

    __slots__ = ("_receiver", "_record", "on_data")

    def __init__(self, receiver: Receiver, record: CallRecord) -> None:
        self._receiver = receiver
        self._record = record
        self.on_data = receiver.on_data

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        record = self._record
        if not record.upstream_head:
            record.upstream_head = clock()
        if status > (record.upstream_status or 0):
            record.upstream_status = status
        for name, value in headers:
            if name == "grpc-status":
                self._outcome(value)
        self._receiver.on_head(status, headers)

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        self._record.upstream_ended = clock()
        for name, value in trailers:
            if name == "grpc-status":
                self._outcome(value)
        self._receiver.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self._record.upstream_ended = clock()
        self._record.failed(error, _UPSTREAM_FLAGS.get(error.code, "UC"))
        self._receiver.on_failure(error)

    def _outcome(self, text: str) -> None:
        record, status = self._record, _STATUS.get(text)
        if status is not None and status >= (record.upstream_grpc_status or 0):
            record.upstream_grpc_status = status
