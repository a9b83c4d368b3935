"""The runtime's answers over a bridge to the client, whatever each of them is: whole or streamed, one or several.

    call of the runtime ──▶ leg (whole | streamed) ──▶ answer (whole | streamed) ──▶ client

A leg turns one answer of the runtime into neutral values. The answer takes them from all legs of a call: it joins or
folds them for a client that wants one answer, and writes them on as they come for one that wants a stream. The first
failure ends the call: as an error answer while nothing was sent, in the stream afterwards. `Legs` starts no more
than `CONCURRENT` calls of one batch at a time.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from inferbridge.bridge.accept import StreamForm
from inferbridge.bridge.bridge import Bridge, Crossing, Leg, lost_headers, not_the_clients
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.gateway.answering import Collected, answer
from inferbridge.gateway.application import Responder
from inferbridge.gateway.calls.pulse import Pulse
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.records.spending import Answered, Said, said
from inferbridge.upstream.api import Receiver

log = logging.getLogger(__name__)

CONCURRENT = 8

type Start = Callable[[Leg, Receiver], Cancellable]
"""Sends the call of a leg."""


def later(seconds: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
    """Call back after this time."""
    return asyncio.get_running_loop().call_later(seconds, callback)


def now() -> float:
    """The clock that `later` goes by."""
    return asyncio.get_running_loop().time()


class Cancellable(Protocol):
    """A call in flight, or several."""

    def cancel(self) -> None:
        """Nobody wants the answer any more."""

    def throttle(self, paused: bool) -> None:
        """Stop reading the answer, or go on."""


class Legs:
    """The calls of one batch: starts them in order, a few at a time, and cancels what is left when one fails."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._waiting: list[tuple[Leg, Receiver]] = []
        self._running: dict[Receiver, Cancellable] = {}
        self._clock: asyncio.TimerHandle | None = None
        self.pulse: Pulse | None = None
        """Beats while a streamed answer is silent."""
        self.over = False
        self._paused = False

    def begin(self, legs: Iterable[tuple[Leg, Receiver]]) -> None:
        """Start with the first ones."""
        self._waiting = list(legs)[::-1]
        for _ in range(min(CONCURRENT, len(self._waiting))):
            self._next()

    def limit(self, seconds: float, out_of_time: Callable[[], None]) -> None:
        """Call back after this time, unless all is over before."""
        self._clock = later(seconds, out_of_time)

    def stop_clock(self) -> None:
        """All have ended in time."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def stop_pulse(self) -> None:
        """The answer is complete."""
        if self.pulse is not None:
            self.pulse.stop()
            self.pulse = None

    def ended(self, receiver: Receiver) -> None:
        """One has its answer: the next may go."""
        self._running.pop(receiver, None)
        self._next()

    def _next(self) -> None:
        if self._waiting and not self.over:
            leg, receiver = self._waiting.pop()
            call = self._start(leg, receiver)
            if not self.over:
                self._running[receiver] = call
                if self._paused:
                    call.throttle(True)

    def throttle(self, paused: bool) -> None:
        """The client does not take the answer, or does again."""
        self._paused = paused
        for call in self._running.values():
            call.throttle(paused)

    def cancel(self) -> None:
        """No more answers are wanted."""
        running = self._running
        self.let_go()
        for call in running.values():
            call.cancel()

    def let_go(self) -> None:
        """All is over: hold nothing of the calls, which hold this, for the garbage collector to find."""
        self.over = True
        self.stop_clock()
        self.stop_pulse()
        self._running, self._waiting, self._start = {}, [], _started


def _started(leg: Leg, receiver: Receiver) -> Cancellable:
    raise AssertionError("a batch that is over starts no call")


class TranslatedAnswer(ABC):
    """What the client gets, made from all legs."""

    def __init__(self, bridge: Bridge, crossing: Crossing, responder: Responder, limits: Limits) -> None:
        self.bridge = bridge
        self.crossing = crossing
        self.limits = limits
        self._responder = responder
        self._record = responder.record
        self._said = said(responder.record, bridge)
        self._open = len(crossing.legs)
        self._unfinished = set(range(len(crossing.legs)))

    def begin(self, start: Start) -> Legs:
        """Send the calls."""
        self.legs = Legs(start)
        if self.crossing.time_limit is not None:
            self.legs.limit(self.crossing.time_limit, lambda: self.guarded(self._out_of_time))
        kind = _StreamedLeg if self.crossing.streamed else _WholeLeg
        self.legs.begin([(leg, kind(self, number, leg)) for number, leg in enumerate(self.crossing.legs)])
        return self.legs

    @abstractmethod
    def take_reply(self, number: int, reply: Any) -> None:
        """A leg has its whole answer."""

    @abstractmethod
    def take_messages(self, number: int, messages: Iterable[Any]) -> None:
        """Messages of a streamed leg."""

    def finished(self, number: int, message: Any) -> None:
        """Note whether a message ends the text of a leg."""
        if self.crossing.time_limit is not None and message.finish_reason is not None:
            self._unfinished.discard(number)

    def _out_of_time(self) -> None:
        """Texts end as they are."""
        for number in sorted(self._unfinished):
            self.take_messages(number, (self.bridge.out_of_time(),))
        self.complete()
        self.legs.cancel()

    @abstractmethod
    def complete(self) -> None:
        """All legs have ended well."""

    def ended(self, receiver: Receiver) -> None:
        """A leg has ended well."""
        self._open -= 1
        if self._open:
            self.legs.ended(receiver)
        else:
            self.legs.stop_clock()
            self.guarded(self.complete)
            self.legs.let_go()

    def guarded(self, step: Callable[[], None]) -> None:
        """Do a step; what it raises ends the call with an error, and no other call."""
        if self.legs.over:
            return
        try:
            step()
        except Exception as error:
            self.broken(error)

    def broken(self, error: Exception) -> None:
        """What a step raised ends the call."""
        if isinstance(error, BridgeError):
            told = not_the_clients(error)
        else:
            log.error("translating an answer failed", exc_info=error)
            told = BridgeError(Code.INTERNAL, "internal error")
        if self._record is not None:
            self._record.failed(told, "TE")
        self.fail(told)

    def fail(self, error: BridgeError) -> None:
        """End the call with an error."""
        if not self.legs.over:
            self.legs.cancel()
            self.tell(error)

    def tell(self, error: BridgeError) -> None:
        """Answer an error; nothing was sent yet."""
        answer(self.bridge.error(error), self._responder)


class WholeAnswer(TranslatedAnswer):
    """One answer: replies are joined, streams folded."""

    def __init__(self, bridge: Bridge, crossing: Crossing, responder: Responder, limits: Limits) -> None:
        super().__init__(bridge, crossing, responder, limits)
        self._replies: list[Any] = [None] * len(crossing.legs)
        self._folds = [bridge.fold() for _ in crossing.legs] if crossing.streamed else []

    def take_reply(self, number: int, reply: Any) -> None:
        """Keep it until all are there."""
        if self._said is not None:
            self._said.reply(number, reply)
        self._replies[number] = reply

    def take_messages(self, number: int, messages: Iterable[Any]) -> None:
        """Fold them."""
        for message in messages:
            self.finished(number, message)
            if self._said is not None:
                self._said.message(number, message)
            self._folds[number].add(message)

    def complete(self) -> None:
        """Write the answer."""
        replies = [fold.reply() for fold in self._folds] or self._replies
        answer(self.bridge.write_reply(self.crossing, replies), self._responder)


class StreamedAnswer(TranslatedAnswer):
    """A stream: each message goes out as it comes."""

    def __init__(
        self, bridge: Bridge, crossing: Crossing, responder: Responder, limits: Limits, form: StreamForm = "events"
    ) -> None:
        super().__init__(bridge, crossing, responder, limits)
        self._sink = bridge.sink(crossing, form)
        self._writer = bridge.writer(crossing)
        self._begun = False

    def take_reply(self, number: int, reply: Any) -> None:
        """A whole answer is a stream of one delta."""
        if self._said is not None:
            self._said.reply(number, reply)
        self._write(number, self.bridge.unfold(reply), None)  # the messages say the same again

    def take_messages(self, number: int, messages: Iterable[Any]) -> None:
        """Write them on; those before an error go out before it is told."""
        self._write(number, messages, self._said)

    def _write(self, number: int, messages: Iterable[Any], told: Said | Answered | None) -> None:
        chunks: list[Buffer] = []
        try:
            for message in messages:
                self.finished(number, message)
                if number:
                    message.index += number
                if told is not None:
                    told.message(number, message)
                chunks += self._sink.write((message,) if self._writer is None else self._writer.write(message))
        finally:
            self._send(chunks)

    def _send(self, chunks: Iterable[Buffer]) -> None:
        data = b"".join(chunks)
        if data:
            self._begin()
            pulse = self.legs.pulse
            if pulse is not None:
                pulse.heard()
            self._responder.message(data)

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._responder.head(self._sink.status, (*self._sink.headers, *lost_headers(self.crossing.context)))
            if self._sink.keep_alive():
                self.legs.pulse = Pulse(lambda: self._responder.data(self._sink.keep_alive()))
                self.legs.pulse.start()

    def complete(self) -> None:
        """Say that all is well."""
        if self._writer is not None:
            self._send(self._sink.write(self._writer.finish()))
        self._begin()
        chunks, trailers = self._sink.end()
        self._end(chunks, trailers)

    def _end(self, chunks: Iterable[Buffer], trailers: Headers) -> None:
        self.legs.over = True
        self.legs.stop_pulse()
        for chunk in chunks:
            self._responder.data(chunk)
        self._responder.end(trailers)

    def tell(self, error: BridgeError) -> None:
        """In the stream, once it has begun."""
        if self._begun or self._sink.tells_errors:
            self._begin()
            self._end(*self._sink.fail(error))
        else:
            super().tell(error)


class _WholeLeg(Collected):
    """One answer of the runtime."""

    def __init__(self, answer: TranslatedAnswer, number: int, leg: Leg) -> None:
        super().__init__(leg.call, answer.limits.reply_bytes)
        self._answer = answer
        self._number = number
        self._leg = leg

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        answer = self._answer

        def read() -> None:
            reply = answer.bridge.read_reply(answer.crossing, self._leg, self.collected(trailers))
            answer.take_reply(self._number, reply)
            answer.ended(self)

        answer.guarded(read)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self._answer.fail(error)


class _StreamedLeg:
    """Reads one stream of the runtime."""

    def __init__(self, answer: TranslatedAnswer, number: int, leg: Leg) -> None:
        self._answer = answer
        self._number = number
        self._source = answer.bridge.source(answer.crossing, leg, answer.limits.message_bytes)

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._answer.guarded(lambda: self._source.head(status, headers))

    def on_data(self, data: Buffer) -> None:
        """Some of the stream."""
        answer = self._answer
        if not answer.legs.over:
            try:  # as `guarded`, without its price for each message
                answer.take_messages(self._number, self._source.feed(data))
            except Exception as error:
                answer.broken(error)

    def on_end(self, trailers: Headers) -> None:
        """The stream is complete."""

        def read() -> None:
            self._answer.take_messages(self._number, self._source.finish(trailers))
            self._answer.ended(self)

        self._answer.guarded(read)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed on the way."""
        self._answer.fail(error)
