"""Chooses the calls that are captured, and carries them from the event loop to the sinks without holding up any.

    begin ─▶ transcript grows ─▶ ended ─▶ waiting ─▶ a thread renders ─▶ sinks
      └ no room: none              └ not wanted, no room: dropped

Whether a call fails shows only at its end, so with `errors` every call has a transcript while it is under way. The
memory of them all and of those that wait is bounded: each call under way counts with the most that a message may keep,
four times over, and each that waits with what it holds. What finds no room is counted as dropped, and the call itself
goes on as ever.

A call that asks to be captured has a transcript too; who it was that asked, and may they, is known at its end.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Protocol

from inferbridge.auth.rules import include
from inferbridge.bridge.values import header
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.rendering import Reason, Renderer
from inferbridge.capture.settings import CaptureSettings
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.record import CallRecord, bounded
from inferbridge.gateway.transcript import Transcript

_log = logging.getLogger(__name__)
DEMAND = "x-inferbridge-capture"
"""The header or metadata of a call that is to be captured, `1` or `true`; runtimes never get it."""
_YES = frozenset({"1", "true"})
_MESSAGES = 4
"""Of a call with one leg."""
_UNKNOWN = frozenset({"UAEX", "RL"})
"""Flags of callers who were turned away: their failures fill no file."""
FLUSH_SECONDS = 5.0
"""How long the end of the proxy waits for sinks."""


class CaptureCounters(Protocol):
    """Takes counts; `sink` is a kind of sink, or `all` where none was reached."""

    def captured(self, sink: str) -> None:
        """A call was written."""

    def capture_dropped(self, sink: str, reason: str) -> None:
        """A call that was to be captured is not: `denied`, `memory`, `queue`, `sink`, `shutdown` or `internal`."""


class Sink(Protocol):
    """Where lines go. What fails is counted and logged by the sink itself."""

    async def take(self, line: CapturedLine) -> None:
        """Write a line, or see to it that somebody does."""

    async def close(self, seconds: float) -> None:
        """Write what still waits, for so long at most."""


@dataclass(frozen=True, slots=True)
class _Open:
    """Why a call under way has a transcript; neither: in case it fails."""

    sampled: bool
    demanded: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    record: CallRecord
    transcript: Transcript
    reason: Reason
    size: int


class Capturer:
    """A `Transcriber` and an `Observer` of calls, with a task that serves its sinks from `start` to `close`."""

    def __init__(
        self,
        settings: CaptureSettings,
        sinks: Sequence[Sink],
        counters: CaptureCounters,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._sinks = tuple(sinks)
        self._counters = counters
        self._chance = chance
        self._renderer = Renderer(settings)
        self._open: dict[int, _Open] = {}
        """Calls under way that have a transcript, by the identity of their record."""
        self._waiting: deque[_Waiting] = deque()
        self._held = 0
        """Bytes of those that wait."""
        self._is_woken = asyncio.Event()
        self._is_writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    # of calls

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript | None:
        """A transcript for a call in the sample or that asks for it, and for every call where errors are wanted."""
        settings = self._settings
        sampled = self._chance() < settings.sample
        demanded = bool(settings.on_demand) and header(head.headers, DEMAND) in _YES
        if not sampled and not demanded and not settings.errors:
            return None
        most = _MESSAGES * settings.max_bytes
        if self._held + (len(self._open) + 1) * most > settings.memory:
            if sampled or demanded:
                self._counters.capture_dropped("all", "memory")
            return None
        self._open[id(record)] = _Open(sampled, demanded)
        if record.transcript is not None:
            return record.transcript.share(settings.max_bytes)
        return Transcript.of(head.method, head.target, head.headers, limit=settings.max_bytes)

    def ended(self, record: CallRecord) -> None:
        """Have it written, if it is wanted."""
        opened, transcript = self._open.pop(id(record), None), record.transcript
        if opened is None or transcript is None:
            return
        reason = self._reason(record, opened)
        if reason is None or not self._matches(record):
            return
        size = transcript.size
        if self._held + size > self._settings.memory:
            self._counters.capture_dropped("all", "memory")
            return
        self._held += size
        self._waiting.append(_Waiting(record, transcript, reason, size))
        self._is_woken.set()

    def _reason(self, record: CallRecord, opened: _Open) -> Reason | None:
        if opened.demanded and self._may_demand(record):
            return "demand"
        if self._settings.errors and _failed(record):
            return "error"
        return "sample" if opened.sampled else None

    def _may_demand(self, record: CallRecord) -> bool:
        """Whether its caller is one who may ask; nobody is whom the guard has turned away."""
        if not record.admitted:
            return False
        if any(include(callers, record.identity) for callers in self._settings.on_demand):
            return True
        self._counters.capture_dropped("all", "denied")
        subject = bounded(record.identity.subject)
        _log.info("call %s is not captured: capture.on_demand does not name its caller, %s", record.request_id, subject)
        return False

    def _matches(self, record: CallRecord) -> bool:
        wanted = ((self._settings.models, record.model), (self._settings.operations, record.operation))
        return all(not globs or any(fnmatchcase(name, glob) for glob in globs) for globs, name in wanted)

    # of sinks

    def start(self) -> None:
        """Begin to write what comes."""
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self._is_woken.wait()
            self._is_woken.clear()
            await self.drain()

    async def drain(self) -> None:
        """Write all that waits."""
        async with self._is_writing:
            while self._waiting:
                one = self._waiting.popleft()
                try:
                    await self._write(one)
                finally:
                    self._held -= one.size

    async def _write(self, one: _Waiting) -> None:
        try:
            line = await asyncio.to_thread(self._renderer.line, one.record, one.transcript, one.reason)
            for sink in self._sinks:
                await sink.take(line)
        except asyncio.CancelledError:
            self._counters.capture_dropped("all", "shutdown")
            raise
        except Exception:
            self._counters.capture_dropped("all", "internal")
            _log.exception("a call could not be captured")

    async def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Write what still waits, for so long at most; what is left is counted as dropped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.drain()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for _ in range(len(self._waiting)):
            self._counters.capture_dropped("all", "shutdown")
        self._waiting.clear()
        await asyncio.gather(*(sink.close(seconds) for sink in self._sinks))


def _failed(record: CallRecord) -> bool:
    if _UNKNOWN & set(record.flags):
        return False
    return bool(record.flags or record.error or record.grpc_status or (record.status or 500) >= 400)
