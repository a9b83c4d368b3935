"""Entry for mitmproxy's own tools: `mitmdump -s proxy/mitm_entry.py --set inferbridge_config=inferbridge.yaml`.

Outside the package on purpose: mitmproxy runs the file as a script.
"""

from pathlib import Path

from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from inferbridge.addon import GatewayAddon


class Entry(GatewayAddon):
    """The gateway, configured by a mitmproxy option; until it is, every connection is closed."""

    def load(self, loader: Loader) -> None:
        """Declare the option."""
        loader.add_option("inferbridge_config", str, "", "Configuration file of inferbridge.")

    def configure(self, updated: set[str]) -> None:
        """Read the configuration; a broken one stops mitmproxy at start and leaves a running one as it was."""
        super().configure(updated)
        if "inferbridge_config" in updated and ctx.options.inferbridge_config:
            self._read(Path(ctx.options.inferbridge_config))

    def _read(self, path: Path) -> None:
        from inferbridge.gateway import build  # only here: it brings in every generated module

        try:
            settings = build.settings(path)
            self.application, self.limits = build.application(settings), settings.limits
        except Exception as error:
            raise exceptions.OptionsError(f"inferbridge_config: {error}") from error


addons = [Entry()]
