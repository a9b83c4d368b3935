"""A client without TLS, served straight from its socket.

mitmproxy carries every piece of data through a stream reader, a task, two locks and three layers, and every answer
back the same way. With TLS that is where decryption happens; without, nothing is done there, and it costs more than a
translation. So when our layer has a plain TCP connection, this protocol takes the transport's place in the event loop:

    socket ─▶ data_received ─▶ ClientConnection ─▶ transport.write

mitmproxy keeps what it is good for. The end of the connection, its idle time and the way it is closed stay with it: the
protocol that was there before hears of every end, and closing is asked of the layer.
"""

import asyncio
from collections.abc import Callable

from inferbridge.gateway.clients.connection import ClientConnection


class DirectProtocol(asyncio.Protocol):
    """Between one transport and one `ClientConnection`."""

    def __init__(
        self,
        transport: asyncio.Transport,
        connection: ClientConnection,
        register_activity: Callable[[], None],
        close: Callable[[], None],
        waiting: bytes = b"",
    ) -> None:
        """`waiting` came before all that the socket has next, and after what is handled now."""
        self._transport = transport
        self._before = transport.get_protocol()
        self._connection = connection
        self._register_activity = register_activity
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._awaits_turn = False
        self._told_to_close = False
        self._waiting = waiting
        if waiting:
            self.wake()

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._turn(data)

    def wake(self) -> None:
        """Ask for one turn, however many pieces of an answer come before it."""
        if not self._awaits_turn:
            self._awaits_turn = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Take a turn now."""
        self._turn(b"")

    def _turn(self, data: bytes) -> None:
        self._awaits_turn = False
        self._register_activity()
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        connection = self._connection
        connection.receive(data)
        more = True
        while more:
            output = connection.take_output()
            if output and not self._transport.is_closing():
                self._transport.write(output)
            more = connection.more
        if connection.closing and not self._told_to_close:
            self._told_to_close = True
            self._close()

    def pause_writing(self) -> None:
        """The client does not read what it asked for: it may ask no more, and its answers wait at their source."""
        self._transport.pause_reading()
        self._connection.pressure(True)

    def resume_writing(self) -> None:
        """The client has read."""
        self._transport.resume_reading()
        self._connection.pressure(False)

    def eof_received(self) -> bool | None:
        """The client has closed its half."""
        assert isinstance(self._before, asyncio.Protocol)
        return self._before.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._before.connection_lost(error)


class OverheardProtocol(asyncio.Protocol):
    """The protocol that was there before, for a client with TLS; the connection hears whether the client reads."""

    def __init__(self, before: asyncio.Protocol, connection: ClientConnection) -> None:
        self._before = before
        self._connection = connection

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        self._before.data_received(data)

    def eof_received(self) -> bool | None:
        """The client has closed its half."""
        return self._before.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self._before.connection_lost(error)

    def pause_writing(self) -> None:
        """The client does not read what it asked for."""
        self._before.pause_writing()
        self._connection.pressure(True)

    def resume_writing(self) -> None:
        """The client has read."""
        self._before.resume_writing()
        self._connection.pressure(False)
