"""Calls of mocked runtimes in memory, without sockets."""

import asyncio
from dataclasses import dataclass, field

from inferbridge.bridge.framing import GRPC_HEADERS, frame, unframe
from inferbridge.bridge.grpc import outcome
from inferbridge.bridge.values import Buffer, Chunks, GrpcReply, GrpcRequest, Headers, HttpReply, HttpRequest
from inferbridge.gateway.application import RequestHead, Responder
from inferbridge.mock.runtime import NO_SCENARIO, MockRuntime
from inferbridge.mock.script import Scenario
from inferbridge_generated.runtimes import PROFILES

MOST = 1 << 20


@dataclass
class Heard(Responder):
    """A `Responder` that keeps what it is told."""

    over: asyncio.Event = field(default_factory=asyncio.Event)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with every piece."""
    status: int = 0
    headers: Headers = ()
    pieces: list[bytes] = field(default_factory=list)
    trailers: Headers = ()

    def head(self, status: int, headers: Headers) -> None:
        """Status and headers."""
        self.status, self.headers = status, headers

    def data(self, data: Buffer) -> None:
        """A piece of the body."""
        self.pieces.append(bytes(data))
        self.more.set()

    def end(self, trailers: Headers = ()) -> None:
        """The end."""
        self.trailers = trailers
        self.over.set()

    def whole(self, status: int, headers: Headers, chunks: Chunks) -> None:
        """All at once."""
        self.head(status, headers)
        self.pieces = [bytes(chunk) for chunk in chunks]
        self.end()

    def hold(self) -> None:
        """The request is complete."""

    def resume(self) -> None:
        """As `hold`."""

    def abort(self) -> None:
        """Cut off."""
        self.over.set()

    @property
    def body(self) -> bytes:
        """All pieces."""
        return b"".join(self.pieces)

    @property
    def messages(self) -> list[bytes]:
        """Of a gRPC answer."""
        return [b"".join(chunks) for chunks in unframe(self.body, "identity", MOST)]

    @property
    def code(self) -> int:
        """Of a gRPC answer."""
        return outcome(self.status, self.headers, self.trailers)[0]

    def reply(self, protocol: str) -> HttpReply | GrpcReply:
        """As a value."""
        if protocol == "rest":
            return HttpReply(self.status, self.headers, tuple(self.pieces))
        code, details = outcome(self.status, self.headers, self.trailers)
        return GrpcReply(code, details, messages=tuple((message,) for message in self.messages))


def runtime(name: str, protocol: str, scenario: Scenario = NO_SCENARIO, api: str = "") -> MockRuntime:
    """A mock of some APIs of a runtime; all that have a port for the protocol unless one is named."""
    profiles = [each for each in PROFILES[name] if (each.api == api if api else protocol in each.ports)]
    return MockRuntime(profiles, protocol, scenario)


def begin(mock: MockRuntime, call: HttpRequest | GrpcRequest) -> tuple[Heard, "asyncio.Future[bool]"]:
    """Send a call."""
    if isinstance(call, HttpRequest):
        head, body = RequestHead(call.method, call.path, "", call.headers, "1.1"), list(call.chunks)
    else:
        head = RequestHead("POST", call.rpc, "", (*GRPC_HEADERS, *call.metadata), "2")
        body = frame(call.messages)
    heard = Heard()
    sink = mock.open(head, heard)
    for chunk in body:
        sink.on_data(chunk)
    sink.on_end()
    return heard, asyncio.ensure_future(heard.over.wait())


async def ask(mock: MockRuntime, call: HttpRequest | GrpcRequest) -> Heard:
    """The answer to a call."""
    heard, over = begin(mock, call)
    async with asyncio.timeout(5):
        await over
    return heard
