"""A mocked runtime that keeps what reaches it, and can be made to stop in the middle of a stream."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.mock.runtime import MockRuntime


@dataclass
class Call:
    """A call as the runtime got it."""

    head: RequestHead
    body: bytearray = field(default_factory=bytearray)

    def shows(self, secret: str) -> bool:
        """Whether a text stands anywhere in it."""
        return secret in repr((self.head.target, self.head.headers)) or secret.encode() in self.body

    def get(self, name: str) -> str | None:
        """A header."""
        return header(self.head.headers, name)


@dataclass
class Recorder:
    """The application of a runtime: keeps what reaches it; with `gate`, a stream stops after its second message."""

    runtime: MockRuntime
    calls: list[Call] = field(default_factory=list)
    gate: asyncio.Event | None = None

    def open(self, head: RequestHead, responder: Responder) -> RequestSink:
        """A call begins; whether the runtime is ready is no call of a client's."""
        call = Call(head)
        if head.method == "POST" and "/grpc.health." not in head.target:
            self.calls.append(call)
        gated = responder if self.gate is None else Gated(responder, self.gate)
        return _Copying(self.runtime.open(head, gated), call)

    def refuse(self, error: Any, head: RequestHead | None, responder: Responder) -> None:
        """As the runtime does."""
        self.runtime.refuse(error, head, responder)


@dataclass
class _Copying:
    inner: RequestSink
    call: Call

    def on_data(self, data: Buffer) -> None:
        self.call.body += data
        self.inner.on_data(data)

    def on_end(self) -> None:
        self.inner.on_end()

    def on_cancel(self) -> None:
        self.inner.on_cancel()


class Gated:
    """A responder that lets the head and two messages through, and the rest when the gate opens."""

    def __init__(self, responder: Responder, gate: asyncio.Event) -> None:
        self._responder = responder
        self._gate = gate
        self._later: list[Callable[[], None]] = []
        self._passed = 0
        self._task = asyncio.ensure_future(self._open())
        self.head, self.hold, self.resume, self.abort = (
            responder.head,
            responder.hold,
            responder.resume,
            responder.abort,
        )

    async def _open(self) -> None:
        await self._gate.wait()
        for said in self._later:
            said()

    def data(self, data: Buffer) -> None:
        """A message."""
        self._passed += 1
        if self._passed > 2 and not self._task.done():
            self._later.append(lambda: self._responder.data(data))
        else:
            self._responder.data(data)

    def end(self, trailers: Headers = ()) -> None:
        """The end, in its turn."""
        if self._task.done():
            self._responder.end(trailers)
        else:
            self._later.append(lambda: self._responder.end(trailers))

    def whole(self, status: int, headers: Headers, chunks: Any) -> None:
        """No stream."""
        self._task.cancel()
        self._responder.whole(status, headers, chunks)
