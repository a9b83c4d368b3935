"""Settings of the proxy: one YAML file, the environment and flags, read into `Settings`."""

from inferbridge.config.load import EXIT_CODE, SettingsError, load_settings, parse_upstream
from inferbridge.config.sources import Flags, environment_names
from inferbridge.config.values import AccessLog, Admin, Drain, Listener, ListenerTls, Log, Reload, Settings, Upstream

__all__ = [
    "EXIT_CODE",
    "AccessLog",
    "Admin",
    "Drain",
    "Flags",
    "Listener",
    "ListenerTls",
    "Log",
    "Reload",
    "Settings",
    "SettingsError",
    "Upstream",
    "environment_names",
    "load_settings",
    "parse_upstream",
]
