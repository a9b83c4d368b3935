"""A load of identical HTTP/1.1 requests on keep-alive connections, one request in flight on each.

Reads from stdin one JSON object a line, `{"port", "request" (base64 of the whole request), "connections", "seconds"}`,
and answers each with `{"requests", "seconds", "reply_bytes"}` or `{"problem"}`.
"""

import asyncio
import base64
import json
import sys
import time
from typing import Any


class Connection(asyncio.Protocol):
    """Sends the request again and again until the time is over."""

    def __init__(self, request: bytes, deadline: float) -> None:
        self._request = request
        self._deadline = deadline
        self._reply = bytearray()
        self._complete_at = 0  # bytes of the reply being read; 0 until its head is there
        self._chunked = False  # it is, and so ends when it says so: in the last piece, for nothing comes after it
        self.requests = 0
        self.reply_bytes = 0
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Collect a reply; when it is complete, send the next request."""
        self._reply += data
        if not self._complete_at and not self._read_head():
            return
        if self._chunked and self._reply.endswith(b"\r\n0\r\n\r\n"):
            self._complete_at = len(self._reply)
        if len(self._reply) < self._complete_at:
            return
        self.requests += 1
        self.reply_bytes += self._complete_at
        self._reply.clear()
        self._complete_at = 0
        if time.monotonic() < self._deadline:
            self._transport.write(self._request)
        else:
            self._finish("")

    def _read_head(self) -> bool:
        end = self._reply.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._reply[:end]).lower()
        length = head.find(b"\r\ncontent-length:")
        self._chunked = b"transfer-encoding: chunked" in head
        if head.startswith(b"http/1.1 200") and self._chunked:
            self._complete_at = sys.maxsize
            return True
        if not head.startswith(b"http/1.1 200") or length < 0:
            self._finish(f"unexpected reply: {bytes(self._reply[:400])!r}")
            return False
        self._complete_at = end + 4 + int(head[length + 17 :].split(b"\r\n", 1)[0])
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """A server that hangs up early spoils the measurement."""
        self._finish("the connection was closed")

    def _finish(self, problem: str) -> None:
        if not self.done.done():
            self.done.set_result(problem)
            self._transport.close()


async def run(port: int, request: bytes, connections: int, seconds: float) -> dict[str, Any]:
    """One measurement."""
    started = time.monotonic()
    loop = asyncio.get_running_loop()
    running = [
        (await loop.create_connection(lambda: Connection(request, started + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    problems = [problem for problem in await asyncio.gather(*(each.done for each in running)) if problem]
    if problems:
        return {"problem": problems[0]}
    return {
        "requests": sum(each.requests for each in running),
        "seconds": time.monotonic() - started,
        "reply_bytes": sum(each.reply_bytes for each in running),
    }


def main() -> None:
    """Run the measurements asked for on stdin."""
    for line in sys.stdin:
        asked = json.loads(line)
        request = base64.b64decode(asked["request"])
        outcome = asyncio.run(run(asked["port"], request, asked["connections"], asked["seconds"]))
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
