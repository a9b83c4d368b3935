"""Runs the gateway: settings in, a listening proxy out."""

import asyncio
import gc
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from inferbridge import addon
from inferbridge.bridge import allocator
from inferbridge.capture.build import capturing
from inferbridge.config import EXIT_CODE, Flags, Listener, Settings, SettingsError
from inferbridge.config.showing import shown
from inferbridge.gateway import build
from inferbridge.gateway.application import Application
from inferbridge.gateway.client_tls import ClientTls
from inferbridge.gateway.counters import NO_COUNTERS, Counters
from inferbridge.gateway.listening import listening
from inferbridge.gateway.recording import Observer, Recorder
from inferbridge.gateway.service import GatewayService
from inferbridge.observe import admin, logs, otlp
from inferbridge.observe.access_log import AccessLog
from inferbridge.observe.health import Health
from inferbridge.observe.metrics import Metrics
from inferbridge.observe.versions import versions
from inferbridge.posture import posture


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a proxy really listens."""

    listen: tuple[Listener, ...]
    admin: Listener | None = None


type Ready = Callable[[Bound], None]
"""Is told where, once clients can connect."""


def load(config: Path | None, **flags: Any) -> Settings:
    """The settings of file, environment and flags (fields of `Flags`); ends the program when they cannot be used."""
    try:
        return build.settings(config, os.environ, Flags(**flags))
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CODE)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    logs.set_up(settings.log.level, settings.log.format)
    allocator.tune()
    gc.collect()
    gc.freeze()  # what was loaded stays; collections look only at what calls make
    gc.set_threshold(20_000, *gc.get_threshold()[1:])  # and calls leave no cycles, so there is little to find
    try:
        asyncio.run(_serve(settings, lambda bound: _announce(settings, bound), warn))
    except (OSError, ValueError) as error:
        click.echo(f"cannot start: {error}", err=True)
        sys.exit(1)


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


async def _serve(settings: Settings, ready: Ready, warn: Callable[[list[str]], None] = lambda _: None) -> None:
    async with otlp.sending(os.environ) as telemetry:
        await _serve_observed(settings, telemetry, ready, warn)


async def _serve_observed(
    settings: Settings, telemetry: tuple[Observer, ...], ready: Ready, warn: Callable[[list[str]], None]
) -> None:
    client_tls = ClientTls(settings.tls) if settings.tls.certificate else None
    metrics = Metrics(versions()) if settings.admin.listen is not None else None
    service = build.service(settings, metrics or NO_COUNTERS)
    guard = build.guard(settings, service, metrics or NO_COUNTERS)
    access_log = AccessLog(_to_stdout, asyncio.get_running_loop().call_soon) if settings.access_log.enabled else None
    wanted: tuple[Observer | None, ...] = (access_log, metrics.calls if metrics is not None else None)

    def bound(where: Bound) -> None:
        ready(where)
        warn(posture(settings, guard.access.chain.authenticators))

    try:
        async with (
            capturing(settings.capture, metrics) as capturer,
            _observed(settings, service, metrics, bound) as started,
        ):
            observers = [one for one in (*telemetry, *wanted, capturer) if one is not None]
            recorder = Recorder(guard, observers, [capturer] if capturer is not None else [])
            # a record, and an id of its own, cost a call time: it has them where somebody reads them
            await _run(settings, recorder if observers else guard, client_tls, started, metrics or NO_COUNTERS)
    finally:
        await guard.close()
        if access_log is not None:
            access_log.flush()


def _to_stdout(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


@asynccontextmanager
async def _observed(
    settings: Settings, service: GatewayService, metrics: Metrics | None, ready: Ready
) -> AsyncIterator[Ready]:
    """Serve the admin port, if there is one; the value is who wants to know where clients can connect."""
    address = settings.admin.listen
    if address is None or metrics is None:
        yield ready
        return
    health = Health(service.upstreams, [upstream.name for upstream in settings.upstreams])
    pages = admin.Admin(health, metrics, shown(settings))
    async with listening(pages, admin.LIMITS, address.host, address.port) as port:

        def started(bound: Bound) -> None:
            health.listening = tuple(map(str, bound.listen))
            ready(Bound(bound.listen, Listener(address.host, port)))

        yield started


async def _run(
    settings: Settings, application: Application, client_tls: ClientTls | None, ready: Ready, counters: Counters
) -> None:
    await addon.run(
        application,
        [(listener.host, listener.port) for listener in settings.listen],
        settings.limits,
        client_tls,
        addon.state_folder(),
        lambda addresses: ready(Bound(tuple(Listener(host, port) for host, port in addresses))),
        # who has a certificate wants it used: nobody may then send in the clear by mistake
        require_tls=client_tls is not None,
        counters=counters,
    )


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
