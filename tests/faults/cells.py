"""One cell of the table: a fault of a runtime, on one transport, before one kind of client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from faults.clients import KINDS, Kind, Seen
from faults.conftest import TRANSPORTS, Scene
from faults.faults import FAULTS, Fault, Wire
from faults.runtime import WAITING, WELL, prompt
from faults.table import EXPECTED

SOON = 5
"""Seconds in which what happens at once has happened on a busy machine."""
GOOD = {"200", "done", "OK"}
NO_ERROR = GOOD | {
    "200 as sent",
    "as sent",
    "502 as sent",
    "OK as sent",
    "200 cut",
    "events, cut",
    "end without [DONE]",
}
WIRES: dict[str, Wire] = {"h1": "rest", "h1 TLS": "rest", "h2c": "grpc", "h2 TLS": "grpc"}
PARTNERS = {"h1": "h2c", "h1 TLS": "h2 TLS", "h2c": "h1", "h2 TLS": "h1 TLS"}
"""Where a call is that shares nothing with the one that fails but the gateway."""


def cells(*, slow: bool) -> list[object]:
    """All of them, those that nothing but the deadline ends or the others, as parameters of a test."""
    return [
        pytest.param(fault, transport, kind, id=f"{fault.name}-{transport}-{kind}")
        for fault in FAULTS.values()
        for transport in TRANSPORTS
        for kind in KINDS
        if fault.slow is slow and WIRES[transport] in fault.wires
    ]


async def check(scene: Scene, fault: Fault, transport: str, kind: Kind) -> float:
    """The client gets what the table says, the runtime is left alone, another call goes on, and the next one works.

    Gives the seconds until the end.
    """
    runtime, client = scene.runtimes[transport], scene.client
    runtime.forget()
    async with _going_on(scene, fault, transport):
        await runtime.stand(fault.name)
        began = asyncio.get_running_loop().time()
        seen = await client.call(kind, transport, prompt(fault.name))
        took = asyncio.get_running_loop().time() - began
        await runtime.heal()
    assert seen.outcome == EXPECTED[fault.name][runtime.wire, kind], seen
    assert seen.outcome in NO_ERROR or (seen.message and "internal error" not in seen.message), seen
    assert len(runtime.spoilt) == fault.sent
    async with asyncio.timeout(SOON):
        for answer in runtime.spoilt:
            await answer.over.wait()
    after = await client.call(kind, transport, prompt(WELL))
    assert (after.outcome in GOOD, after.text) == (True, "Hello"), after
    return took


@asynccontextmanager
async def _going_on(scene: Scene, fault: Fault, transport: str) -> AsyncIterator[None]:
    """Another call is under way for the time of the block, and ends well."""
    if fault.slow:
        other = asyncio.create_task(_meanwhile(scene, transport))
    else:
        apart = fault.at_door or (fault.whole_connection and WIRES[transport] == "grpc")
        model = PARTNERS[transport] if apart else transport
        client, runtime = replace(scene.client, first=asyncio.Event()), scene.runtimes[model]
        runtime.go_on.clear()
        other = asyncio.create_task(client.call("GenerateStream", model, prompt(WAITING)))
        await asyncio.wait_for(client.first.wait(), SOON)
    yield
    if fault.slow:
        assert other.done()
    else:
        runtime.go_on.set()
    seen = await other
    assert (seen.outcome, seen.text) == ("OK", "Hello"), seen


async def _meanwhile(scene: Scene, transport: str) -> Seen:
    """A call that begins while another stalls, which it does not wait for."""
    await scene.runtimes[transport].spoiling.wait()
    return await scene.client.call("GenerateStream", transport, prompt(WELL))
