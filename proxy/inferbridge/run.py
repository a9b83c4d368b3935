"""Runs the gateway: settings in, a listening proxy out."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from inferbridge import event_loop
from inferbridge.config import EXIT_CODE, Flags, Listener, Settings, SettingsError
from inferbridge.gateway import build
from inferbridge.gateway.clients.listening import listening
from inferbridge.observe import admin
from inferbridge.process.bound import Bound, Ready, Warn
from inferbridge.process.proxy import Proxy, prepare, proxying
from inferbridge.process.reloading import Reloader, reloading
from inferbridge.process.source import Source
from inferbridge.process.supervising import supervise
from inferbridge.process.worker import CUT_SHORT

NO_FLAGS = Flags()
_log = logging.getLogger(__name__)


def load(config: Path | None, **flags: Any) -> Settings:
    """The settings of file, environment and flags (fields of `Flags`); ends the program when they cannot be used."""
    try:
        return build.settings(config, os.environ, Flags(**flags))
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CODE)


def serve(settings: Settings, config: Path | None = None, flags: Flags = NO_FLAGS) -> None:
    """Serve until SIGINT or SIGTERM; `config` and `flags` are what `settings` were read from."""
    prepare(settings)
    source = Source(config, flags)
    serving = supervise if settings.workers > 1 else _serve
    try:
        loop = event_loop.choose(settings.event_loop)
        _log.debug("the event loop is %s", loop)
        cut_short = event_loop.run(serving(settings, lambda bound: _announce(settings, bound), warn, source), loop)
    except (OSError, ValueError, SettingsError) as error:
        click.echo(f"cannot start: {error}", err=True)
        sys.exit(1)
    if cut_short:
        sys.exit(CUT_SHORT)


def _announce(settings: Settings, bound: Bound) -> None:
    scheme = "https" if settings.tls.certificate else "http"
    for listener in bound.listen:
        click.echo(f"listening on {scheme}://{listener}", err=True)
    if bound.admin is not None:
        click.echo(f"admin port on http://{bound.admin}", err=True)
        if not bound.admin.loopback:
            click.echo("other machines can read health, metrics and settings (no secrets) at the admin port", err=True)


def warn(lines: list[str]) -> None:
    """What nobody should overlook, on stderr."""
    for line in lines:
        click.echo(f"security: {line}", err=True)


async def _serve(
    settings: Settings,
    ready: Ready,
    warn: Warn = lambda _: None,
    source: Source | None = None,
) -> bool:
    """Serve; true if calls were ended because a second signal came."""
    async with proxying(settings) as proxy:

        def bound(where: Bound) -> None:
            ready(where)
            warn(proxy.posture())

        async with _reloading(proxy, source), _observed(proxy, bound) as started:
            await proxy.serve(
                settings.listen, lambda found: started(Bound(tuple(Listener(host, port) for host, port in found)))
            )
        return proxy.stopper.cut_short


@asynccontextmanager
async def _reloading(proxy: Proxy, source: Source | None) -> AsyncIterator[None]:
    """Read the settings again when they have changed, if they come from a file."""
    if source is None or source.file is None:
        yield
        return
    metrics = proxy.metrics
    counted = (lambda success: metrics.reloaded(success=success)) if metrics is not None else (lambda success: None)
    reloader = Reloader(proxy.settings, source.read, proxy.apply, counted)
    async with reloading(reloader.reload, source.file, watch=proxy.settings.reload.watch):
        yield


@asynccontextmanager
async def _observed(proxy: Proxy, ready: Ready) -> AsyncIterator[Ready]:
    """Serve the admin port, if there is one; the value is who wants to know where clients can connect."""
    address = proxy.settings.admin.listen
    if address is None or proxy.admin is None:
        yield ready
        return
    async with listening(proxy.admin, admin.LIMITS, address.host, address.port) as port:

        def started(bound: Bound) -> None:
            proxy.health.listening = tuple(map(str, bound.listen))
            ready(Bound(bound.listen, Listener(address.host, port)))

        yield started


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Listener]:
    """A proxy in this event loop; the value is the address that it listens on."""
    async with serving(settings) as bound:
        yield bound.listen[0]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Bound]:
    """A proxy in this event loop; the value is all addresses that it listens on."""
    bound: list[Bound] = []
    started = asyncio.Event()

    def ready(where: Bound) -> None:
        bound.append(where)
        started.set()

    task = asyncio.create_task(_serve(settings, ready))
    task.add_done_callback(lambda _: started.set())
    await started.wait()
    if not bound:
        await task
    try:
        yield bound[0]
    finally:
        task.cancel()
        await asyncio.wait({task})


def run_tour(listen: str | None, *, keep: bool) -> int:
    """The demo; answers its exit code. With `keep` it goes on serving until Ctrl-C."""
    from inferbridge.demo.tour import ANY_PORT, run_demo

    async def run() -> int:
        host, _, port = (listen or str(ANY_PORT)).rpartition(":")
        address = Listener(host or ANY_PORT.host, int(port))
        return await run_demo(running, sys.stdout, address, asyncio.Event() if keep else None)

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        return 0
    except (OSError, ValueError) as error:
        click.echo(f"cannot start the demo: {error}", err=True)
        return 1
