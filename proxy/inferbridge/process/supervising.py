"""A proxy of several workers, from its settings to its end."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from inferbridge.config import Listener, Settings
from inferbridge.config.showing import shown
from inferbridge.gateway import build
from inferbridge.gateway.calls.guard import Guard
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.clients.draining import has_time
from inferbridge.gateway.clients.listening import listening
from inferbridge.observe import admin
from inferbridge.posture import posture
from inferbridge.process.bound import Bound, Ready, Warn
from inferbridge.process.listeners import reserved
from inferbridge.process.reloading import Reloader, reloading
from inferbridge.process.source import Source
from inferbridge.process.supervisor import Supervisor
from inferbridge.process.together import Together


async def supervise(settings: Settings, ready: Ready, warn: Warn, source: Source) -> bool:
    """Serve with workers; true if calls were ended because a second signal came.

    OSError, ValueError or SettingsError when the workers cannot begin.
    """
    settings = source.read()  # what the workers get is this text
    lines = await _tried(settings)
    with reserved(settings.listen) as listen:
        supervisor = Supervisor(settings, source, listen)
        together = Together(supervisor, settings.workers)
        pages = admin.Admin(together, together, shown(settings))

        async with _admin_port(pages, settings.admin.listen) as where, _reloading(supervisor, together, pages, source):

            def serving() -> None:
                together.listening = tuple(map(str, listen))
                ready(Bound(tuple(listen), where))
                warn(lines)

            with _signals(supervisor):
                await supervisor.run(serving)
    return supervisor.cut_short


async def _tried(settings: Settings) -> list[str]:
    """What an operator should know; raises what a worker would, so that none of them has to find it out."""
    guard = _built(settings)
    await guard.close()
    return posture(settings, guard.access.chain.authenticators)


def _built(settings: Settings) -> Guard:
    if settings.tls.certificate is not None:
        ClientTls(settings.tls)
    return build.application(settings)


@asynccontextmanager
async def _admin_port(pages: admin.Admin, address: Listener | None) -> AsyncIterator[Listener | None]:
    if address is None:
        yield None
        return
    async with listening(pages, admin.LIMITS, address.host, address.port) as port:
        yield Listener(address.host, port)


@asynccontextmanager
async def _reloading(
    supervisor: Supervisor, together: Together, pages: admin.Admin, source: Source
) -> AsyncIterator[None]:
    """Have all workers read the settings again when they have changed, if they come from a file."""
    if source.file is None:
        yield
        return
    settings = supervisor.settings
    closing: set[asyncio.Task[None]] = set()

    def apply(wanted: Settings) -> None:
        if supervisor.stopping:
            raise ValueError("the proxy is stopping")
        if (wanted.tls.certificate is None) != (settings.tls.certificate is None):
            raise ValueError("tls.certificate: to begin or end serving over TLS takes a restart")
        closing.add(asyncio.get_running_loop().create_task(_built(wanted).close()))
        supervisor.renew()
        pages.config = shown(wanted)

    def counted(success: bool) -> None:
        together.own.reloaded(success=success)

    reloader = Reloader(settings, source.read, apply, counted)
    async with reloading(reloader.reload, source.file, watch=settings.reload.watch):
        yield


@contextmanager
def _signals(supervisor: Supervisor) -> Iterator[None]:
    """SIGTERM and SIGINT stop all workers."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(number: signal.Signals) -> None:
        supervisor.stop(delay=has_time(number))

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
