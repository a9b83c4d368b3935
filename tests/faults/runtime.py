"""A runtime on a port that does what each request asks for: a fault, a good answer, or one that waits for the test."""

import asyncio
import re
import socket
import ssl

from faults.answering import Answering, Behaves, Connection, GrpcConnection, RestConnection
from faults.faults import FAULTS, Wire

WELL = "well"
WAITING = "waiting"
"""The prompt of a stream that stays in the middle until it is let go."""
_RECEIVE_BUFFER = 1 << 16
"""Bytes that the kernel takes of a request which is not read."""
_ASKED = re.compile(rb"ask:([a-z ]+)!")


def prompt(asked: str) -> str:
    """The text that asks for a fault by its name, for WELL or for WAITING."""
    return f"ask:{asked}!"


class Runtime(Behaves):
    """One runtime."""

    def __init__(self, wire: Wire, tls: ssl.SSLContext | None) -> None:
        self.wire = wire
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: list[Connection] = []
        self._running: set[asyncio.Task[None]] = set()
        self._closes = False
        self.port = 0
        self.go_on = asyncio.Event()
        """Lets answers to WAITING end."""
        self.waiting = asyncio.Event()
        """There is one."""
        self.spoilt: list[Answering] = []
        """The answers that were to have a fault."""
        self.spoiling = asyncio.Event()
        """There is one."""

    async def listen(self) -> None:
        """Be there, on the same port each time."""
        made = RestConnection if self.wire == "rest" else GrpcConnection
        listens = socket.socket()
        listens.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listens.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        listens.bind(("127.0.0.1", self.port))
        self._closes = False
        self._server = await asyncio.get_running_loop().create_server(lambda: made(self), sock=listens, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Listen no more, and drop the connections that there are."""
        if self._server is not None:
            self._server.close()
            self.drop()
            await self._server.wait_closed()
            self._server = None

    def drop(self) -> None:
        """Drop the connections that there are."""
        connections, self._connections = self._connections, []
        for connection in connections:
            connection.transport.abort()

    async def stand(self, fault: str) -> None:
        """Be as a fault of the door wants it, if it is one."""
        if fault == "connection refused":
            await self.leave()
        elif fault == "closed when accepted":
            self.drop()
            self._closes = True

    async def heal(self) -> None:
        """Be well again."""
        self._closes = False
        if self._server is None:
            await self.listen()

    def forget(self) -> None:
        """Begin anew."""
        self.spoilt = []
        self.spoiling.clear()

    def is_hasty(self, body: bytes) -> bool:
        """Whether a fault strikes while the request is being sent."""
        found = _ASKED.search(body)
        fault = FAULTS.get(found[1].decode()) if found is not None else None
        return fault is not None and fault.hasty and not (fault.once and self.spoilt)

    def connected(self, connection: Connection) -> None:
        """There is a connection."""
        if self._closes:
            connection.transport.abort()
        else:
            self._connections.append(connection)

    def asked(self, body: bytes, answer: Answering) -> None:
        """A request is complete, or as much of it as the runtime waits for."""
        found = _ASKED.search(body)
        assert found is not None, body
        task = asyncio.get_running_loop().create_task(self._answer(found[1].decode(), answer))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _answer(self, asked: str, answer: Answering) -> None:
        if asked == WAITING:
            answer.begin()
            self.waiting.set()
            await self.go_on.wait()
            answer.data(answer.last)
            answer.end()
        elif asked == WELL:
            answer.well()
        else:
            self.spoilt.append(answer)
            self.spoiling.set()
            if len(self.spoilt) > 1 and FAULTS[asked].once:
                answer.well()
            else:
                await FAULTS[asked].do(answer)

    async def close(self) -> None:
        """End everything."""
        await self.leave()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
