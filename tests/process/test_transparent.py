"""Clients that are redirected by the kernel, in a network namespace with a rule of nftables."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from process.running import Process, proxy, until

CLIENT = 65534
"""Whose connections are redirected; the proxy's own must not be."""
PORT = 18080
RULES = f"""
set -e
ip link set lo up
ip addr add 10.9.0.1/32 dev lo
ip addr add 10.9.0.2/32 dev lo
nft add table ip t
nft 'add chain ip t out {{ type nat hook output priority -100; }}'
nft add rule ip t out meta skuid {CLIENT} ip daddr '{{ 10.9.0.1, 10.9.0.2 }}' tcp dport 8000-9000 redirect to :{PORT}
echo ready
exec sleep 3600
"""
COMPLETION = '{"model": "m", "prompt": "a", "max_tokens": 2}'


def _impossible() -> str:
    """Why this cannot be tested here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "takes root on Linux"
    missing = [name for name in ("unshare", "nsenter", "setpriv", "ip", "nft", "curl") if shutil.which(name) is None]
    return f"needs {', '.join(missing)} (Debian: iproute2, nftables, util-linux)" if missing else ""


@asynccontextmanager
async def network() -> AsyncIterator[tuple[str, ...]]:
    """A network of its own; the beginning of commands that run in it."""
    if reason := _impossible():
        pytest.skip(reason)
    holder = await asyncio.create_subprocess_exec("unshare", "-n", "sh", "-c", RULES, stdout=-1, stderr=-1)
    assert holder.stdout is not None
    assert holder.stderr is not None
    try:
        if await holder.stdout.readline() != b"ready\n":
            pytest.skip(f"no network namespace with nftables here: {(await holder.stderr.read()).decode().strip()}")
        yield ("nsenter", "-t", str(holder.pid), "-n")
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.communicate()


@asynccontextmanager
async def mock(inside: tuple[str, ...], runtime: str, port: int) -> AsyncIterator[None]:
    """A mocked runtime in the network."""
    command = (
        *inside,
        sys.executable,
        "-m",
        "inferbridge.cli",
        "mock",
        runtime,
        "--listen",
        "10.9.0.1",
        "--grpc",
        str(port),
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=-1, stderr=-3)
    assert process.stdout is not None
    try:
        lines = []
        while not any(f":{port}" in line for line in lines):
            line = (await process.stdout.readline()).decode()
            assert line, "".join(lines)
            lines.append(line)
        yield
    finally:
        process.kill()
        await process.communicate()


async def ask(inside: tuple[str, ...], address: str, *arguments: str) -> tuple[int, str]:
    """Exit code of curl, run as a client, and what it prints."""
    client = ("setpriv", "--reuid", str(CLIENT), "--clear-groups")
    command = (*inside, *client, "curl", "-sS", "--max-time", "20", "-w", " %{http_code}", *arguments, address)
    process = await asyncio.create_subprocess_exec(*command, stdout=-1, stderr=-1)
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_redirected_clients_reach_the_upstream_that_they_meant(tmp_path: Path) -> None:
    """REST calls to the addresses of gRPC runtimes are answered each by its own; other destinations are closed."""
    path = tmp_path / "inferbridge.yaml"
    path.write_text(
        f"listen: [{{address: '0.0.0.0:{PORT}', transparent: true}}]\n"
        "allow_unauthenticated: true\n"
        "upstreams: ['tgis=grpc://10.9.0.1:8033', 'triton=grpc://10.9.0.1:8034']\n"
    )
    async with (
        network() as inside,
        mock(inside, "tgis", 8033),
        mock(inside, "triton", 8034),
        proxy("-c", str(path), prefix=inside, admin=False, listen=()) as running,
    ):
        completion = ("--json", COMPLETION)
        code, text = await ask(inside, "http://10.9.0.1:8033/v1/completions", *completion)
        assert (code, text[-4:]) == (0, " 200"), text
        code, text = await ask(inside, "http://10.9.0.1:8034/v2")
        assert (code, text[-4:]) == (0, " 200"), text
        for wrong in (
            await ask(inside, "http://10.9.0.1:8034/v1/completions", *completion),
            await ask(inside, "http://10.9.0.1:8033/v2"),
        ):
            assert wrong[0] == 0
            assert wrong[1][-4:] not in (" 200", " 000"), wrong
        await nowhere(inside, running)


async def nowhere(inside: tuple[str, ...], running: Process) -> None:
    """What is redirected without meaning an upstream, and what comes by itself, gets no byte."""
    for address in ("10.9.0.2:8033", "10.9.0.1:8035", f"10.9.0.1:{PORT}"):
        code, text = await ask(inside, f"http://{address}/v2", "-H", "host: 10.9.0.1:8034")
        assert code in (52, 56), (address, code)  # closed without an answer
        assert text == " 000"
    await until(lambda: sum("connection from" in line for line in running.lines) >= 3)
    assert any("10.9.0.2:8033 is no upstream's address" in line for line in running.lines)
