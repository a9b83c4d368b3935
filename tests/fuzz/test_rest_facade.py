"""The REST facade under requests that schemathesis makes of our own document: `make fuzz` runs it.

A gateway stands before mocks of all kinds of runtimes. Whatever is asked, by the document or against it, is answered,
and never with a 5xx: the mocks are well, so that each would be our own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from fuzz.openapi import document
from inferbridge.config import Listener, Settings, parse_upstream
from inferbridge.mock.serving import Doors, mocking
from inferbridge.run import running
from inferbridge_generated.runtimes import PROFILES

schemathesis = pytest.importorskip("schemathesis", reason="make fuzz installs it")

EXAMPLES = 10
"""For each operation, of each kind."""
SECONDS = 10
"""An answer that takes longer hangs."""
RUNTIMES = ("triton", "vllm-nvidia", "tgis", "caikit-standalone")


@asynccontextmanager
async def facade() -> AsyncIterator[str]:
    """A gateway before mocks; its URL."""
    speaks = {name: {"rest", "grpc"} for name in PROFILES}
    async with AsyncExitStack() as stack:
        upstreams = []
        for runtime in RUNTIMES:
            urls = await stack.enter_async_context(mocking(runtime, Doors(rest=0, grpc=0)))
            upstreams += [parse_upstream(f"{runtime}={url}", speaks) for url in urls[:1]]
        made = Settings(listen=(Listener("127.0.0.1", 0),), upstreams=tuple(upstreams), lossy="allow")
        address = await stack.enter_async_context(running(made))
        yield f"http://127.0.0.1:{address.port}"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The gateway's, in a thread of its own."""
    found: list[str] = []
    started = threading.Event()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with facade() as where:
            found.append(where)
            started.set()
            await stop.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            started.set()
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()


OPERATIONS = {
    f"{operation.method.upper()} {operation.path}": operation
    for operation in (result.ok() for result in schemathesis.openapi.from_dict(document()).get_all_operations())
}


CASES = [
    (name, mode)
    for name, operation in OPERATIONS.items()
    for mode in ("positive", *(["negative"] if operation.body or operation.path_parameters else []))
]
"""Where nothing can be given, nothing can be wrong."""


@pytest.mark.parametrize(("name", "mode"), CASES, ids=[f"{name} {mode}" for name, mode in CASES])
def test_the_facade_answers_whatever_is_asked(url: str, name: str, mode: str) -> None:
    """Requests by the document, or against it, are answered in time and without an error of ours."""
    kind = schemathesis.GenerationMode(mode)

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(OPERATIONS[name].as_strategy(generation_mode=kind))
    def check(case: Any) -> None:
        answer = case.call(base_url=url, timeout=SECONDS)
        assert answer.status_code < 500, (answer.status_code, answer.text[:500])

    check()
