"""Every field that a call loses is told of here: in a line of the log and in a counter (`x-inferbridge-lost` names it
to the client).

Fields are lost in two places. A bridge has no place for one on the other side: its `Context` notes that, for the
request, the answer and each message of a stream. Or a runtime answers what our schema does not know, which cannot be
written in the other form that the client asked for.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from inferbridge.bridge.registry import Api, Endpoint
from inferbridge.bridge.routes import Match
from inferbridge.gateway.calls.targets import Target
from inferbridge.gateway.counters import Counters

log = logging.getLogger(__name__)


class Losses:
    """Tells what the calls to some upstreams lose."""

    def __init__(self, counters: Counters, targets: Sequence[Target], apis: Mapping[str, Api]) -> None:
        self._counters = counters
        self._targets = targets
        self._apis = apis

    def over_bridge(self, match: Match, target: Target) -> Callable[[Collection[str]], None]:
        """What a bridge to a target tells its losses to."""
        return partial(self._tell, match.api, match.endpoint, target.name, target.profile.name)

    def in_answer(self, api: Api, endpoint: Endpoint, names: Collection[str]) -> None:
        """Fields of a runtime's answer that the client's form has no place for.

        Which upstream was chosen is not known any more, so all that could have been are named.
        """
        able = [target for target in self._targets if target.serving(self._apis, Match(api, endpoint, {}))]
        upstreams, runtimes = ({target.name for target in able}, {target.profile.name for target in able})
        self._tell(api, endpoint, "|".join(sorted(upstreams)), "|".join(sorted(runtimes)), names)

    def _tell(self, api: Api, endpoint: Endpoint, upstream: str, runtime: str, names: Collection[str]) -> None:
        log.warning("%s to %s: dropped %s", endpoint.name, upstream, ", ".join(names))
        self._counters.lost_fields(endpoint.operation, api.name, runtime, len(names))
