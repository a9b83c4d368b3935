"""The clients of the tour: awaitable calls on the upstream pools."""

import asyncio
from dataclasses import dataclass
from urllib.parse import unquote

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers, header
from inferbridge.upstream.api import Pool, UpstreamRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; gRPC has its trailers."""

    status: int
    headers: Headers
    body: bytes
    trailers: Headers

    @property
    def grpc_status(self) -> int:
        """The gRPC code; an answer without trailers carries it in its headers."""
        return int(header(self.trailers or self.headers, "grpc-status") or 2)

    @property
    def grpc_message(self) -> str:
        """What a failed gRPC call says."""
        return unquote(header(self.trailers or self.headers, "grpc-message") or "")


class _Collector:
    """Gathers an answer; `done` is its future."""

    def __init__(self) -> None:
        self.done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: Headers = ()
        self._body = bytearray()

    def on_head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def on_data(self, data: Buffer) -> None:
        self._body += data

    def on_end(self, trailers: Headers) -> None:
        if not self.done.done():
            self.done.set_result(Answer(self._status, self._headers, bytes(self._body), trailers))

    def on_failure(self, error: BridgeError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def call(pool: Pool, request: UpstreamRequest, seconds: float) -> Answer:
    """The answer to one request; raises `BridgeError` when there is none within `seconds`."""
    collector = _Collector()
    pending = pool.send(request, collector, seconds)
    try:
        return await collector.done
    except asyncio.CancelledError:
        pending.cancel()
        raise
