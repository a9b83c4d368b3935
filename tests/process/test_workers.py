"""A running proxy of several workers: they share the work, and none takes the others with it."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import grpc
import pytest

from gateway.serving import curl
from process.running import Process, config, grpc_stream, grpc_unary, http_call, proxy, runtime, until

RESTARTS, WORKERS = "inferbridge_worker_restarts_total", "inferbridge_workers"


def workers(running: Process) -> list[int]:
    """Process numbers of the workers that are alive."""
    parent = running.process.pid
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(number) for number in text.split()]


def connected(worker: int) -> set[str]:
    """The sockets that a process has open."""
    found = set()
    for entry in Path(f"/proc/{worker}/fd").iterdir():
        try:
            found.add(os.readlink(entry))  # noqa: PTH115 - it is no path
        except OSError:
            continue
    return {one for one in found if one.startswith("socket:")}


async def requests(running: Process) -> float:
    """Calls that all workers have counted."""
    text = (await curl(f"http://127.0.0.1:{running.admin}/metrics")).decode()
    lines = [line for line in text.splitlines() if line.startswith("inferbridge_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def test_their_metrics_are_added_up(tmp_path: Path) -> None:
    """Calls over many connections reach more than one worker; one page has the sum, and readiness is that of all."""
    async with runtime() as backend:
        backend.gate.set()
        async with proxy("-c", str(config(tmp_path, backend.url)), "--workers", "2") as running:
            assert len(workers(running)) == 2
            before = [len(connected(worker)) for worker in workers(running)]
            held = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(40)]
            await until(lambda: sum(len(connected(one)) for one in workers(running)) >= sum(before) + 40)
            after = [len(connected(worker)) for worker in workers(running)]
            assert all(now > then for now, then in zip(after, before, strict=True)), "the kernel gave all to one"
            for head, _ in await asyncio.gather(*(http_call(running.port, close=True) for _ in range(20))):
                assert head.startswith("HTTP/1.1 200")
            assert await requests(running) == 20
            assert await running.metric(WORKERS) == 2
            assert await running.metric(RESTARTS) == 0
            status, page = await running.page("readyz")
            assert (status, page["workers"]) == (200, {"wanted": 2, "serving": 2, "ready": 2})
            assert page["listening"] == [f"127.0.0.1:{running.port}"]
            for _, writer in held:
                writer.close()


async def in_each(running: Process) -> list[asyncio.Task[tuple[int, grpc.StatusCode]]]:
    """Streams over connections of their own, enough for all workers to have some."""

    async def stream() -> tuple[int, grpc.StatusCode]:
        async with running.channel() as channel:
            return await grpc_stream(channel)

    return [asyncio.create_task(stream()) for _ in range(16)]


async def test_a_worker_that_dies_loses_only_its_own(tmp_path: Path) -> None:
    """Killed, a worker's streams end, those of the other go on; it is replaced, and what it counted stays counted."""
    async with runtime() as backend, proxy("-c", str(config(tmp_path, backend.url)), "--workers", "2") as running:
        backend.gate.set()
        for head, _ in await asyncio.gather(*(http_call(running.port, close=True) for _ in range(10))):
            assert head.startswith("HTTP/1.1 200")
        assert await requests(running) == 10
        backend.gate.clear()
        streams = await in_each(running)
        await backend.has(16)
        victim, other = workers(running)
        os.kill(victim, signal.SIGKILL)
        await running.says("has ended with signal 9; another is started")
        await until(lambda: any(one.done() for one in streams))
        await until(lambda: len(workers(running)) == 2 and victim not in workers(running))
        backend.gate.set()
        ends = [await one for one in streams]
        assert other in workers(running)
        assert set(ends) == {(2, grpc.StatusCode.OK), (1, grpc.StatusCode.UNAVAILABLE)}
        assert await requests(running) >= 10
        assert await running.metric(RESTARTS) == 1
        await running.counts(WORKERS, 2)
        async with running.channel() as channel:
            assert await grpc_unary(channel) is grpc.StatusCode.OK


async def test_all_of_them_drain(tmp_path: Path) -> None:
    """On SIGTERM readiness falls at once, the calls of every worker finish, and the whole exits with 0."""
    async with runtime() as backend:
        settings = config(tmp_path, backend.url, "drain: {delay: 200ms}")
        async with proxy("-c", str(settings), "--workers", "2") as running:
            streams = await in_each(running)
            await backend.has(16)
            running.send(signal.SIGTERM)
            await running.says("calls in flight have up to 30 s", 2)
            status, page = await running.page("readyz")
            assert (status, page["stopping"]) == (503, True)
            backend.gate.set()
            assert {await one for one in streams} == {(2, grpc.StatusCode.OK)}
            assert await running.ended() == 0
            await running.says("no call was cut off", 2)


async def test_settings_reach_all_of_them(tmp_path: Path) -> None:
    """A good change is in force in each worker, a worker started later has it too; a broken file changes nothing."""
    async with runtime("lo") as one, runtime("p") as two:
        one.gate.set()
        two.gate.set()
        path = config(tmp_path, one.url)
        async with proxy("-c", str(path), "--workers", "2") as running:
            config(tmp_path, two.url)
            await running.says("the configuration is reloaded: new upstreams")
            path.write_text("upstreams: [\n")
            await running.says(f"what was in force still is: {path}:2:")
            assert await running.metric('inferbridge_config_reloads_total{result="success"}') == 1
            assert await running.metric('inferbridge_config_reloads_total{result="failure"}') == 1
            os.kill(workers(running)[0], signal.SIGKILL)
            await running.says("another is started")
            await running.counts(WORKERS, 2)
            for _, body in await asyncio.gather(*(http_call(running.port, close=True) for _ in range(20))):
                assert "Help" in body
            assert one.calls == 0


async def test_an_address_in_use_stops_the_start(tmp_path: Path) -> None:
    """Workers do not share the port of a stranger, even one that would share it: the start fails and names it."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        arguments = ("--workers", "2", "--listen", f"127.0.0.1:{port}", "--upstream", "triton=grpc://127.0.0.1:9")
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address already"):
            async with proxy(*arguments, admin=False):
                pass


async def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """When the supervisor is killed no worker stays behind on the port."""
    async with proxy("--workers", "2", "--upstream", "triton=grpc://127.0.0.1:9") as running:
        left = workers(running)
        running.send(signal.SIGKILL)
        await running.ended()
        await until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in left))
