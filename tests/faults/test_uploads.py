"""Every fault of a runtime that strikes while the request is sent, on every transport, before clients of tensors."""

import pytest

from faults.cells import SOON, cells, check
from faults.clients import Kind
from faults.conftest import Scene
from faults.faults import Fault

DEADLINE = 3
MESSAGES = 8 << 20


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fault", "transport", "kind"), cells(slow=False, hasty=True))
async def test_a_fault(scene: Scene, fault: Fault, transport: str, kind: Kind) -> None:
    """The client gets what the table says at once, another call goes on, and the next one works."""
    assert await check(scene, fault, transport, kind) < DEADLINE


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fault", "transport", "kind"), cells(slow=True, hasty=True))
async def test_a_stall(scene: Scene, fault: Fault, transport: str, kind: Kind) -> None:
    """The client gets what the table says at its deadline, the runtime is told, and other calls go on meanwhile."""
    assert DEADLINE <= await check(scene, fault, transport, kind) < DEADLINE + SOON
