"""Every fault of a runtime that ends a call, on every transport, before every kind of client."""

import pytest

from faults.cells import SOON, cells, check, kinds
from faults.clients import Kind
from faults.conftest import Scene
from faults.faults import FAULTS, Fault
from faults.page import PAGE, page
from faults.table import EXPECTED

DEADLINE = 60


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fault", "transport", "kind"), cells(slow=False))
async def test_a_fault(scene: Scene, fault: Fault, transport: str, kind: Kind) -> None:
    """The client gets what the table says at once, another call goes on, and the next one works."""
    assert await check(scene, fault, transport, kind) < SOON


def test_the_table_is_complete() -> None:
    """Every fault has an expected end on each of its wires for each kind of client, and there is no row too many."""
    assert {name: set(row) for name, row in EXPECTED.items()} == {
        fault.name: {(wire, kind) for wire in fault.wires for kind in kinds(fault)} for fault in FAULTS.values()
    }


def test_the_page_is_the_table() -> None:
    """docs/faults.md is what the table says; `make docs` writes it."""
    assert PAGE.read_text() == page()
