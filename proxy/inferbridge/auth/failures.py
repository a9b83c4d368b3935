"""How often addresses have shown credentials that were refused."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from inferbridge.bridge.errors import BridgeError, Code

_WINDOW = 60.0
_ADDRESSES = 10_000


class TooMany(BridgeError):
    """429 / RESOURCE_EXHAUSTED: an address has shown too many credentials that were refused."""

    def __init__(self, seconds: int, method: str = "") -> None:
        """`seconds` until it may try again; `method` is the authenticator that would have had to ask."""
        message = "too many refused credentials from this address"
        super().__init__(Code.RESOURCE_EXHAUSTED, message, status=429, retry_after=seconds)
        self.method = method


class Failures:
    """Counts by address, in windows of a minute; the addresses that have been quiet longest are forgotten first."""

    def __init__(self, most: int = 20, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._now = now
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> None:
        """One more."""
        began, number = self._seen.pop(address, (self._now(), 0))
        if self._now() - began >= _WINDOW:
            began, number = self._now(), 0
        self._seen[address] = (began, number + 1)
        if len(self._seen) > _ADDRESSES:
            self._seen.popitem(last=False)

    def exceeded(self, address: str) -> bool:
        """Whether there were too many."""
        began, number = self._seen.get(address, (0.0, 0))
        return number > self._most and self._now() - began < _WINDOW

    def seconds_left(self, address: str) -> int:
        """Whole seconds after which it may try again."""
        began, _ = self._seen.get(address, (self._now(), 0))
        return max(1, math.ceil(began + _WINDOW - self._now()))
