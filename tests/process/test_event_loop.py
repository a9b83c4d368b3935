"""A running proxy of either event loop, whatever loop the tests have."""

from pathlib import Path

import pytest

from process.running import config, http_call, proxy, runtime
from process.test_workers import workers


def has_uvloop(process: int) -> bool:
    """Whether a process has loaded it."""
    return "/uvloop/" in Path(f"/proc/{process}/maps").read_text()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("count", ["1", "2"])
async def test_all_of_it_runs_in_the_loop_asked_for(loop: str, count: str, tmp_path: Path) -> None:
    """The proxy and each of its workers have the loop of the settings, which `/version` names."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    async with runtime() as backend:
        backend.gate.set()
        flags = ("--event-loop", loop, "--workers", count)
        async with proxy("-c", str(config(tmp_path, backend.url)), *flags) as running:
            head, _ = await http_call(running.port, close=True)
            assert head.startswith("HTTP/1.1 200")
            _, page = await running.page("version")
            assert page["event_loop"].split()[0] == loop
            processes = [running.process.pid, *workers(running)]
            assert len(processes) == (1 if count == "1" else 3)
            assert set(map(has_uvloop, processes)) == {loop == "uvloop"}
