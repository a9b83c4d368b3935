"""Runs the gateway: settings in, a listening proxy out."""

import asyncio
import gc
import json
import logging
import os
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from inferbridge import addon
from inferbridge.bridge import allocator
from inferbridge.config import EXIT_CODE, Flags, Listener, ListenerTls, Log, Settings, SettingsError
from inferbridge.gateway import build
from inferbridge.posture import posture


def load(config: Path | None, **flags: Any) -> Settings:
    """The settings of file, environment and flags (fields of `Flags`); ends the program when they cannot be used."""
    try:
        return build.settings(config, os.environ, Flags(**flags))
    except SettingsError as error:
        click.echo(str(error), err=True)
        sys.exit(EXIT_CODE)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {"time": record.created, "level": record.levelname.lower(), "logger": record.name}
        entry["message"] = record.getMessage()
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _set_up_logging(log: Log) -> None:
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if log.format == "json" else text)
    logging.basicConfig(level=log.level.upper(), handlers=[handler])
    # mitmproxy tells of every connection; that is debugging
    logging.getLogger("mitmproxy").setLevel(
        max(logging.WARNING, logging.getLogger().level) if log.level != "debug" else 0
    )


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM."""
    _set_up_logging(settings.log)
    allocator.tune()
    gc.collect()
    gc.freeze()  # what was loaded stays; collections look only at what calls make
    gc.set_threshold(20_000, *gc.get_threshold()[1:])  # and calls leave no cycles, so there is little to find
    try:
        asyncio.run(_serve(settings, lambda addresses: _announce(settings, addresses), _warn))
    except (OSError, ValueError) as error:
        click.echo(f"cannot start: {error}", err=True)
        sys.exit(1)


def _announce(settings: Settings, addresses: list[addon.Address]) -> None:
    scheme = "https" if settings.tls.certificate else "http"
    for host, port in addresses:
        click.echo(f"listening on {scheme}://{Listener(host, port)}", err=True)


def check_certificate(tls: ListenerTls) -> None:
    """OSError when the certificate cannot be used: mitmproxy would log that and go on with one of its own."""
    if tls.certificate is None:
        return
    password = tls.passphrase.reveal() if tls.passphrase else ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, password=lambda: password)
    except OSError as error:
        raise OSError(f"certificate {tls.certificate}: {error.strerror or error}") from None


def _warn(lines: list[str]) -> None:
    for line in lines:
        click.echo(f"security: {line}", err=True)


async def _serve(settings: Settings, ready: addon.Ready, warn: Callable[[list[str]], None] = lambda _: None) -> None:
    check_certificate(settings.tls)
    application = build.application(settings)
    warn(posture(settings, application.access.chain.authenticators))
    listen = [(listener.host, listener.port) for listener in settings.listen]
    try:
        await addon.run(
            application,
            listen,
            settings.limits,
            settings.tls.certificate,
            _confdir(),
            ready,
            # who has a certificate wants it used: nobody may then send in the clear by mistake
            require_tls=settings.tls.certificate is not None,
            passphrase=settings.tls.passphrase.reveal() if settings.tls.passphrase else None,
        )
    finally:
        await application.close()


def _confdir() -> Path:
    """Where mitmproxy keeps the authority that signs certificates when none is given."""
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "inferbridge"


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Listener]:
    """A proxy in this event loop; the value is the address that it listens on."""
    bound: list[Listener] = []
    started = asyncio.Event()

    def ready(addresses: list[addon.Address]) -> None:
        bound.extend(Listener(host, port) for host, port in addresses)
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
