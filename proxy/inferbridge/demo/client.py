"""The client of the tour: one call at a time on the upstream pools, its answer message by message."""

import asyncio
from dataclasses import dataclass, field

from inferbridge.bridge.values import Headers
from inferbridge.calling.asking import Spoken
from inferbridge.calling.reading import Ears, GrpcAnswer, Message, Outcome, RestAnswer
from inferbridge.protos import methods
from inferbridge.upstream.api import Pool, Receiver, UpstreamRequest


@dataclass(slots=True)
class Got:
    """What came back; messages are JSON, with the bytes of a binary body behind it."""

    status: int = 0
    headers: Headers = ()
    messages: list[bytes] = field(default_factory=list)
    outcome: Outcome | None = None


async def call(pool: Pool, ask: Spoken, request: UpstreamRequest, seconds: float) -> Got:
    """The answer to one request, whatever it is; there is always one within `seconds`."""
    got, over = Got(), asyncio.Event()

    def head(status: int, headers: Headers) -> None:
        got.status, got.headers = status, headers

    def message(message: Message) -> None:
        got.messages.append(message.text)

    def end(outcome: Outcome) -> None:
        got.outcome = outcome
        over.set()

    ears = Ears(head, message, end)
    grpc = ask.protocol == "grpc"
    receiver: Receiver = GrpcAnswer(ears, methods(ask.api.name), request.path) if grpc else RestAnswer(ears)
    pending = pool.send(request, receiver, seconds)
    try:
        await over.wait()
    except asyncio.CancelledError:
        pending.cancel()
        raise
    return got
