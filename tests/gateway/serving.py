"""A gateway on a real socket inside the test's event loop, and a canary where mitmproxy would forward to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from inferbridge import addon
from inferbridge.config import Listener, ListenerTls
from inferbridge.gateway.application import Application
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.limits import Limits

TIMEOUT = 10


async def run(
    application: Application,
    listen: Sequence[addon.Address],
    limits: Limits,
    client_tls: ClientTls | None,
    confdir: Path,
    ready: addon.Ready,
    *,
    require_tls: bool = False,
) -> None:
    """As `addon.serve`, with an addon of its own that is stopped at once; `listen` holds (host, port)."""
    gateway = addon.GatewayAddon(
        application, limits, client_tls=client_tls, require_tls=require_tls, name=addon.NEXT_LAYER
    )
    await addon.serve(gateway, [Listener(host, port) for host, port in listen], confdir, ready)


@asynccontextmanager
async def serving(
    application: Application,
    confdir: Path,
    *,
    limits: Limits | None = None,
    certificate: Path | None = None,
    require_tls: bool = False,
    client_tls: ClientTls | None = None,
) -> AsyncIterator[int]:
    """Run the gateway; gives its port. `client_tls` is made of `certificate` unless given."""
    if client_tls is None and certificate is not None:
        client_tls = ClientTls(ListenerTls(certificate))
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        run(
            application,
            [("127.0.0.1", 0)],
            limits or Limits(),
            client_tls,
            confdir,
            lambda addresses: bound.set_result(addresses[0][1]),
            require_tls=require_tls,
        )
    )
    try:
        either: set[asyncio.Future[Any]] = {task, bound}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED, timeout=TIMEOUT)
        if not bound.done():
            await task
        yield bound.result()
    finally:
        task.cancel()
        await asyncio.wait([task])


class Canary:
    """A server that nobody may ever connect to."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Canary"]:
        """Count connections."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()


async def talk(port: int, data: bytes) -> bytes:
    """Send bytes, and give what comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(TIMEOUT):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def curl(*arguments: str) -> bytes:
    """What curl prints."""
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "--max-time", str(TIMEOUT), *arguments, stdout=-1, stderr=-1
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output
