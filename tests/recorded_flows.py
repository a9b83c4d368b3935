"""Files of flows as a gateway's capture writes them, and as mitmproxy does of any traffic."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy import http
from mitmproxy.flow import Flow
from mitmproxy.io import FlowWriter
from mitmproxy.test import tflow

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.framing import GRPC_HEADERS, frame
from inferbridge.bridge.values import Buffer, Headers, join
from inferbridge.gateway.limits import Limits
from inferbridge.inspect.views import FLOW_KEY
from inferbridge.protos import methods
from inferbridge.recorded.exchanges import Exchange, exchange_of
from inferbridge.upstream.address import parse_address
from inferbridge.upstream.api import UpstreamRequest
from inferbridge.upstream.pool import open_pool

JSON: Headers = (("content-type", "application/json"),)
GRPC: Headers = (*GRPC_HEADERS, ("te", "trailers"))
OK: Headers = (("grpc-status", "0"),)


def flow_of(
    method: str = "POST",
    target: str = "/v1/completions",
    body: bytes = b"",
    headers: Headers = JSON,
    *,
    url: str = "http://127.0.0.1:8080",
    status: int = 200,
    reply: bytes = b"",
    reply_headers: Headers = JSON,
    trailers: Headers = (),
    metadata: Mapping[str, Any] | None = None,
    version: str = "HTTP/1.1",
) -> http.HTTPFlow:
    """One call, answered one second after it began, complete after three."""
    address = parse_address(url)
    flow = tflow.tflow(resp=True)
    flow.request = http.Request(
        address.host, address.port, method.encode(), b"https" if address.tls else b"http", b"", _octets(target),
        version.encode(), _fields(headers), body, None, 1000.0, 1000.5,
    )  # fmt: skip
    flow.response = http.Response(
        version.encode(), status, b"", _fields(reply_headers), reply, _fields(trailers) if trailers else None,
        1001.0, 1003.0,
    )  # fmt: skip
    if metadata is not None:
        flow.metadata[FLOW_KEY] = dict(metadata)
    return flow


def _fields(headers: Headers) -> http.Headers:
    return http.Headers([(_octets(name), _octets(value)) for name, value in headers])


def _octets(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def grpc_flow(rpc: str, api: str, message: str, reply: str = "{}", **more: Any) -> http.HTTPFlow:
    """A unary gRPC call; messages as JSON."""
    known = methods(api)
    sent = b"".join(frame([(known.request_from_json(rpc, message.encode()),)]))
    answer = b"".join(frame([(known.reply_from_json(rpc, reply.encode()),)]))
    fields: Mapping[str, Any] = {
        "headers": GRPC, "reply_headers": GRPC_HEADERS, "trailers": OK, "version": "HTTP/2.0", **more,
    }  # fmt: skip
    return flow_of("POST", rpc, sent, reply=answer, **fields)


def written(path: Path, flows: Iterable[Flow]) -> Path:
    """The flows in a file."""
    with path.open("wb") as file:
        writer = FlowWriter(file)
        for flow in flows:
            writer.add(flow)
    return path


def exchange(flow: http.HTTPFlow) -> Exchange:
    """What is read of a flow that was saved."""
    return exchange_of(http.HTTPFlow.from_state(flow.get_state()))


@dataclass(slots=True)
class Answer:
    """What a call was answered."""

    done: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 0
    headers: Headers = ()
    body: bytearray = field(default_factory=bytearray)
    trailers: Headers = ()
    error: BridgeError | None = None

    def on_head(self, status: int, headers: Headers) -> None:
        self.status, self.headers = status, headers

    def on_data(self, data: Buffer) -> None:
        self.body += data

    def on_end(self, trailers: Headers) -> None:
        self.trailers = trailers
        self.done.set()

    def on_failure(self, error: BridgeError) -> None:
        self.error = error
        self.done.set()


async def recorded(url: str, method: str, target: str, body: bytes, headers: Headers = JSON) -> http.HTTPFlow:
    """A call that is really made, and the flow of it."""
    answer = Answer()
    pool = open_pool(url, limits=Limits())
    try:
        sent = tuple(pair for pair in headers if pair[0] != "te")
        pool.send(UpstreamRequest(method, target, sent, (body,) if body else ()), answer, 30)
        await answer.done.wait()
    finally:
        await pool.close()
    assert answer.error is None, answer.error
    return flow_of(
        method,
        target,
        body,
        headers,
        url=url.replace("grpc://", "http://"),
        status=answer.status,
        reply=bytes(answer.body),
        reply_headers=answer.headers,
        trailers=answer.trailers,
        version="HTTP/2.0" if url.startswith("grpc") else "HTTP/1.1",
    )


async def recorded_rpc(url: str, api: str, rpc: str, *messages: str, headers: Headers = GRPC) -> http.HTTPFlow:
    """As `recorded`, for gRPC; messages as JSON."""
    known = methods(api)
    chunks = frame([(known.request_from_json(rpc, message.encode()),) for message in messages])
    return await recorded(url, "POST", rpc, bytes(join(chunks)), headers)
