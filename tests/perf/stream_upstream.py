"""A runtime that streams texts at a given pace, at an OpenAI REST door and at an fmaas gRPC door, to measure a proxy.

The prompt is the pause between messages in microseconds (0: back to back), max_tokens their number. The text of each
message is the moment it was made, in nanoseconds of the monotonic clock, which all processes of a machine share.
Back to back, messages leave in bursts of `BURST`, each a frame or an event of its own, as fast as they are taken.
Prints its two ports, REST first.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset

from inferbridge_generated.tgis import wire

BURST = 32
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


async def bursts(pause: float, count: int) -> AsyncIterator[tuple[range, str]]:
    """Numbers of the messages to send now, from 1, and their text."""
    begun = time.monotonic()
    size = 1 if pause else BURST
    for first in range(1, count + 1, size):
        await asyncio.sleep(max(0.0, begun + (first - 1) * pause - time.monotonic()))
        yield range(first, min(first + size, count + 1)), f"{time.monotonic_ns()}"


async def serve_rest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            asked = json.loads(await reader.readexactly(length))
            writer.write(HEAD)
            async for numbers, text in bursts(int(asked["prompt"]) / 1e6, asked["max_tokens"]):
                writer.write(b"".join(_chunk(_event(number, asked["max_tokens"], text)) for number in numbers))
                await writer.drain()
            writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _event(number: int, count: int, text: str) -> bytes:
    reason = '"length"' if number == count else "null"
    choice = f'{{"index":0,"text":"{text}","logprobs":null,"finish_reason":{reason},"stop_reason":null}}'
    usage = f'{{"prompt_tokens":1,"total_tokens":{number + 1},"completion_tokens":{number}}}'
    head = '"id":"cmpl-1","object":"text_completion","created":1,"model":"m"'
    return f'data: {{{head},"choices":[{choice}],"usage":{usage}}}\n\n'.encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class GrpcConnection(asyncio.Protocol):
    """One HTTP/2 connection; every stream is a call of GenerateStream."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with the settings."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._bodies: dict[int, bytearray] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._room = asyncio.Event()
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self._http.initiate_connection()
        self._flush()

    def _flush(self) -> None:
        self._transport.write(self._http.data_to_send())

    def data_received(self, data: bytes) -> None:
        """Collect requests; start a call when one is complete."""
        for event in self._http.receive_data(data):
            if isinstance(event, RequestReceived):
                self._bodies[event.stream_id] = bytearray()
            elif isinstance(event, DataReceived):
                self._bodies[event.stream_id] += event.data
                self._http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                asked = wire.decode_SingleGenerationRequest(bytes(self._bodies.pop(event.stream_id)[5:]), [])
                self._calls[event.stream_id] = asyncio.ensure_future(self._answer(event.stream_id, asked))
            elif isinstance(event, StreamReset):
                self._calls.pop(event.stream_id).cancel()
        self._room.set()
        self._flush()

    async def _answer(self, stream: int, asked: wire.SingleGenerationRequest) -> None:
        assert asked.request is not None
        assert asked.params is not None
        assert asked.params.stopping is not None
        count = asked.params.stopping.max_new_tokens
        self._http.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        await self._send(stream, wire.GenerationResponse(input_token_count=1))
        async for numbers, text in bursts(int(asked.request.text) / 1e6, count):
            for number in numbers:
                reason = 1 if number == count else 0
                message = wire.GenerationResponse(text=text, generated_token_count=number, stop_reason=reason)
                await self._send(stream, message)
            self._flush()
        self._http.send_headers(stream, [(b"grpc-status", b"0")], end_stream=True)
        self._flush()

    async def _send(self, stream: int, message: wire.GenerationResponse) -> None:
        data = b"".join(map(bytes, wire.encode_GenerationResponse(message)))
        framed = b"\0" + len(data).to_bytes(4, "big") + data
        while self._http.local_flow_control_window(stream) < len(framed):
            self._flush()
            self._room.clear()
            await self._room.wait()
        self._http.send_data(stream, framed)

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody reads any more."""
        for call in self._calls.values():
            call.cancel()


async def main() -> None:
    """Serve until killed."""
    rest = await asyncio.start_server(serve_rest, "127.0.0.1", 0)
    grpc = await asyncio.get_running_loop().create_server(GrpcConnection, "127.0.0.1", 0)
    ports = (server.sockets[0].getsockname()[1] for server in (rest, grpc))
    sys.stdout.write(" ".join(map(str, ports)) + "\n")
    sys.stdout.flush()
    await asyncio.gather(rest.serve_forever(), grpc.serve_forever())


if __name__ == "__main__":
    asyncio.run(main())
