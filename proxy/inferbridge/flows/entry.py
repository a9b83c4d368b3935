"""The gateway inside mitmproxy's own tools, where its calls are seen as flows.

`mitm_entry.py` brings it into a mitmproxy that somebody has started; `inferbridge inspect` starts one with it.
"""

import logging
import os
from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader
from mitmproxy.connection import Client

from inferbridge.addon import GatewayAddon
from inferbridge.config import Settings
from inferbridge.config.kinds import parse_size
from inferbridge.flows.keeping import FlowKeeper
from inferbridge.gateway.calls.guard import Guard
from inferbridge.gateway.clients.client_tls import ClientTls
from inferbridge.gateway.records.recording import Recorder
from inferbridge.inspect import views
from inferbridge.observe.logs import DiscreetMessages
from inferbridge.own_specs import use_environments

_log = logging.getLogger(__name__)


class Entry(GatewayAddon):
    """The gateway, configured by options of mitmproxy; until it is, every connection is closed."""

    def __init__(self, settings: Settings | None = None) -> None:
        """With `settings` no file is read."""
        super().__init__()
        self.keeper: FlowKeeper | None = None
        self.guard: Guard | None = None
        self._path = ""
        self._settings = settings

    def load(self, loader: Loader) -> None:
        """Declare our options, add our views, and see to it that mitmproxy's own handlers show no secrets of ours."""
        views.register()
        for handler in logging.getLogger().handlers:
            if not any(isinstance(one, DiscreetMessages) for one in handler.filters):
                handler.addFilter(DiscreetMessages())
        self.keeper = FlowKeeper(loader.master.addons, loader.master.options)
        loader.add_option("inferbridge_config", str, "", "Configuration file of inferbridge.")
        loader.add_option(
            "inferbridge_memory", str, "64MiB", "Memory of the calls that are shown; the oldest go first."
        )
        loader.add_option("inferbridge_message", str, "1MiB", "What is kept of each message.")
        if self._settings is not None:
            self._use(self._settings)

    def configure(self, updated: set[str]) -> None:
        """Read the configuration; a broken one stops mitmproxy at start and leaves a running one as it was."""
        super().configure(updated)
        if self.keeper is not None and updated & {"inferbridge_memory", "inferbridge_message"}:
            self.keeper.resize(_size("inferbridge_memory"), _size("inferbridge_message"))
        path = ctx.options.inferbridge_config
        if path and path != self._path:  # mitmproxy sets the old value again after an error
            self._read(path)

    async def client_connected(self, client: Client) -> None:
        """Its calls are shown with what is known of it."""
        await super().client_connected(client)
        if self.keeper is not None:
            self.keeper.connected(client)

    def client_disconnected(self, client: Client) -> None:
        """It makes no more calls."""
        super().client_disconnected(client)
        if self.keeper is not None:
            self.keeper.disconnected(client)

    def _read(self, path: str) -> None:
        try:
            use_environments(os.environ)
            from inferbridge.gateway import build  # only here: it brings in every generated module

            settings = build.settings(Path(path), os.environ)
            if settings.admin.listen is not None:
                _log.warning("admin.listen has no effect here; only `inferbridge proxy` has an admin port")
            if settings.access_log.enabled:
                _log.warning("access_log has no effect here; only `inferbridge proxy` writes one")
            if settings.capture.enabled:
                _log.warning("capture has no effect here; only `inferbridge proxy` captures payloads")
            if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
                _log.warning("OTEL_* has no effect here; only `inferbridge proxy` sends traces and metrics")
            self._use(settings)
            self._path = path
        except Exception as error:
            raise exceptions.OptionsError(f"inferbridge_config: {error}") from error

    def _use(self, settings: Settings) -> None:
        from inferbridge.gateway import build  # as above

        assert self.keeper is not None
        client_tls = ClientTls(settings.tls) if settings.tls.certificate else None
        self.guard = build.application(settings)
        self.application = Recorder(self.guard, [self.keeper], [self.keeper])
        self.limits, self.client_tls, self.require_tls = settings.limits, client_tls, client_tls is not None
        addresses = {one.name: (one.url.host, one.url.port) for one in settings.upstreams}
        self.keeper.know(addresses, settings.auth.headers if settings.auth else ())


def _size(option: str) -> int:
    text = getattr(ctx.options, option)
    size = parse_size(text)
    if not size:
        raise exceptions.OptionsError(f"{option}: {text!r} is no size; write one such as 64MiB")
    return size
