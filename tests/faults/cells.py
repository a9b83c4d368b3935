"""One cell of the table: a fault of a runtime, on one transport, before one kind of client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from faults.clients import KINDS, LARGE, TENSOR_KINDS, Kind, Seen
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


def cells(*, slow: bool, hasty: bool = False) -> list[object]:
    """All of them, those that nothing but the deadline ends or the others, as parameters of a test.

    `hasty` are those that strike while the request is being sent, which is only to be seen of large ones.
    """
    return [
        pytest.param(fault, transport, kind, id=f"{fault.name}-{transport}-{kind}")
        for fault in FAULTS.values()
        for transport in TRANSPORTS
        for kind in kinds(fault)
        if (fault.slow, fault.hasty) == (slow, hasty) and WIRES[transport] in fault.wires
    ]


def kinds(fault: Fault) -> tuple[Kind, ...]:
    """Clients before which there is the fault: those of tensors have large requests."""
    return TENSOR_KINDS if fault.hasty else KINDS


def sent(fault: Fault, wire: Wire, kind: Kind) -> int:
    """How often the runtime gets the request."""
    grows = wire == "grpc" and kind == "ModelStreamInfer"
    return fault.sent_growing if grows and fault.sent_growing is not None else fault.sent


async def check(scene: Scene, fault: Fault, transport: str, kind: Kind) -> float:
    """The client gets what the table says, the runtime is left alone, another call goes on, and the next one works.

    Gives the seconds until the end.
    """
    runtime, client = scene.runtimes[transport], scene.client
    runtime.forget()
    async with _going_on(scene, fault, transport, kind):
        await runtime.stand(fault.name)
        began = asyncio.get_running_loop().time()
        filling = "x" * (16 * LARGE) if fault.hasty else ""
        seen = await client.call(kind, transport, prompt(fault.name) + filling)
        took = asyncio.get_running_loop().time() - began
        await runtime.heal()
    assert seen.outcome == EXPECTED[fault.name][runtime.wire, kind], seen
    assert seen.outcome in NO_ERROR or (seen.message and "internal error" not in seen.message), seen
    assert len(runtime.spoilt) == sent(fault, runtime.wire, kind)
    async with asyncio.timeout(SOON):
        for answer in runtime.spoilt:
            answer.read_on()  # who does not read hears of nothing
            await answer.over.wait()
    after = await client.call(kind, transport, prompt(WELL))
    assert (after.outcome in GOOD, after.text) == (True, "Hello"), after
    return took


@asynccontextmanager
async def _going_on(scene: Scene, fault: Fault, transport: str, kind: Kind) -> AsyncIterator[None]:
    """Another call is under way for the time of the block, and ends well."""
    beside: Kind = "ModelInfer" if kind in TENSOR_KINDS else "GenerateStream"
    """Of the same upstream."""
    if fault.slow:
        other = asyncio.create_task(_meanwhile(scene, transport, beside))
    else:
        apart = fault.at_door or (fault.whole_connection and WIRES[transport] == "grpc")
        model = PARTNERS[transport] if apart else transport
        runtime = scene.runtimes[model]
        runtime.go_on.clear()
        runtime.waiting.clear()
        other = asyncio.create_task(scene.client.call(beside, model, prompt(WAITING)))
        await asyncio.wait_for(runtime.waiting.wait(), SOON)
    yield
    if fault.slow:
        assert other.done()
    else:
        runtime.go_on.set()
    seen = await other
    assert (seen.outcome, seen.text) == ("OK", "Hello"), seen


async def _meanwhile(scene: Scene, transport: str, kind: Kind) -> Seen:
    """A call that begins while another stalls, which it does not wait for."""
    await scene.runtimes[transport].spoiling.wait()
    return await scene.client.call(kind, transport, prompt(WELL))
