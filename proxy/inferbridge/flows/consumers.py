"""Who wants to see flows, among the addons of a mitmproxy."""

from types import ModuleType
from typing import Any

from mitmproxy.addonmanager import AddonManager, traverse
from mitmproxy.options import Options

HOOKS = ("requestheaders", "request", "responseheaders", "response", "error", "update")
_FILES = ("save_stream_file", "hardump")
"""Options of mitmproxy that write flows to a file."""


def wanted(addons: AddonManager, options: Options) -> bool:
    """Whether anybody does: an interface that lists flows, mitmdump's lines, a file, or somebody's own addon.

    Most of mitmproxy's own addons have such hooks all the time, and do nothing in them.
    """
    if addons.get("view") is not None:
        return True
    if addons.get("dumper") is not None and options.flow_detail:
        return True
    if any(name in options and getattr(options, name) for name in _FILES):
        return True
    return any(_is_foreign(addon) and _has_hooks(addon) for addon in traverse(addons.chain))


def _is_foreign(addon: Any) -> bool:
    # a script is its module
    name = addon.__name__ if isinstance(addon, ModuleType) else type(addon).__module__
    return not name.startswith(("mitmproxy.", "inferbridge."))


def _has_hooks(addon: Any) -> bool:
    return any(callable(getattr(addon, name, None)) for name in HOOKS)
