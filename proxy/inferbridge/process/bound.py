"""Where a proxy listens, for whoever wants to know."""

from collections.abc import Callable
from dataclasses import dataclass

from inferbridge.config import Listener


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a proxy really listens."""

    listen: tuple[Listener, ...]
    admin: Listener | None = None


type Ready = Callable[[Bound], None]
"""Is told where, once clients can connect."""
type Warn = Callable[[list[str]], None]
"""Is told what an operator should know."""
