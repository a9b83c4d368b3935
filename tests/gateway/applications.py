"""Toy applications for the tests of the gateway."""

import asyncio
from dataclasses import dataclass, field

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer
from inferbridge.gateway.application import RequestHead, RequestSink, Responder


def text_refusal(error: BridgeError, responder: Responder) -> None:
    """Status and message as plain text."""
    responder.head(error.status or 500, (("content-type", "text/plain"),))
    responder.data(error.message.encode())
    responder.end()


@dataclass
class EchoSink:
    """Answers with the body it got."""

    head: RequestHead
    responder: Responder
    body: list[Buffer] = field(default_factory=list)
    cancelled: bool = False

    def on_data(self, data: Buffer) -> None:
        self.body.append(data)

    def on_end(self) -> None:
        self.responder.head(200, (("content-type", "text/plain"), ("x-version", self.head.version)))
        self.responder.data(b"".join(self.body) or self.head.target.encode())
        self.responder.end()

    def on_cancel(self) -> None:
        self.cancelled = True


class Echo:
    """Echoes every body, or the target where there is none."""

    def __init__(self) -> None:
        self.sinks: list[EchoSink] = []
        self.refused: list[BridgeError] = []

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        sink = self.sink(head, responder)
        self.sinks.append(sink)
        return sink

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        """The sink for one call."""
        return EchoSink(head, responder)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        self.refused.append(error)
        text_refusal(error, responder)


class LateSink(EchoSink):
    """Answers in three pieces, each on another turn of the event loop."""

    def on_end(self) -> None:
        asyncio.get_running_loop().call_soon(self._head)

    def _head(self) -> None:
        self.responder.head(200, (("x-version", self.head.version),))
        asyncio.get_running_loop().call_soon(self._data)

    def _data(self) -> None:
        self.responder.data(b"".join(self.body) or self.head.target.encode())
        asyncio.get_running_loop().call_soon(self.responder.end)


class Late(Echo):
    """Like Echo, but the answers come from the event loop."""

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        return LateSink(head, responder)


class SilentSink(EchoSink):
    """Never answers by itself."""

    def on_end(self) -> None:
        pass


class Silent(Echo):
    """Leaves answering to the test."""

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        return SilentSink(head, responder)


class Boom(Exception):
    """What the failing applications raise."""


class FailingSink(EchoSink):
    """Raises at the stage its target names, and echoes otherwise."""

    def on_data(self, data: Buffer) -> None:
        if self.head.target == "/on_data":
            raise Boom("on_data")
        super().on_data(data)

    def on_end(self) -> None:
        match self.head.target:
            case "/on_end":
                raise Boom("on_end")
            case "/after_head":
                self.responder.head(200, ())
                self.responder.data(b"part")
                raise Boom("after_head")
            case "/bad_header":
                self.responder.head(200, (("x", "a\r\nb: c"),))
            case _:
                super().on_end()

    def on_cancel(self) -> None:
        super().on_cancel()
        raise Boom("on_cancel")


class Failing(Echo):
    """Raises at the stage the target names; with `refuse`, when refusing too."""

    def __init__(self, *, refuse: bool = False) -> None:
        super().__init__()
        self.fails_to_refuse = refuse

    def sink(self, head: RequestHead, responder: Responder) -> EchoSink:
        if head.target == "/open":
            raise Boom("open")
        return FailingSink(head, responder)

    def refuse(self, error: BridgeError, head: RequestHead | None, responder: Responder) -> None:
        if self.fails_to_refuse:
            raise Boom("refuse")
        super().refuse(error, head, responder)
