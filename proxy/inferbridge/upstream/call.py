"""One call in flight, whatever the protocol: the guard between a connection and a receiver.

A call is *open* until exactly one of these happens, then *finished* for good:

    answered in full      -> receiver.on_end
    failed                -> receiver.on_failure
    cancelled             -> silence
    its receiver raised   -> silence; the call is cancelled and the exception logged

Whatever a connection reports after that is dropped here, so neither side needs to ask about the other.
"""

import asyncio
import logging
from abc import ABC, abstractmethod

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Buffer, Chunks, Headers
from inferbridge.secret import path_of
from inferbridge.upstream.api import Receiver, UpstreamRequest

logger = logging.getLogger("inferbridge.upstream")


def octets(chunks: Chunks) -> Chunks:
    """The chunks with every view as bytes, because `len` of a view of wider items would frame the body wrongly."""
    for chunk in chunks:
        if type(chunk) is memoryview and chunk.format != "B":
            return [chunk.cast("B") if isinstance(chunk, memoryview) else chunk for chunk in chunks]
    return chunks


class ActiveCall(ABC):
    """A call from `Pool.send` until it is finished."""

    __slots__ = (
        "answered",
        "attempts",
        "budget",
        "chunks",
        "finished",
        "limit",
        "paused",
        "receiver",
        "request",
        "timer",
        "upstream",
        "watched",
    )

    def __init__(self, request: UpstreamRequest, receiver: Receiver, upstream: str, reply_limit: int) -> None:
        self.request = request
        self.chunks = octets(request.chunks)
        self.receiver = receiver
        self.upstream = upstream
        """The upstream's URL, for messages."""
        self.limit = self.budget = reply_limit
        self.timer: asyncio.TimerHandle | None = None
        self.watched: dict[ActiveCall, float] | None = None
        """Where `Deadlines` keeps it."""
        self.finished = False
        self.paused = False
        """The receiver wants no more for now."""
        self.answered = False
        """Some of the answer has arrived, so the call cannot be sent again."""
        self.attempts = 0
        """How often it was sent."""

    @abstractmethod
    def abandon(self) -> None:
        """Release the connection or the place in the queue; the answer is no longer wanted."""

    def on_head(self, status: int, headers: Headers) -> None:
        """Pass the head of the answer on."""
        self.answered = True
        if self.finished:
            return
        try:
            self.receiver.on_head(status, headers)
        except Exception as error:
            self._receiver_failed(error)

    def on_data(self, data: Buffer) -> None:
        """Pass a piece of the body on, unless the answer has become too large."""
        if self.finished:
            return
        self.budget -= len(data)
        if self.budget < 0:
            message = f"reply from {self.upstream} exceeds {self.limit} bytes"
            self.abort(BridgeError(Code.RESOURCE_EXHAUSTED, message, status=500))  # 429 blames the client
            return
        try:
            self.receiver.on_data(data)
        except Exception as error:
            self._receiver_failed(error)

    def on_end(self, trailers: Headers) -> None:
        """The answer is complete."""
        if self.finished:
            return
        self._finish()
        try:
            self.receiver.on_end(trailers)
        except Exception:
            logger.exception("receiver failed at the end of a call to %s%s", self.upstream, path_of(self.request.path))

    def fail(self, error: BridgeError) -> None:
        """The call is lost; its connection knows already."""
        if self.finished:
            return
        self._finish()
        try:
            self.receiver.on_failure(error)
        except Exception:
            logger.exception(
                "receiver failed on the failure of a call to %s%s", self.upstream, path_of(self.request.path)
            )

    def abort(self, error: BridgeError) -> None:
        """Give the call up and say why."""
        if not self.finished:
            self.abandon()
            self.fail(error)

    def cancel(self) -> None:
        """Give the call up in silence."""
        if not self.finished:
            self._finish()
            self.abandon()

    def throttle(self, paused: bool) -> None:
        """Read no more of the answer for now, or go on."""
        if paused != self.paused and not self.finished:
            self.paused = paused
            self.paused_changed()

    def paused_changed(self) -> None:
        """Do what `paused` says, if there is a connection already."""
        return  # one that begins later asks for itself

    def expire(self, seconds: float) -> None:
        """The time for the call is over."""
        self.abort(BridgeError(Code.DEADLINE_EXCEEDED, f"no complete answer from {self.upstream} within {seconds:g} s"))

    def _finish(self) -> None:
        self.finished = True
        if self.watched is not None:
            self.watched.pop(self, None)
        elif self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _receiver_failed(self, error: Exception) -> None:
        logger.error("receiver failed in a call to %s%s", self.upstream, path_of(self.request.path), exc_info=error)
        self.cancel()
