"""Entry for mitmproxy's own tools: `mitmdump -s proxy/mitm_entry.py --set inferbridge_config=inferbridge.yaml`.

Outside the package on purpose: mitmproxy runs the file as a script.
"""

import logging
import os
from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from inferbridge.addon import GatewayAddon
from inferbridge.gateway.client_tls import ClientTls
from inferbridge.inspect import views
from inferbridge.observe.logs import DiscreetMessages
from inferbridge.own_specs import use_environments

_log = logging.getLogger(__name__)


class Entry(GatewayAddon):
    """The gateway, configured by a mitmproxy option; until it is, every connection is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._path = ""

    def load(self, loader: Loader) -> None:
        """Declare the option, add our views, and see to it that mitmproxy's own handlers show no secrets of ours."""
        views.register()
        for handler in logging.getLogger().handlers:
            if not any(isinstance(one, DiscreetMessages) for one in handler.filters):
                handler.addFilter(DiscreetMessages())
        loader.add_option("inferbridge_config", str, "", "Configuration file of inferbridge.")

    def configure(self, updated: set[str]) -> None:
        """Read the configuration; a broken one stops mitmproxy at start and leaves a running one as it was."""
        super().configure(updated)
        path = ctx.options.inferbridge_config
        if path and path != self._path:  # mitmproxy sets the old value again after an error
            self._read(path)

    def _read(self, path: str) -> None:
        try:
            use_environments(os.environ)
            from inferbridge.gateway import build  # only here: it brings in every generated module

            settings = build.settings(Path(path), os.environ)
            if settings.admin.listen is not None:
                _log.warning("admin.listen has no effect here; only `inferbridge proxy` has an admin port")
            if settings.capture.enabled:
                _log.warning("capture has no effect here; only `inferbridge proxy` captures payloads")
            if settings.access_log.enabled:
                _log.warning("access_log has no effect here; only `inferbridge proxy` writes one")
            if any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
                _log.warning("OTEL_* has no effect here; only `inferbridge proxy` sends traces and metrics")
            client_tls = ClientTls(settings.tls) if settings.tls.certificate else None
            self.application, self.limits, self._path = build.application(settings), settings.limits, path
            self.client_tls, self.require_tls = client_tls, client_tls is not None
        except Exception as error:
            raise exceptions.OptionsError(f"inferbridge_config: {error}") from error


addons = [Entry()]
