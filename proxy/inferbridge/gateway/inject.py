"""Bring an event into a connection's layers from the event loop.

mitmproxy handles the events of one connection under a lock. The delivery is made on the next turn
of the loop: never from inside a layer, after everything that belongs to the same answer, and in the order of the
lock's queue. With the lock free and nobody waiting for it, `server_event` runs to its end without a pause, so it needs
no task: one step of the coroutine is all of it, at a third of the cost.
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
        if _is_free(handler._server_event_lock):
            try:
                handler.server_event(event).send(None)
            except StopIteration:
                return
            raise RuntimeError("mitmproxy's server_event paused with its lock free")
        task = loop.create_task(handler.server_event(event))
        if not task.done():
            _running.add(task)
            task.add_done_callback(_running.discard)

    def inject(event: events.Event) -> None:
        loop.call_soon(deliver, event)

    return inject


def _is_free(lock: asyncio.Lock) -> bool:
    """Whether acquiring the lock would not wait: nobody holds it, and nobody who was here first is about to."""
    waiters = getattr(lock, "_waiters", None)
    return not lock.locked() and not waiters
