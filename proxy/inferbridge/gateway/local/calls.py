"""Calls that the gateway answers itself: messages in, messages out, an error instead where something is wrong."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

from inferbridge.bridge.errors import BridgeError, Code, invalid
from inferbridge.bridge.framing import GRPC_HEADERS, frame, parse_timeout, status_trailers
from inferbridge.bridge.grpc_messages import MessageReader
from inferbridge.bridge.values import Buffer, Chunks, GrpcReply, header
from inferbridge.gateway.answering import answer_grpc
from inferbridge.gateway.application import RequestHead, Responder

MESSAGE_BYTES = 64 * 1024
"""Limit of one request message; all of these services' are a few names."""


class Call(ABC):
    """`RequestSink` of one call: hands over each message as it arrives, and ends the call once."""

    def __init__(self, head: RequestHead, responder: Responder) -> None:
        self._head = head
        self._responder = responder
        self._reader = MessageReader(MESSAGE_BYTES, header(head.headers, "grpc-encoding") or "identity")
        self._deadline: asyncio.TimerHandle | None = None
        self.done = False
        """Nothing more is to be said."""

    def begun(self) -> Self:
        """The call itself, its deadline set. A deadline that cannot be read ends it."""
        self._responder.unhurried()
        try:
            self._set_deadline(header(self._head.headers, "grpc-timeout"))
        except BridgeError as error:
            self.fail(error)
        return self

    def _set_deadline(self, text: str | None) -> None:
        if text is not None:
            seconds, error = parse_timeout(text), BridgeError(Code.DEADLINE_EXCEEDED, "the call took too long")
            self._deadline = asyncio.get_running_loop().call_later(seconds, self.fail, error)

    def on_data(self, data: Buffer) -> None:
        """A piece of the client's body."""
        if self.done:
            return
        try:
            for message in self._reader.feed(data):
                if not self.done:
                    self.take(message)
        except BridgeError as error:
            self.fail(error)

    def on_end(self) -> None:
        """The client sends no more."""
        if self.done:
            return
        try:
            self._reader.finish()
            self.complete()
        except BridgeError as error:
            self.fail(error)

    def on_cancel(self) -> None:
        """The client went away."""
        self.finish()

    @abstractmethod
    def take(self, message: Buffer) -> None:
        """One message of the client; what it raises as `BridgeError` ends the call."""

    @abstractmethod
    def complete(self) -> None:
        """All messages of the client have been taken."""

    def fail(self, error: BridgeError) -> None:
        """End the call with an error."""
        if not self.done:
            self.finish()
            if self._responder.record is not None:
                self._responder.record.failed(error, "UT" if error.code is Code.DEADLINE_EXCEEDED else None)
            self.send_error(error)

    def finish(self) -> None:
        """The call is over: let go of what would outlive it."""
        self.done = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def send_error(self, error: BridgeError) -> None:
        """The error as an answer of its own."""
        answer_grpc(GrpcReply(int(error.code), error.message), self._responder)


class UnaryCall(Call):
    """One message in, one out."""

    def __init__(
        self,
        head: RequestHead,
        responder: Responder,
        answer: Callable[[Buffer], bytes],
        prepare: Callable[[Buffer, Callable[[], None]], None] | None = None,
    ) -> None:
        """`prepare` finds out what the answer to a message depends on, and then calls what it is given."""
        super().__init__(head, responder)
        self._answer = answer
        self._prepare = prepare
        self._request: Buffer | None = None

    def take(self, message: Buffer) -> None:
        """The request."""
        if self._request is not None:
            raise invalid(f"{self._head.target} takes one message, got more")
        self._request = message

    def complete(self) -> None:
        """Answer."""
        if self._request is None:
            raise invalid(f"{self._head.target} takes one message, got none")
        if self._prepare is None:
            self._reply()
        else:
            self._prepare(self._request, self._reply)

    def _reply(self) -> None:
        if self.done or self._request is None:
            return
        try:
            reply = self._answer(self._request)
        except BridgeError as error:
            self.fail(error)
        else:
            self.finish()
            answer_grpc(GrpcReply(messages=((reply,),)), self._responder)


class StreamCall(Call):
    """Any number of messages out, whenever there is something to say."""

    def __init__(self, head: RequestHead, responder: Responder) -> None:
        super().__init__(head, responder)
        self._has_begun = False

    def send(self, message: Chunks) -> None:
        """Send one message. Its last chunk is never copied, so that answers which wait can share it."""
        if self.done:
            return
        if not self._has_begun:
            self._has_begun = True
            self._responder.head(200, GRPC_HEADERS)
        *first, last = frame((message,))
        if first:
            self._responder.data(b"".join(first))
        self._responder.data(last)

    def end(self) -> None:
        """End the call well."""
        self.finish()
        if not self._has_begun:
            self._responder.head(200, GRPC_HEADERS)
        self._responder.end((("grpc-status", "0"),))

    def send_error(self, error: BridgeError) -> None:
        """The error, in the trailers when messages have gone before."""
        if not self._has_begun:
            super().send_error(error)
            return
        self._responder.end(status_trailers(error))
