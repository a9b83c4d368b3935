"""Runs one of mitmproxy's own tools with the gateway in it."""

import asyncio
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.exceptions import OptionsError
from mitmproxy.master import Master
from mitmproxy.options import Options

from inferbridge import addon
from inferbridge.bridge import allocator
from inferbridge.config import Settings
from inferbridge.flows.choosing import choose
from inferbridge.flows.entry import Entry
from inferbridge.inspect.filters import Filter
from inferbridge.observe import logs
from inferbridge.posture import posture
from inferbridge.run import warn


@dataclass(frozen=True, slots=True)
class Look:
    """How calls are to be seen."""

    tool: Literal["web", "console", "dump"] = "web"
    web_port: int = 8081
    open_browser: bool = False
    detail: int = 1
    """Of what `dump` prints, 0 to 4."""
    read: Path | None = None
    """A file of recorded calls."""
    save: Path | None = None
    only: Filter | None = None
    """Which calls; None: all."""
    memory: str = "64MiB"
    message: str = "1MiB"

    @property
    def options(self) -> dict[str, Any]:
        """Of mitmproxy."""
        tools: Mapping[str, dict[str, Any]] = {
            "web": {
                "web_port": self.web_port,
                "web_host": "127.0.0.1",
                "web_open_browser": self.open_browser,
            },
            "console": {},
            "dump": {"flow_detail": self.detail, "keepserving": self.read is None},
        }
        return {
            **tools[self.tool],
            "inferbridge_memory": self.memory,
            "inferbridge_message": self.message,
            "rfile": str(self.read) if self.read is not None else None,
            "save_stream_file": str(self.save) if self.save is not None else None,
            "onboarding": False,
        }


def show(settings: Settings | None, look: Look) -> None:
    """Until SIGINT or SIGTERM, or where a file is printed until its end; without `settings` there is no gateway."""
    if look.tool == "console":  # it owns the terminal, and lists what is logged itself
        logging.getLogger().setLevel(logging.WARNING)
    else:
        logs.set_up(settings.log.level if settings else "info", settings.log.format if settings else "text")
    allocator.tune()
    try:
        asyncio.run(_show(settings, look))
    except (OSError, ValueError, OptionsError) as error:
        # mitmproxy advises its own option
        click.echo(f"cannot start: {error}".replace("--set web_port=", "--web-port "), err=True)
        sys.exit(1)


async def _show(settings: Settings | None, look: Look) -> None:
    master = _master(look.tool)
    entry = Entry(settings)
    master.addons.add(entry)
    if settings is not None and entry.guard is not None:
        warn(posture(settings, entry.guard.access.chain.authenticators))
    if look.tool != "console":  # which says it itself, and would be written over
        master.addons.add(_Started(master, settings))
    listening: dict[str, Any] = {"server": False, "confdir": str(addon.state_folder())}
    if settings is not None:
        addresses = [(listener.host, listener.port) for listener in settings.listen]
        # who may connect is for our own settings to say
        listening = {**addon.listening_options(addresses, settings.limits, addon.state_folder()), "block_global": False}
    master.options.update(**listening, **look.options)
    if look.only is not None:
        choose(master.addons, look.only)
    try:
        with addon.signals(master.shutdown, getattr(master, "prompt_for_exit", None)):
            await master.run()
    finally:
        proxyserver = master.addons.get("proxyserver")
        if isinstance(proxyserver, Proxyserver):
            await addon.close(proxyserver)
        if entry.guard is not None:
            await entry.guard.close()


def _master(tool: str) -> Master:
    """One that has told nobody's terminal of its own log."""
    options = Options()
    if tool == "console":
        from mitmproxy.tools.console.master import ConsoleMaster

        return ConsoleMaster(options)
    if tool == "dump":
        from mitmproxy.tools.dump import DumpMaster

        return DumpMaster(options, with_termlog=False)
    from mitmproxy.tools.web.master import WebMaster

    return WebMaster(options, with_termlog=False)


class _Started:
    """Says where everything is, once it is there."""

    def __init__(self, master: Master, settings: Settings | None) -> None:
        self._master, self._settings = master, settings

    def running(self) -> None:
        proxyserver = self._master.addons.get("proxyserver")
        scheme = "https" if self._settings is not None and self._settings.tls.certificate else "http"
        for server in proxyserver.servers if isinstance(proxyserver, Proxyserver) else ():
            for host, port, *_ in server.listen_addrs:
                click.echo(f"listening on {scheme}://{f'[{host}]' if ':' in host else host}:{port}", err=True)
        if (url := getattr(self._master, "web_url", None)) is not None:
            click.echo(f"calls are shown at {url}", err=True)
