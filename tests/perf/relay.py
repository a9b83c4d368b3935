"""Moves bytes between clients and an upstream and looks at none of them: what sockets cost any proxy, at least.

    python tests/perf/relay.py PORT

Prints the port it listens on. A send may wait, for those at the ends read while they write; one thread is all there is,
so that its CPU time is that of the process.
"""

import contextlib
import selectors
import socket
import sys

ROOM = memoryview(bytearray(256 << 10))
"""What one read takes; as much as asyncio's do."""


class Relay:
    """From one port to another."""

    def __init__(self, upstream: int) -> None:
        """`upstream` is a port of this host."""
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Serve until killed."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    self._accept()
                elif key.data.fileno() >= 0:  # else both were closed a moment ago
                    assert isinstance(key.fileobj, socket.socket)
                    self._move(key.fileobj, key.data)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._upstream))
        for one, other in ((client, server), (server, client)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(one, selectors.EVENT_READ, other)

    def _move(self, source: socket.socket, target: socket.socket) -> None:
        count = 0
        with contextlib.suppress(ConnectionError):
            count = source.recv_into(ROOM)
            target.sendall(ROOM[:count])
        if not count:
            for one in (source, target):
                self._selector.unregister(one)
                one.close()


def main() -> None:
    """Say where, and serve."""
    relay = Relay(int(sys.argv[1]))
    sys.stdout.write(f"{relay.port}\n")
    sys.stdout.flush()
    relay.run()


if __name__ == "__main__":
    main()
