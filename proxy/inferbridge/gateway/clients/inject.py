"""The way from the event loop to a connection that mitmproxy holds.

mitmproxy handles the events of one connection under a lock. The delivery is made on the next turn
of the loop: never from inside a layer, after everything that belongs to the same answer, and in the order of the
lock's queue. With the lock free and nobody waiting for it, `server_event` runs to its end without a pause, so it needs
no task: one step of the coroutine is all of it, at a third of the cost.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

from inferbridge.gateway.clients.connection import ClientConnection
from inferbridge.gateway.clients.direct import DirectProtocol, OverheardProtocol

_running: set[asyncio.Task[None]] = set()
"""The loop keeps only weak references to tasks."""


class Link:
    """To one client connection."""

    def __init__(self, handler: ConnectionHandler) -> None:
        self._handler = handler
        self._loop = asyncio.get_running_loop()

    def inject(self, event: events.Event) -> None:
        """Deliver an event to the connection's layers, soon."""
        self._loop.call_soon(self._deliver, event)

    def _deliver(self, event: events.Event) -> None:
        handler = self._handler
        if _is_free(handler._server_event_lock):
            try:
                handler.server_event(event).send(None)
            except StopIteration:
                return
            raise RuntimeError("mitmproxy's server_event paused with its lock free")
        task = self._loop.create_task(handler.server_event(event))
        if not task.done():
            _running.add(task)
            task.add_done_callback(_running.discard)

    def take_over(self, connection: ClientConnection, close: Callable[[], None]) -> bool:
        """Serve `connection` from its socket from now on, where there is one. `close` asks for the end.

        With TLS the bytes go on through mitmproxy; only whether the client reads is heard from the socket.
        False: not yet. mitmproxy holds bytes of the client that would come after those which the socket has next, and
        is not the one who asks: who does gets no more of them.
        """
        held = self._handler.transports.get(self._handler.client)
        writer = held.writer if held is not None else None
        if held is None or not isinstance(writer, asyncio.StreamWriter):
            return True
        transport = cast("asyncio.Transport", writer.transport)  # uvloop's is no instance of it
        if self._handler.client.tls:
            before = transport.get_protocol()
            assert isinstance(before, asyncio.Protocol)
            transport.set_protocol(OverheardProtocol(before, connection))
            return True
        waiting = b""
        if not _is_waiting(held.reader):
            reader = held.reader
            if asyncio.current_task() is not held.handler or not isinstance(reader, asyncio.StreamReader):
                return False
            if reader._eof:  # type: ignore[attr-defined]  # private; the end would be told before what it holds
                return False
            waiting = _taken(reader)
        activity = self._handler.timeout_watchdog.register_activity
        protocol = DirectProtocol(transport, connection, activity, close, waiting)
        transport.resume_reading()  # the stream reader pauses when it holds much
        transport.set_protocol(protocol)
        connection.wake, connection.flush = protocol.wake, protocol.flush
        return True


def _is_waiting(reader: object) -> bool:
    """Whether somebody waits for a stream reader that is empty: then all that it ever held was handed on."""
    return not getattr(reader, "_buffer", b"") and getattr(reader, "_waiter", None) is not None


def _taken(reader: asyncio.StreamReader) -> bytes:
    """What a stream reader holds, which has it no longer; whoever reads from it will wait for the end."""
    buffer: bytearray = reader._buffer  # type: ignore[attr-defined]  # private, like all that it holds
    held = bytes(buffer)
    buffer.clear()
    return held


def _is_free(lock: asyncio.Lock) -> bool:
    """Whether acquiring the lock would not wait: nobody holds it, and nobody who was here first is about to."""
    waiters = getattr(lock, "_waiters", None)
    return not lock.locked() and not waiters
