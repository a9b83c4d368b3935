"""Reads streams of `stream_upstream.py`, directly or through a proxy, all at once and each on a connection of its own.

Reads from stdin one JSON object a line, `{"client": "rest" | "grpc", "port", "streams", "messages", "pause_us"}`, and
answers each with `{"seconds", "messages", "delays"}`: for each stream the nanoseconds that each of its messages was
on its way; or with `{"problem"}`.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import grpc

from inferbridge_generated.tgis import wire

TEXT = re.compile(rb'"text":"(\d+)"')
NUMBER = re.compile(rb"\d{8,}")
LONGEST = 60.0  # seconds
METHOD = "/fmaas.GenerationService/GenerateStream"


class RestStream(asyncio.Protocol):
    """An OpenAI completion, streamed."""

    def __init__(self, asked: dict[str, Any]) -> None:
        body = {"model": "m", "prompt": f"{asked['pause_us']}", "max_tokens": asked["messages"], "stream": True}
        content = json.dumps(body | {"temperature": 0}).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n"
        self._request = head.encode() + b"content-type: application/json\r\n\r\n" + content
        self._unread = b""
        self.delays: list[int] = []
        self.done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note when each event was complete."""
        now = time.monotonic_ns()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if found := TEXT.search(line):
                self.delays.append(now - int(found[1]))
            elif b"[DONE]" in line and not self.done.done():
                self.done.set_result(self.delays)
                self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Too early if it is not over."""
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"the stream ended early: {self._unread[-400:]!r}"))


async def read_rest(asked: dict[str, Any]) -> list[int]:
    """The delays of one stream of events."""
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(lambda: RestStream(asked), "127.0.0.1", asked["port"])
    return await stream.done


async def read_grpc(asked: dict[str, Any]) -> list[int]:
    """The delays of one stream of messages."""
    request = wire.SingleGenerationRequest(
        model_id="m",
        request=wire.GenerationRequest(text=f"{asked['pause_us']}"),
        params=wire.Parameters(stopping=wire.StoppingCriteria(max_new_tokens=asked["messages"])),
    )
    data = b"".join(map(bytes, wire.encode_SingleGenerationRequest(request)))
    delays = []
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each stream
    async with grpc.aio.insecure_channel(f"127.0.0.1:{asked['port']}", options) as channel:
        async for message in channel.unary_stream(METHOD)(data):
            if found := NUMBER.search(message):
                delays.append(time.monotonic_ns() - int(found[0]))
    return delays


async def run(asked: dict[str, Any]) -> dict[str, Any]:
    """One measurement."""
    read = read_rest if asked["client"] == "rest" else read_grpc
    begun = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST):
            delays = await asyncio.gather(*(read(asked) for _ in range(asked["streams"])))
    except (ConnectionError, TimeoutError, grpc.aio.AioRpcError) as problem:
        return {"problem": repr(problem)}
    if any(len(each) != asked["messages"] for each in delays):
        return {"problem": f"messages are missing: {[len(each) for each in delays]} of {asked['messages']}"}
    return {"seconds": time.monotonic() - begun, "messages": sum(map(len, delays)), "delays": delays}


def main() -> None:
    """Run the measurements asked for on stdin."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(asyncio.run(run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
