"""How much an identity may use: requests a minute, calls at one time, tokens a minute.

Requests and tokens are counted by a token bucket, as the generic cell rate algorithm does it. A bucket starts full with
the `limit` of a minute and fills at `limit` a minute, never above that. A request takes one out and is refused when
there is none; so no more than what is in the bucket, plus what drips in, is let through: `limit · (1 + t / 60)` in any
`t` seconds, which is twice the limit in the worst minute and the limit in every minute of steady use.

What a call uses in tokens is known only when it is over, or message by message. So a call is let in while there is a
token left, and what it used is taken out when it is known. That may leave the bucket below zero: a debt, which must
drip in before the next call is let in. Nobody can use more in the long run, however long one answer was.

A level is kept as a whole number of parts: a token has `MINUTE` of them (nanoseconds of a minute), so that in each
nanosecond `limit` of them drip in. That is exact: nothing is lost or won by rounding, whatever the clock says.

    quiet ──lease──▶ busy (calls > 0) ──the last lease given back──▶ quiet ──longest quiet, too many──▶ forgotten

Each rule is an allowance of its own, so that an identity has an account for each rule that lets it call. Who is
forgotten begins again with full buckets; who has calls in flight is never forgotten.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from inferbridge.auth.identity import Identity
from inferbridge.auth.settings import Rates
from inferbridge.bridge.errors import BridgeError, Code

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
ACCOUNTS = 10_000

type _Key = tuple[str, str, int]


class Bucket:
    """Holds up to `limit` and fills at `limit` a minute; times are nanoseconds of one clock that never goes back."""

    __slots__ = ("_at", "_full", "_level", "_limit")

    def __init__(self, limit: int, now: int) -> None:
        self._limit = limit
        self._full = self._level = limit * MINUTE
        self._at = now

    def wait(self, now: int) -> int:
        """Nanoseconds until there is one in it; 0 when there is."""
        self._fill(now)
        missing = MINUTE - self._level
        return -(-missing // self._limit) if missing > 0 else 0

    def take(self, count: int, now: int) -> None:
        """Take out so many, whether they are in it or not."""
        self._fill(now)
        self._level -= count * MINUTE

    def _fill(self, now: int) -> None:
        self._level = min(self._full, self._level + (now - self._at) * self._limit)
        self._at = now


class _Account:
    """What one identity has left of one rule."""

    __slots__ = ("calls", "rates", "requests", "tokens")

    def __init__(self, rates: Rates, now: int) -> None:
        self.rates = rates
        self.requests = Bucket(rates.requests_per_minute, now) if rates.requests_per_minute is not None else None
        self.tokens = Bucket(rates.tokens_per_minute, now) if rates.tokens_per_minute is not None else None
        self.calls = 0

    def check_calls(self) -> None:
        """Raise unless there may be one call more."""
        most = self.rates.concurrent_calls
        if most is not None and self.calls >= most:
            raise _refused(f"too many calls at one time for this caller: at most {most}", SECOND)

    def request(self, now: int) -> None:
        """Count a request. One that is refused counts for nothing."""
        rates, requests, tokens = self.rates, self.requests, self.tokens
        if tokens is not None and (wait := tokens.wait(now)):
            raise _refused(f"too many tokens for this caller: at most {rates.tokens_per_minute} a minute", wait)
        if requests is not None:
            if wait := requests.wait(now):
                raise _refused(f"too many requests for this caller: at most {rates.requests_per_minute} a minute", wait)
            requests.take(1, now)


class Lease:
    """The right to one call, or one stream, until it is given back."""

    __slots__ = ("_account", "_ended", "_now")

    def __init__(self, account: _Account, now: Callable[[], int], ended: Callable[[], None]) -> None:
        self._account = account
        self._now = now
        self._ended: Callable[[], None] | None = ended

    @property
    def limits_tokens(self) -> bool:
        """Whether it matters how many tokens the call uses."""
        return self._account.tokens is not None

    def request(self) -> None:
        """Count one more request of the call; raises as `RateLimiter.lease` does."""
        self._account.request(self._now())

    def book(self, tokens: int) -> None:
        """Count what the call has used, as it becomes known; also after the call."""
        if self._account.tokens is not None:
            self._account.tokens.take(tokens, self._now())

    def give_back(self) -> None:
        """The call is over. Once is enough, more does nothing."""
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class RateLimiter:
    """The accounts of all identities; of those without calls in flight no more than `accounts` are kept."""

    def __init__(self, *, accounts: int = ACCOUNTS, now: Callable[[], int] = time.monotonic_ns) -> None:
        self._most = accounts
        self._now = now
        self._busy: dict[_Key, _Account] = {}
        self._quiet: OrderedDict[_Key, _Account] = OrderedDict()

    def lease(self, identity: Identity, rates: Rates) -> Lease:
        """Let a call in. BridgeError RESOURCE_EXHAUSTED, 429 with `retry_after`, names the limit that is reached.

        `rates` are those of one rule: another object is another allowance, whatever its numbers.
        """
        key = (identity.method, identity.subject, id(rates))  # the account holds `rates`, so no other can have its id
        now = self._now()
        account = self._busy.get(key) or self._quiet.get(key) or _Account(rates, now)
        account.check_calls()
        account.request(now)
        account.calls += 1
        self._quiet.pop(key, None)
        self._busy[key] = account
        return Lease(account, self._now, lambda: self._ended(key, account))

    def _ended(self, key: _Key, account: _Account) -> None:
        account.calls -= 1
        if not account.calls:
            self._quiet[key] = self._busy.pop(key)
            if len(self._quiet) > self._most:
                self._quiet.popitem(last=False)


def _refused(message: str, wait: int) -> BridgeError:
    seconds = -(-wait // SECOND)
    text = f"{message}; try again in {seconds} s"
    return BridgeError(Code.RESOURCE_EXHAUSTED, text, status=429, retry_after=seconds)
