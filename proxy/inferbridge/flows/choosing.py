"""Shows the calls alone that a filter lets through (`inspect.filters`), in whatever interface a mitmproxy has."""

from typing import Any

from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.dumper import Dumper
from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.http import HTTPFlow

from inferbridge.inspect.filters import Filter
from inferbridge.inspect.told import FLOW_KEY
from inferbridge.recorded.exchanges import exchange_of


def choose(addons: AddonManager, wanted: Filter) -> None:
    """From now on. A filter that somebody sets in the interface replaces this one."""
    view, dumper = addons.get("view"), addons.get("dumper")
    if isinstance(view, View):
        view.set_filter(Chosen(wanted))
    if isinstance(dumper, Dumper):
        dumper.filter = Chosen(wanted)


class Chosen:
    """A filter in the form that mitmproxy gives its own."""

    pattern = ""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted

    def __call__(self, f: Flow) -> bool:
        """Whether a flow is wanted; of a call under way, whether it is by what is known so far."""
        if not isinstance(f, HTTPFlow):
            return False
        told: Any = f.metadata.get(FLOW_KEY)
        if isinstance(told, dict) and "call" in told:
            return self._wanted.matches(told["call"], told.get("losses", ()))
        found = exchange_of(f)
        return self._wanted.matches(found.record, found.losses)

    def dump(self, indent: int = 0, fp: Any = None) -> None:
        """mitmproxy's filters print themselves for its developers; there is nothing to print here."""
