"""Which event loop serves: uvloop (extra `uvloop`) where it is installed and works, else asyncio's own.

uvloop does the work of the loop and of its transports in C and costs a call less. To be served by either, our code
takes a transport for what it does: uvloop's are no instances of `asyncio.Transport`, their sockets no `socket.socket`,
and what is written leaves at the end of the turn.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

type Name = Literal["asyncio", "uvloop"]
type Factory = Callable[[], asyncio.AbstractEventLoop]
CHOICES = ("auto", "asyncio", "uvloop")
"""What may be asked for."""
_log = logging.getLogger(__name__)


def choose(wanted: str) -> Name:
    """The loop to use for one of `CHOICES`. ValueError where uvloop is asked for and cannot be used."""
    if wanted == "asyncio":
        return "asyncio"
    reason = fault()
    if not reason:
        return "uvloop"
    if wanted == "uvloop":
        raise ValueError(f"the event loop uvloop {reason}")
    if _installed():
        _log.warning("asyncio's event loop is used: uvloop %s", reason)
    return "asyncio"


def _installed() -> bool:
    return find_spec("uvloop") is not None


@cache
def fault() -> str:
    """Why uvloop cannot be used here; "" if it can.

    It is tried with the tasks that mitmproxy wants: uvloop 0.23.0 hands them what Python before 3.13.3 does not take.
    """
    if not _installed():
        return "is not installed; to have it: pip install 'inferbridge[proxy,uvloop]'"
    try:
        with ThreadPoolExecutor(1) as elsewhere:  # where no other loop runs
            elsewhere.submit(_try, factory("uvloop")).result()
    except Exception as error:
        return f"does not work with this Python: {error}"
    return ""


def _try(make: Factory) -> None:
    loop, task = make(), asyncio.sleep(0)
    try:
        loop.set_task_factory(asyncio.eager_task_factory)
        loop.run_until_complete(task)
    finally:
        task.close()  # which was never begun where it could not be
        loop.close()


def factory(name: Name) -> Factory:
    """Makes loops of a kind; ImportError where there is none."""
    if name == "asyncio":
        return asyncio.new_event_loop
    import uvloop

    return uvloop.new_event_loop


def run[T](main: Coroutine[Any, Any, T], name: Name) -> T:
    """As `asyncio.run`, in a loop of this kind."""
    return asyncio.run(main, loop_factory=factory(name))


def running() -> Name:
    """The kind of loop that runs this code. RuntimeError where none does."""
    module = type(asyncio.get_running_loop()).__module__
    return "uvloop" if module.partition(".")[0] == "uvloop" else "asyncio"


def described() -> str:
    """The loop that runs this code, with a version that is not Python's; "" where none does."""
    try:
        name = running()
    except RuntimeError:
        return ""
    if name == "asyncio":
        return name
    return f"uvloop {version('uvloop')}"
