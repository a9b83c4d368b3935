"""One call of a mocked runtime in which client and runtime take turns: each request is answered as it comes."""

import asyncio
import logging

from inferbridge.bridge.context import Context
from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.framing import GRPC_HEADERS, frame, status_trailers
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.registry import GrpcHalf
from inferbridge.bridge.values import Buffer, GrpcRequest, Headers, header
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.gateway.limits import Limits
from inferbridge.mock.exchange import Observer, Part, Seen, frames, received

log = logging.getLogger(__name__)


class Duplex:
    """`RequestSink` of one call; `part` has been cast, its `seen` is that of the first request."""

    def __init__(self, head: RequestHead, responder: Responder, limits: Limits, part: Part, observer: Observer) -> None:
        self._head = head
        self._responder = responder
        self._part = part
        self._observer = observer
        self._reader = MessageReader(limits.message_bytes, header(head.headers, "grpc-encoding") or "identity")
        self._requests: asyncio.Queue[Buffer | BridgeError | None] = asyncio.Queue()
        self._sent = 0
        self._task = asyncio.get_running_loop().create_task(self._perform())

    def on_data(self, data: Buffer) -> None:
        """Some of the requests."""
        try:
            for message in self._reader.feed(data):
                self._requests.put_nowait(message)
        except BridgeError as error:
            self._requests.put_nowait(error)

    def on_end(self) -> None:
        """There are no more."""
        self._requests.put_nowait(None)

    def on_cancel(self) -> None:
        """The client went away."""
        self._task.cancel()

    async def _perform(self) -> None:
        end: Headers = (("grpc-status", "0"),)
        self._responder.head(200, GRPC_HEADERS)
        try:
            while (request := await self._requests.get()) is not None:
                if isinstance(request, BridgeError):
                    raise request
                await self._answer(GrpcRequest(self._head.target, self._head.headers, ((request,),)))
        except BridgeError as error:
            end = _status(error)
        except Exception:
            log.exception("the mock failed")
            end = _status(BridgeError(Code.INTERNAL, "the mock failed"))
        self._responder.end(end)

    async def _answer(self, call: GrpcRequest) -> None:
        """The messages for one request; an error is a message where the API tells errors so."""
        part = Part(self._part.bridge, self._part.script, Seen(self._part.seen.match, call))
        self._observer(part.seen)
        half = part.bridge.client.half
        assert isinstance(half, GrpcHalf)
        asked = None
        try:
            crossing = received(part.bridge, call)
            asked = crossing.request
            for piece in frames(part, crossing, part.bridge.sink(crossing)):
                await asyncio.sleep(part.script.delay)
                if part.script.error is not None and self._sent >= part.script.error.after:
                    raise part.script.error.error
                self._send(piece, part)
        except BridgeError as error:
            if half.encode_error is None:
                raise
            context = Context(part.bridge.profile, part.bridge.policy, setting=part.bridge.setting)
            self._send(b"".join(frame([half.encode_error(error, asked, context)])), part)

    def _send(self, piece: bytes, part: Part) -> None:
        self._sent += 1
        part.seen.said.append(piece)
        self._responder.data(piece)


def _status(error: BridgeError) -> Headers:
    return status_trailers(error)
