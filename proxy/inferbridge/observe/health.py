"""How a proxy is, for whoever decides to restart it or to send it traffic.

It is alive while it answers at all, started once its listeners are bound, and ready while it is started, not stopping,
and an upstream is ready. So an upstream that fails takes the traffic away and never the proxy down.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferbridge.gateway.calls.readiness import Readiness


@dataclass(frozen=True, slots=True)
class Report:
    """Whether calls should be sent here, and if not, why."""

    listening: tuple[str, ...]
    """host:port of each listener."""
    upstreams: dict[str, bool]
    """Whether each of them is ready, by name."""
    stopping: bool = False
    """It is about to take no more calls."""

    @property
    def started(self) -> bool:
        """The listeners are bound."""
        return bool(self.listening)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What keeps it from being ready."""
        found = [] if self.started else ["the listeners are not bound yet"]
        if self.stopping:
            found.append("the proxy is stopping")
        if not any(self.upstreams.values()):
            found.append(f"no upstream is ready: {', '.join(self.upstreams)}")
        return tuple(found)


class Health:
    """Knows the listeners, and asks the upstreams."""

    def __init__(self, upstreams: Readiness, names: Sequence[str]) -> None:
        """`upstreams` answers for each of `names`."""
        self._upstreams = upstreams
        self._names = names
        self.listening: tuple[str, ...] = ()
        """Set once the listeners are bound."""
        self.stopping = False
        """Set when it is to get no more calls."""

    def look_at(self, upstreams: Readiness, names: Sequence[str]) -> None:
        """The upstreams are others from now on."""
        self._upstreams, self._names = upstreams, names

    def ask(self, then: Callable[[Report], None]) -> None:
        """Call `then` with the report, at the latest when an upstream has taken too long."""

        def report() -> None:
            then(Report(self.listening, {name: upstreams.ready(name) for name in names}, self.stopping))

        upstreams, names = self._upstreams, self._names
        upstreams.refresh(names, report)
