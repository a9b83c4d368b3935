"""One call of a mocked runtime: collects the request, then performs what its script says, a message at a time."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from inferbridge.bridge.accept import rest_stream_form
from inferbridge.bridge.bridge import Bridge, Crossing
from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import unframe
from inferbridge.bridge.routes import Match
from inferbridge.bridge.streams import Sink
from inferbridge.bridge.values import Buffer, GrpcReply, GrpcRequest, HttpReply, HttpRequest, header, join
from inferbridge.gateway.answering import answer, is_grpc
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.limits import Limits
from inferbridge.mock import fixed
from inferbridge.mock.answers import messages_to, reply_to
from inferbridge.mock.script import Script

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Seen:
    """A call as the runtime saw it, and what it said."""

    match: Match
    call: HttpRequest | GrpcRequest
    said: list[HttpReply | GrpcReply | bytes] = field(default_factory=list)
    """The whole answer, or the framed messages of a stream."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the runtime plays in a call."""

    bridge: Bridge
    """Its client side speaks the endpoint."""
    script: Script
    seen: Seen


type Cast = Callable[[RequestHead], tuple[Match, Bridge, Script]]
"""Finds what to play; raises `BridgeError`."""
type Refuse = Callable[[BridgeError, RequestHead, Responder], None]
type Observer = Callable[[Seen], None]
"""Told of each call that could be routed, before its answer."""


class Exchange:
    """`RequestSink` of one call."""

    def __init__(
        self, head: RequestHead, responder: Responder, limits: Limits, cast: Cast, refuse: Refuse, observer: Observer
    ) -> None:
        self._head = head
        self._responder = responder
        self._limits = limits
        self._cast = cast
        self._refuse = refuse
        self._observer = observer
        self._chunks: list[Buffer] = []
        self._size = 0
        self._task: asyncio.Task[None] | None = None

    def on_data(self, data: Buffer) -> None:
        """A piece of the request."""
        self._size += len(data)
        if self._size <= self._limits.body_bytes:
            self._chunks.append(data)

    def on_end(self) -> None:
        """The request is complete."""
        self._task = asyncio.get_running_loop().create_task(self._perform())

    def on_cancel(self) -> None:
        """The client went away."""
        if self._task is not None:
            self._task.cancel()

    async def _perform(self) -> None:
        try:
            if self._size > self._limits.body_bytes:
                raise BridgeError(Code.RESOURCE_EXHAUSTED, "the request is too large", status=413)
            match, bridge, script = self._cast(self._head)
            part = Part(bridge, script, Seen(match, self._call(match)))
        except BridgeError as error:
            self._refuse(error, self._head, self._responder)
            return
        self._observer(part.seen)
        try:
            await self._answer(part)
        except BridgeError as error:
            self._whole(bridge.error(error), part)
        except Exception:
            log.exception("the mock failed")
            self._whole(bridge.error(BridgeError(Code.INTERNAL, "the mock failed")), part)

    def _call(self, match: Match) -> HttpRequest | GrpcRequest:
        head = self._head
        if not is_grpc(head):
            return HttpRequest(head.method, head.target, head.headers, self._chunks, match.variables)
        encoding = header(head.headers, "grpc-encoding") or "identity"
        body = join(self._chunks) if self._chunks else b""
        return GrpcRequest(head.target, head.headers, unframe(body, encoding, self._limits.message_bytes))

    async def _answer(self, part: Part) -> None:
        crossing = received(part.bridge, part.seen.call)
        script, failure = part.script, part.script.error
        await asyncio.sleep(script.delay)
        if failure is not None and not failure.after:
            raise failure.error
        if crossing.context.stream:
            await self._stream(part, crossing)
        elif script.answer is not None:
            self._whole(fixed.whole(part.bridge.client, part.bridge.profile.variant, script.answer), part)
        else:
            reply = reply_to(part.bridge.client.endpoint.operation, crossing.request, crossing.context.operations)
            self._whole(part.bridge.write_reply(crossing, [reply]), part)

    def _whole(self, reply: HttpReply | GrpcReply, part: Part) -> None:
        part.seen.said.append(reply)
        answer(reply, self._responder)

    async def _stream(self, part: Part, crossing: Crossing) -> None:
        """The messages, each after a pause; the first has had its own."""
        sink = part.bridge.sink(crossing, rest_stream_form(header(self._head.headers, "accept") or ""))
        pieces, failure = list(frames(part, crossing, sink)), part.script.error
        self._responder.head(sink.status, sink.headers)
        for number, frame in enumerate(pieces if failure is None else pieces[: failure.after]):
            if number:
                await asyncio.sleep(part.script.delay)
            part.seen.said.append(frame)
            self._responder.data(frame)
        last, trailers = sink.end() if failure is None else sink.fail(failure.error)
        for chunk in last:
            part.seen.said.append(bytes(chunk))
            self._responder.data(chunk)
        self._responder.end(trailers)


def received(bridge: Bridge, call: HttpRequest | GrpcRequest) -> Crossing:
    """The call as the API means it; it crosses to nobody."""
    end, context = bridge.client, Context(bridge.profile, bridge.policy, setting=bridge.setting)
    request = end.half.decode_request(call, context)  # type: ignore[arg-type]  # the half fits the call's protocol
    if end.rule is not None:
        end.rule.received_request(request, context)
    mode = end.endpoint.mode
    context.stream = mode == "stream" or (mode == "either" and bool(request.stream))
    return Crossing(request, context, end, ())


def frames(part: Part, crossing: Crossing, sink: Sink) -> Iterator[bytes]:
    """The framed messages of the whole stream."""
    bridge, answer = part.bridge, part.script.answer
    if answer is not None:
        yield from fixed.streamed(bridge.client, bridge.profile.variant, answer)
        return
    crossing.context.replying = True
    writer = bridge.writer(crossing)
    for message in messages_to(bridge.client.endpoint.operation, crossing.request, crossing.context.operations):
        for written in (message,) if writer is None else writer.write(message):
            yield b"".join(sink.write((written,)))
    for written in () if writer is None else writer.finish():
        yield b"".join(sink.write((written,)))
