"""The events of KServe's payload logger, sent over HTTP: CloudEvents 1.0 in binary mode, one for the client's request
and one for its answer, with the call's id as `ce-id`; where they are wanted, the same for each runtime that was asked.

    side      `ce-id`                                          further attributes
    client    the call's                                       side, requestid
    runtime   the call's, a dot, the number of the runtime's   side, requestid, upstream, runtime, api

Where KServe sends the bytes of JSON requests that succeeded, these hold what was captured: redacted JSON for gRPC too,
streams put together, and failures, with their status and error as further attributes. What is no JSON goes as it is;
what was withheld has an empty body and `ce-note`.

Events wait in a bounded queue. One that is not taken is sent again, twice, a little later each time, unless the
collector says that it is wrong.
"""

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlsplit

import msgspec

from inferbridge.auth.authenticator import CannotAuthenticate
from inferbridge.auth.fetch import Origin, path_of
from inferbridge.bridge.values import Headers
from inferbridge.capture.capturer import CaptureCounters
from inferbridge.capture.lines import CapturedCall, CapturedLine, CapturedMessage
from inferbridge.capture.settings import CloudEventsSink

_log = logging.getLogger(__name__)
_TYPE = "org.kubeflow.serving.inference."
_PAUSES = (0.5, 2.0)
"""Seconds before each further attempt."""
_LATER = frozenset({408, 425, 429})
_SAFE = "".join(chr(number) for number in range(0x20, 0x7F) if chr(number) not in '"%')
"""Characters of an attribute that stand for themselves in a header (CloudEvents, HTTP binding 3.1.3.2)."""

type Event = tuple[Headers, bytes]
type Sleep = Callable[[float], Awaitable[object]]


def events_of(line: CapturedLine, settings: CloudEventsSink) -> Iterator[Event]:
    """Headers and bodies of a call's events."""
    for side in _sides(line, settings):
        common = _common(line, settings) | side.attributes
        if settings.send != "response":
            yield _event(common, "request", side.request)
        if settings.send != "request":
            yield _event(common | side.outcome, "response", side.reply)


@dataclass(frozen=True, slots=True)
class _Side:
    """Request and answer of the client, or of one runtime."""

    request: CapturedMessage
    reply: CapturedMessage
    attributes: dict[str, str]
    outcome: dict[str, str]
    """Attributes of the answer alone."""


def _sides(line: CapturedLine, settings: CloudEventsSink) -> Iterator[_Side]:
    if settings.sides != "runtime":
        attributes = {"id": line.request_id, "side": "client"}
        yield _Side(line.client.request, line.client.reply, attributes, _outcome(line.status, line))
    if settings.sides != "client":
        for number, call in enumerate(line.calls, 1):
            named = {"upstream": call.upstream, "runtime": call.runtime, "api": call.api}
            attributes = {"id": f"{line.request_id}.{number}", "side": "runtime", **named}
            yield _Side(call.request, call.reply, attributes, _outcome(call.reply.status, call))


def _outcome(status: int | None, of: CapturedLine | CapturedCall) -> dict[str, str]:
    return {"status": _number(status), "grpcstatus": _number(of.grpc_status), "error": of.error or ""}


def _common(line: CapturedLine, settings: CloudEventsSink) -> dict[str, str]:
    """Attributes of all events of a call."""
    return {
        "source": settings.source,
        "specversion": "1.0",
        "time": line.ts,
        "requestid": line.request_id,
        "inferenceservicename": settings.service or line.model or "",
        "namespace": settings.namespace,
        "component": settings.component,
        "endpoint": settings.endpoint,
    }


def _event(attributes: Mapping[str, str], kind: Literal["request", "response"], message: CapturedMessage) -> Event:
    content_type, body = _body(message)
    attributes = {**attributes, "type": _TYPE + kind, "note": message.note or ""}
    headers = [(f"ce-{name}", quote(value, safe=_SAFE)) for name, value in attributes.items() if value]
    return (*headers, ("content-type", content_type)), body


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _body(message: CapturedMessage) -> tuple[str, bytes]:
    match message.form:
        case "json" | "stream":
            return "application/json", msgspec.json.encode(message.value)
        case "text":
            return message.content_type or "text/plain", message.value.encode()
        case "base64":
            return "application/octet-stream", base64.b64decode(message.value)
    return message.content_type or "application/json", b""


class CloudEvents:
    """Sends events in the background. ValueError for a URL or a TLS file that cannot be used."""

    name = "cloudevents"

    def __init__(self, settings: CloudEventsSink, counters: CaptureCounters, sleep: Sleep = asyncio.sleep) -> None:
        self._settings = settings
        self._counters = counters
        self._sleep = sleep
        parts = urlsplit(settings.url)
        self._origin = Origin(settings.url, tls=settings.tls, timeout=settings.timeout)
        self._path = path_of(parts)
        self._queue: asyncio.Queue[Event] = asyncio.Queue(settings.queue)
        self._task: asyncio.Task[None] | None = None
        self._is_down = False

    async def take(self, line: CapturedLine) -> None:
        """Have its events sent; those that find no room are counted."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        for event in events_of(line, self._settings):
            try:
                self._queue.put_nowait(event)
            except asyncio.QueueFull:
                self._counters.capture_dropped(self.name, "queue")

    async def close(self, seconds: float) -> None:
        """Send what waits, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._queue.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while not self._queue.empty():
            self._queue.get_nowait()
            self._counters.capture_dropped(self.name, "shutdown")
        await self._origin.close()

    async def _run(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._deliver(event)
            except asyncio.CancelledError:
                self._counters.capture_dropped(self.name, "shutdown")
                raise
            except Exception:
                self._counters.capture_dropped(self.name, "internal")
                _log.exception("an event could not be sent")
            finally:
                self._queue.task_done()

    async def _deliver(self, event: Event) -> None:
        for pause in (*_PAUSES, None):
            problem, is_final = await self._attempt(event)
            if not problem:
                self._counters.captured(self.name)
                self._tell("")
                return
            if is_final or pause is None or self._is_down:  # one that is down is tried once for each event
                break
            await self._sleep(pause)
        self._counters.capture_dropped(self.name, "sink")
        self._tell(problem)

    async def _attempt(self, event: Event) -> tuple[str, bool]:
        """What went wrong, if anything, and whether it would do so again."""
        headers, body = event
        try:
            answer = await self._origin.ask("POST", self._path, headers, body, idempotent=False)
        except CannotAuthenticate as error:
            return str(error), False
        if answer.status < 300:
            return "", True
        return f"{self._origin.name} {answer.outcome}", answer.status < 500 and answer.status not in _LATER

    def _tell(self, problem: str) -> None:
        """Log when it begins to fail, and when it works again."""
        if problem and not self._is_down:
            _log.error("captured calls cannot be sent: %s; they are dropped until it takes them again", problem)
        elif self._is_down and not problem:
            _log.warning("captured calls are sent again")
        self._is_down = bool(problem)
