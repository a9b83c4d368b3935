"""What is sent to a runtime once more: the one place that decides it, for every kind of pool.

    connect      no connection could be opened                 nothing was sent: any call, elsewhere if there is more
    goaway       a stream above the last one of GOAWAY         not looked at: any call
    refused      RST_STREAM with REFUSED_STREAM                not looked at: any call
    reset        a connection broke before it had answered     nobody knows: calls of an idempotent operation alone

Idempotent is what the spec of the operation says. Generation never is: it may cost minutes of a GPU, and be different
the second time. Nothing is sent again once a byte of an answer has come, and nothing twice, but for a refused stream:
gRPC servers at their limit refuse for as long as they take to clear away streams whose end we have already seen.

Retries of a sick upstream are what keeps it sick. So there is a budget: each call brings a fifth of a retry, up to a
hundred are kept, and one comes with every second, so that an upstream with few calls has some too.
"""

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Headers
from inferbridge.upstream.api import UpstreamRequest

ATTEMPTS_HEADER: Final = "grpc-previous-rpc-attempts"
_SHARE: Final = 0.2
_MOST: Final = 100.0
_FIRST: Final = 10.0
_EACH_SECOND: Final = 1.0


class Reason(StrEnum):
    """Why a call is sent again."""

    CONNECT = "connect"
    GOAWAY = "goaway"
    REFUSED = "refused"
    RESET = "reset"


_SENDS: Final = {Reason.CONNECT: 2, Reason.GOAWAY: 2, Reason.REFUSED: 3, Reason.RESET: 2}
"""How often one call is sent at most, counted with the first time."""


class Lost(BridgeError):
    """UNAVAILABLE: a call without an answer that might be sent again for `reason`, if that is allowed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(Code.UNAVAILABLE, message)
        self.reason = reason


class Budget:
    """How many retries an upstream has left; `now` in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._left = _FIRST
        self._calls = 0
        self._at = now()

    def take(self, calls: int) -> bool:
        """Whether there is one more; `calls` is how many the upstream has had so far."""
        now = self._now()
        earned = _SHARE * (calls - self._calls) + _EACH_SECOND * (now - self._at)
        self._left = min(_MOST, self._left + earned)
        self._calls, self._at = calls, now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def unheard(reason: Reason) -> None:
    """Nobody counts."""


class Retries:
    """Decides for one upstream, with one budget for all its addresses."""

    def __init__(self, heard: Callable[[Reason], None] = unheard, now: Callable[[], float] = time.monotonic) -> None:
        self._heard = heard
        self._budget = Budget(now)

    def admit(self, reason: Reason, request: UpstreamRequest, sent: int, calls: int) -> bool:
        """Whether a call that was sent `sent` times may go once more; `calls` is what the upstream has had so far."""
        if sent >= _SENDS[reason] or (reason is Reason.RESET and not request.idempotent):
            return False
        if not self._budget.take(calls):
            return False
        self._heard(reason)
        return True


class NoRetries(Retries):
    """Of a pool whose owner decides, since it has other addresses to send to."""

    def admit(self, reason: Reason, request: UpstreamRequest, sent: int, calls: int) -> bool:
        """Never here."""
        return False


def counted(own: Headers, attempts: int) -> Headers:
    """Headers of a gRPC call that was seen by a server up to `attempts` times before (gRFC A6)."""
    return (*own, (ATTEMPTS_HEADER, str(attempts)))
