"""Addresses for workers to share, held by their supervisor for as long as it lives.

A socket that is bound with SO_REUSEPORT and does not listen gets no connections, but it keeps the port: one that the
kernel chose stays the same for every worker, and one that somebody else uses is found out before any worker starts.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from inferbridge.config import Listener


@contextmanager
def reserved(listeners: Sequence[Listener]) -> Iterator[list[Listener]]:
    """The addresses, with ports; OSError names one that cannot be had."""
    with ExitStack() as held:
        yield [_reserve(listener, held) for listener in listeners]


def _reserve(listener: Listener, held: ExitStack) -> Listener:
    port = listener.port
    try:
        infos = socket.getaddrinfo(listener.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in infos:
            with _bound(family, (address[0], port), shared=False) as free:  # or we would share it with a stranger
                port = free.getsockname()[1]
            held.enter_context(_bound(family, (address[0], port), shared=True))
    except OSError as error:
        raise OSError(f"cannot listen on {listener}: {error.strerror or error}") from None
    return replace(listener, port=port)


def _bound(family: int, address: tuple[object, int], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
