"""Bring an event into a connection's layers from the event loop.

mitmproxy handles the events of one connection under a lock. The delivery is a task of its own, made on the next turn
of the loop: never from inside a layer, after everything that belongs to the same answer, and in the order of the
lock's queue. mitmproxy's event loop starts tasks eagerly, so with the lock free the task runs to its end on the spot.
"""

import asyncio
from collections.abc import Callable

from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

_running: set[asyncio.Task[None]] = set()
"""The loop keeps only weak references to tasks."""


def injector(handler: ConnectionHandler) -> Callable[[events.Event], None]:
    """A function that delivers an event to the layers of `handler`'s connection, soon."""
    loop = asyncio.get_running_loop()

    def deliver(event: events.Event) -> None:
        task = loop.create_task(handler.server_event(event))
        if not task.done():
            _running.add(task)
            task.add_done_callback(_running.discard)

    def inject(event: events.Event) -> None:
        loop.call_soon(deliver, event)

    return inject
