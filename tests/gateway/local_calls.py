"""Calls of the gateway's own services in memory: a responder that records, and messages in and out."""

from dataclasses import dataclass, field
from typing import Any

from inferbridge.bridge.framing import frame, unframe, unquote_message
from inferbridge.bridge.values import Buffer, Chunks, Headers, header
from inferbridge.gateway.application import RequestHead, RequestSink, Responder
from inferbridge.gateway.local.messages import message_class
from inferbridge.gateway.local.services import LocalServices

GRPC: Headers = (("content-type", "application/grpc"), ("te", "trailers"))


@dataclass
class Recorder(Responder):
    """Collects an answer; anything after its end is an error."""

    heads: list[tuple[int, Headers]] = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = ()
    ended: bool = False

    def head(self, status: int, headers: Headers) -> None:
        assert not self.ended
        assert not self.heads
        self.heads.append((status, headers))

    def data(self, data: Buffer) -> None:
        assert self.heads
        assert not self.ended
        self.body += bytes(data)

    def end(self, trailers: Headers = ()) -> None:
        assert self.heads
        assert not self.ended
        self.trailers, self.ended = trailers, True

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        self.head(status, headers)
        for chunk in chunks:
            self.data(chunk)
        self.end()

    def hold(self) -> None:
        """Nothing to hold."""

    def resume(self) -> None:
        """Nothing was held."""

    def abort(self) -> None:
        raise AssertionError("the answer was cut")

    def messages(self, name: str) -> list[Any]:
        """The messages so far."""
        return [message_class(name).FromString(bytes(chunk)) for (chunk,) in unframe(self.body, "identity", 1 << 20)]

    def status(self) -> tuple[int, str]:
        """Code and message of the answer, which must have ended."""
        assert self.ended
        fields = (*self.heads[0][1], *self.trailers)
        return int(header(fields, "grpc-status") or -1), unquote_message(header(fields, "grpc-message") or "")


@dataclass
class Calling:
    """One open call."""

    sink: RequestSink
    answer: Recorder

    def send(self, *messages: Any) -> None:
        """Send messages."""
        self.sink.on_data(b"".join(map(framed, messages)))


def framed(message: Any) -> bytes:
    """A message with its prefix."""
    return b"".join(map(bytes, frame([(message.SerializeToString(),)])))


def head_of(path: str, headers: Headers = GRPC, method: str = "POST") -> RequestHead:
    """The head of a call."""
    return RequestHead(method, path, "localhost", headers, "2")


def open_call(services: LocalServices, path: str, headers: Headers = GRPC) -> Calling:
    """Open a call that must be one of the gateway's own."""
    head, answer = head_of(path, headers), Recorder()
    opener = services.find(head)
    assert opener is not None
    return Calling(opener(head, answer), answer)


def unary(services: LocalServices, path: str, *messages: Any) -> Recorder:
    """The answer to a unary call."""
    call = open_call(services, path)
    call.send(*messages)
    call.sink.on_end()
    return call.answer
