"""Shows the calls alone that a filter lets through (`inspect.filters`), in whatever interface a mitmproxy has."""

from collections.abc import Callable
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
    found = chosen(wanted)
    view, dumper = addons.get("view"), addons.get("dumper")
    if isinstance(view, View):
        view.set_filter(found)
    if isinstance(dumper, Dumper):
        dumper.filter = found


def chosen(wanted: Filter) -> Callable[[Flow], bool]:
    """Whether a flow is wanted; of a call under way, whether it is by what is known so far."""

    def is_chosen(flow: Flow) -> bool:
        if not isinstance(flow, HTTPFlow):
            return False
        told: Any = flow.metadata.get(FLOW_KEY)
        if isinstance(told, dict) and "call" in told:
            return wanted.matches(told["call"], told.get("losses", ()))
        found = exchange_of(flow)
        return wanted.matches(found.record, found.losses)

    return is_chosen
