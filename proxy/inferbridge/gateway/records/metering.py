"""How many tokens a call used, read from what its runtime answers; of a traced call also what else a trace tells.

    over a bridge:   runtime ─▶ neutral reply or messages ─▶ Tally, and on to the client
    passed through:  runtime ─▶ the client
                        └─ a copy ─▶ half-bridge of the same binding ─▶ neutral ─▶ Tally, Answered

A call over a bridge is counted where the bridge reads its runtime's answer, before anybody changes what it says.
Reading a copy never changes what the client gets and never fails its call: a copy that cannot be read counts no more,
and the log says that too.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from inferbridge.bridge.bridge import Bridge, Crossing, Leg
from inferbridge.bridge.context import Context, Policy, RuntimeFault, Setting
from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.registry import GrpcHalf
from inferbridge.bridge.streams import GrpcSource, RestSource, Source
from inferbridge.bridge.values import Buffer, GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest, header
from inferbridge.gateway.answering import Collected
from inferbridge.gateway.limits import Limits
from inferbridge.gateway.record import CallRecord, Generation
from inferbridge.gateway.records.spending import Said, SaidAndAnswered, counts_tokens
from inferbridge.gateway.records.usage import Complain, Tally, Usage, Used
from inferbridge.upstream.api import Receiver

log = logging.getLogger(__name__)

_LENIENT = Policy(lossy=True)


def noted(record: CallRecord | None, used: Used) -> Used:
    """As `used`, and the record of a call that somebody will read hears of it too."""
    if record is None or not record.observed:
        return used
    record.metered = True

    def note(usage: Usage) -> None:
        record.use(usage.prompt_tokens, usage.completion_tokens)
        used(usage)

    return note


def unbooked(usage: Usage) -> None:
    """Tokens that only a record tells of."""


class Metering:
    """Counts the tokens of calls; remembers of which endpoints the log was told that they cannot be counted."""

    def __init__(self, limits: Limits) -> None:
        self.reads_all = False
        """Answers that pass through are read for the record, too; otherwise only where somebody books their tokens."""
        self._limits = limits
        self._told: set[str] = set()

    def over(self, bridge: Bridge, used: Used) -> Bridge:
        """The bridge, for one call whose tokens are counted."""
        if not counts_tokens(bridge):
            return bridge
        parts = {part.name: getattr(bridge, part.name) for part in fields(bridge)}
        return _MeteredBridge(**parts, used=used, complain=self._complain(bridge))

    def beside(self, receiver: Receiver, bridge: Bridge, used: Used | None, traced: Generation | None) -> Receiver:
        """The receiver of a call that is passed through; `bridge` is one from the binding that both ends speak.

        `used` hears of its tokens; in `traced` is noted what a trace tells of it.
        """
        if not counts_tokens(bridge):
            return receiver
        complain = _ignore if used is None else self._complain(bridge)
        hearers: list[_Hearer] = [] if used is None else [Tally(used, complain)]
        if traced is not None:
            said = SaidAndAnswered(traced)
            hearers.append(_OnlyAnswer(said))
            traced.spent = said.spent
        return _Overheard(receiver, _Copy(bridge, hearers, complain, self._limits))

    def _complain(self, bridge: Bridge) -> Complain:
        end = bridge.client
        name = f"{end.api.name}/{end.endpoint.name}"

        def complain(why: str) -> None:
            if name not in self._told:
                self._told.add(name)
                log.warning("tokens of %s answering %s are not all counted: %s", bridge.profile.name, name, why)

        return complain


@dataclass(frozen=True, kw_only=True)
class _MeteredBridge(Bridge):
    """Counts what comes back from the runtime."""

    used: Used
    complain: Complain

    def read_reply(self, crossing: Crossing, leg: Leg, answer: HttpReply | GrpcReply) -> Any:
        """As before, and counted."""
        reply = super().read_reply(crossing, leg, answer)
        Tally(self.used, self.complain).reply(reply)
        return reply

    def source(self, crossing: Crossing, leg: Leg, limit: int) -> Source:
        """As before, with messages that are counted before anybody changes them."""
        return _MeteredSource(super().source(crossing, leg, limit), Tally(self.used, self.complain))


class _MeteredSource:
    """A runtime's streamed answer, counted."""

    def __init__(self, source: Source, tally: Tally) -> None:
        self._source = source
        self._tally = tally

    def head(self, status: int, headers: Headers) -> None:
        """The head of the answer."""
        self._source.head(status, headers)

    def feed(self, data: Buffer) -> Iterable[Any]:
        """The messages that are complete."""
        return self._counted(self._source.feed(data))

    def finish(self, trailers: Headers) -> Iterable[Any]:
        """The messages still to come."""
        return self._counted(self._source.finish(trailers))

    def _counted(self, messages: Iterable[Any]) -> Iterable[Any]:
        for message in messages:
            self._tally.message(message)
            yield message


