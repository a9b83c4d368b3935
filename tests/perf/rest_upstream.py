"""A REST runtime for measuring what is in front of it: V2 inference that echoes, and chat with one answer for all.

An inference is answered with its own inputs, as JSON numbers or, where the request has the binary tensor extension,
with the bytes that it came with. Prints the port it listens on.
"""

import asyncio
import json
import sys

CHAT = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello there."}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }
).encode()


def infer(body: bytes, json_length: int | None) -> list[bytes]:
    """The lines of headers that the answer needs beside its length, and the pieces of its body."""
    asked = json.loads(body[:json_length])
    outputs = asked["inputs"]
    head = json.dumps({"model_name": "echo", "model_version": "1", "id": asked.get("id", ""), "outputs": outputs})
    if json_length is None:
        return [b"content-type: application/json\r\n", head.encode()]
    binary = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n" % len(head)
    return [binary, head.encode(), body[json_length:]]


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = bytearray()
        self._complete_at = 0

    def data_received(self, data: bytes) -> None:
        """Answer each request when it is complete."""
        self._received += data
        if not self._complete_at:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._received[:end]).lower()
            self._body_at = end + 4
            self._complete_at = self._body_at + (self._number(b"\r\ncontent-length:") or 0)
        if len(self._received) >= self._complete_at:
            self._answer(bytes(self._received[self._body_at : self._complete_at]))
            self._received.clear()
            self._complete_at = 0

    def _number(self, name: bytes) -> int | None:
        _, found, value = self._head.partition(name)
        return int(value.split(b"\r\n", 1)[0]) if found else None

    def _answer(self, body: bytes) -> None:
        if self._head.startswith(b"post /v1/chat/completions"):
            headers, *pieces = b"content-type: application/json\r\n", CHAT
        else:
            headers, *pieces = infer(body, self._number(b"\r\ninference-header-content-length:"))
        head = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n" % (headers, sum(map(len, pieces)))
        self._transport.writelines([head, *pieces])


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
