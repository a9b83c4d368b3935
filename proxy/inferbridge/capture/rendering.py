"""Makes a line of a call that has ended: its messages decoded, redacted, and put in the form that is written."""

import base64
from dataclasses import dataclass
from typing import Any, Literal

from inferbridge.bridge.values import header
from inferbridge.capture.decoding import Content, Undecodable, Wire, content_of
from inferbridge.capture.lines import CapturedCall, CapturedLine, CapturedMessage, CapturedSide, Form, timestamp
from inferbridge.capture.redaction import Part, Redaction, scrubber
from inferbridge.capture.settings import CaptureSettings
from inferbridge.gateway.record import CallRecord, bounded
from inferbridge.gateway.records.recording import grpc_status
from inferbridge.gateway.transcript import Leg, Message, Transcript
from inferbridge.inspect.reassembly import Reassembly

type Reason = Literal["sample", "error", "demand"]


@dataclass(slots=True)
class _Read:
    """A message, decoded."""

    message: Message
    content: Content
    part: Part


@dataclass(slots=True)
class _Exchange:
    """Request and answer of one side."""

    request: _Read
    reply: _Read


class Renderer:
    """Renders calls by one configuration; holds no state, so threads may share it."""

    def __init__(self, settings: CaptureSettings) -> None:
        self._redaction = Redaction(settings.fields)
        self._messages = settings.messages

    def line(self, record: CallRecord, transcript: Transcript, reason: Reason) -> CapturedLine:
        """The line of a call; its transcript grows no more."""
        client = _exchange(transcript.asked, transcript.told, record.api, "", transcript.asked.target)
        legs = [(leg, _asked(leg)) for leg in list(transcript.legs)]
        hidden: list[str] = []
        if self._redaction.is_set:
            sides = [one for _, one in legs]
            self._redaction.redact(client.request.part, [one.request.part for one in sides], hidden)
            self._redaction.redact(client.reply.part, [one.reply.part for one in sides], hidden)
        scrub = scrubber(hidden)
        return CapturedLine(
            ts=timestamp(record.began_at),
            event="capture",
            request_id=record.request_id,
            reason=reason,
            api=record.api or None,
            operation=record.operation or None,
            model=scrub(record.model) or None,
            direction=record.direction,
            runtime=record.runtime or None,
            upstream=record.upstream or None,
            status=record.status,
            grpc_status=record.grpc_status,
            flags=record.flags,
            losses=scrub(bounded(record.losses)) or None,
            error=scrub(record.error) or None,
            duration_ms=int(record.duration * 1e6) / 1000,
            client=CapturedSide(self._captured(client.request, scrub), self._captured(client.reply, scrub)),
            calls=[self._call(leg, one, scrub) for leg, one in legs],
        )

    def _call(self, leg: Leg, one: _Exchange, scrub: Any) -> CapturedCall:
        runtime = leg.runtime
        return CapturedCall(
            runtime.upstream,
            runtime.name,
            runtime.api,
            runtime.protocol,  # type: ignore[arg-type]  # it is one of the two
            grpc_status((*leg.told.trailers, *leg.told.headers)),
            self._captured(one.request, scrub),
            self._captured(one.reply, scrub),
            scrub(bounded(leg.error)) or None,
        )

    def _captured(self, read: _Read, scrub: Any) -> CapturedMessage:
        message, content = read.message, read.content
        form, value, note = self._value(read)
        kind = header(message.headers, "content-type")
        notes = "; ".join(filter(None, (content.note, note)))
        return CapturedMessage(
            message.status or None,
            bounded(kind) if kind else None,
            message.size,
            message.is_cut,
            form,
            scrub(value),
            scrub(bounded(notes)) or None,
        )

    def _value(self, read: _Read) -> tuple[Form, Any, str]:
        if not read.message.size:
            return "none", None, ""
        if read.part.kept_out:
            return "withheld", None, read.part.kept_out
        if read.part.unreadable:
            if self._redaction.is_set:
                return "withheld", None, f"fields cannot be hidden one by one: {read.part.unreadable}"
            return *_raw(read.message), read.part.unreadable
        if read.content.is_stream:
            return "stream", self._together(read.part.values), ""
        return "json", read.part.values[0] if read.part.values else None, ""

    def _together(self, values: list[Any]) -> dict[str, Any]:
        """A stream: how many messages, what they make together, and each of them where that is not known."""
        reassembly = Reassembly()
        for value in values:
            reassembly.add(value)
        found = reassembly.value()
        each = {"each": values} if self._messages or not found else {}
        return {"messages": len(values), **found, **each}


def _exchange(asked: Message, told: Message, api: str, variant: str, target: str) -> _Exchange:
    path = target.partition("?")[0]
    return _Exchange(*(_read(one, Wire(api, variant, path, one is told)) for one in (asked, told)))


def _asked(leg: Leg) -> _Exchange:
    return _exchange(leg.asked, leg.told, leg.runtime.api, leg.runtime.variant, leg.asked.target)


def _read(message: Message, wire: Wire) -> _Read:
    try:
        content, unreadable = content_of(message, wire), ""
    except Undecodable as error:
        content, unreadable = Content([]), str(error)
    return _Read(message, content, Part(wire.api, content.values, unreadable))


def _raw(message: Message) -> tuple[Form, str]:
    try:
        return "text", message.body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(message.body).decode()