def _ignore(why: str) -> None:
    """What only a trace lacks is worth no word."""


class _Hearer(Protocol):
    """Is told what an answer says."""

    def reply(self, reply: Any) -> None:
        """All of a whole one."""

    def message(self, message: Any) -> None:
        """The next message of a stream."""


class _OnlyAnswer:
    """That of a call with one answer."""

    def __init__(self, said: Said) -> None:
        self._said = said

    def reply(self, reply: Any) -> None:
        """All of a whole one."""
        self._said.reply(0, reply)

    def message(self, message: Any) -> None:
        """The next message of a stream."""
        self._said.message(0, message)


class _Copy:
    """Reads a copy of an answer, streamed or whole, as the half-bridge of its binding does."""

    def __init__(self, bridge: Bridge, hearers: Sequence[_Hearer], complain: Complain, limits: Limits) -> None:
        self._end = bridge.client
        setting = Setting(operations=bridge.setting.operations)  # nothing is lost that is not in a copy
        self._context = Context(bridge.profile, _LENIENT, replying=True, setting=setting)
        self._hearers = hearers
        self._complain = complain
        self._limits = limits
        self._source: Source | None = None
        self._whole: Collected | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        """An error has used nothing."""
        if status != 200:
            return
        half, limits = self._end.half, self._limits
        if self._is_stream(headers):
            if isinstance(half, GrpcHalf):
                self._source = GrpcSource(half, None, self._context, limits.message_bytes)
            else:
                self._source = RestSource(half, self._end.dialect, None, self._context, limits.message_bytes)
            self._source.head(status, headers)
        elif half.decode_reply is not None:
            call = GrpcRequest("") if isinstance(half, GrpcHalf) else HttpRequest("", "")
            self._whole = Collected(call, limits.reply_bytes)
            self._whole.on_head(status, headers)

    def _is_stream(self, headers: Headers) -> bool:
        half = self._end.half
        if half.decode_message is None:
            return False
        if isinstance(half, GrpcHalf):
            return True
        return (header(headers, "content-type") or "").startswith("text/event-stream")

    def on_data(self, data: Buffer) -> None:
        """Some of it."""
        if self._source is not None:
            self._count(self._source.feed(data))
        elif self._whole is not None:
            self._whole.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        """All of it."""
        decode = self._end.half.decode_reply
        if self._source is not None:
            self._count(self._source.finish(trailers))
        elif self._whole is not None and decode is not None:
            answer: Any = self._whole.collected(trailers)
            reply = decode(answer, None, self._context)
            for hearer in self._hearers:
                hearer.reply(reply)

    def _count(self, messages: Iterable[Any]) -> None:
        for message in messages:
            for hearer in self._hearers:
                hearer.message(message)

    def give_up(self, error: Exception) -> None:
        """What failed stays unread; it is worth a line unless the runtime itself has failed."""
        self._source = self._whole = None
        if not isinstance(error, RuntimeFault):
            self._complain(f"an answer cannot be read: {error}")


class _Overheard:
    """Hands an answer on as it is, and reads a copy; the end is handed on when all is counted."""

    def __init__(self, receiver: Receiver, copy: _Copy) -> None:
        self._receiver = receiver
        self._copy = copy

    def on_head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self._receiver.on_head(status, headers)
        self._read(lambda: self._copy.on_head(status, headers))

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self._receiver.on_data(data)
        self._read(lambda: self._copy.on_data(data))

    def on_end(self, trailers: Headers) -> None:
        """The client's next call may follow at once, so that this one is booked before."""
        self._read(lambda: self._copy.on_end(trailers))
        self._receiver.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """The call failed in transport."""
        self._receiver.on_failure(error)

    def _read(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._copy.give_up(error)
