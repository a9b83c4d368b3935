"""Every fault of a runtime that nothing but the deadline ends, on every transport, before every kind of client."""

import pytest

from faults.cells import SOON, cells, check
from faults.clients import Kind
from faults.conftest import Scene
from faults.faults import Fault

DEADLINE = 1


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fault", "transport", "kind"), cells(slow=True))
async def test_a_stall(scene: Scene, fault: Fault, transport: str, kind: Kind) -> None:
    """The client gets what the table says at its deadline, the runtime is told, and other calls go on meanwhile."""
    assert DEADLINE <= await check(scene, fault, transport, kind) < DEADLINE + SOON
