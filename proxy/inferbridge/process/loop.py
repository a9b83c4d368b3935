"""The event loop of a process that serves: uvloop's where it is installed, else asyncio's own.

uvloop moves bytes between sockets and protocols for less. Nothing else depends on which one it is: `INFERBRIDGE_LOOP`
set to `asyncio` takes asyncio's, for whoever suspects the other.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

VARIABLE = "INFERBRIDGE_LOOP"
_ASYNCIO, _AUTO = "asyncio", "auto"


def run[T](main: Coroutine[Any, Any, T]) -> T:
    """Run to the end, as `asyncio.run` does. ValueError when the environment names a loop that there is not."""
    try:
        factory = loop_factory(os.environ.get(VARIABLE) or _AUTO)
    except ValueError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def loop_factory(wanted: str = _AUTO) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the loop that is wanted, see `run`; None: asyncio's own."""
    if wanted not in (_ASYNCIO, _AUTO):
        raise ValueError(f"{VARIABLE} is {wanted!r}, it must be {_AUTO} or {_ASYNCIO}")
    if wanted == _ASYNCIO:
        return None
    try:
        import uvloop
    except ImportError:  # not made for this system or this Python
        return None

    class Loop(uvloop.Loop):
        """With factories of tasks that do not know `eager_start`, as those of Python 3.13.0 to 3.13.2."""

        def set_task_factory(self, factory: Any) -> None:
            """As in asyncio; mitmproxy sets one that starts tasks at once."""
            super().set_task_factory(factory and _without_eager_start(factory))

    return Loop


def _without_eager_start(factory: Callable[..., asyncio.Task[Any]]) -> Callable[..., asyncio.Task[Any]]:
    """A factory that is told of `eager_start` only where somebody has said something; uvloop always mentions it."""

    def made(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        if more.get("eager_start", False) is None:
            del more["eager_start"]
        return factory(loop, coroutine, **more)

    return made
