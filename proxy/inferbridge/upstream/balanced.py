"""A pool of pools: one upstream with several addresses, each with its own connections and breaker.

A call goes to the address with the fewest calls, or to the one that its sticky header stands for (see `choosing`). It
moves on to another when that is allowed (see `retries`), which is decided here and not by the pools of the addresses.

    ejected by its breaker      it fails            returned by a call that is answered
    ejected by health checks    it says not ready   returned when it says ready
    added, removed              its name has it, or no longer has it; calls that it has go on to their end
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from msgspec import structs

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.values import Headers, header
from inferbridge.upstream.address import Address
from inferbridge.upstream.api import Call, GrowingCall, Pool, Receiver, State, UpstreamRequest
from inferbridge.upstream.balanced_call import BalancedCall, GrowingBalancedCall
from inferbridge.upstream.choosing import AddressPool, Member, pick
from inferbridge.upstream.names import Lookup, Names, system_lookup
from inferbridge.upstream.retries import Reason, Retries, counted

_MAX_WAITING = 1024
_MISSES = 2
_WORST: tuple[State, ...] = ("open", "half open")

type Check = Callable[[Pool, Callable[[bool], None]], None]
"""Asks what is behind a pool whether it is ready."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How calls are spread over addresses."""

    endpoints: tuple[tuple[str, int], ...] = ()
    """Host and port of each address; without any, those of the URL."""
    resolve_seconds: float | None = None
    """How often names are looked up, each of their addresses being one; None leaves that to connecting."""
    sticky: str = ""
    """Header whose value binds calls to an address."""
    check: Check | None = None
    check_seconds: float = 10.0


class Balanced:
    """A `Pool` over several addresses of one upstream."""

    def __init__(
        self,
        address: Address,
        spread: Spread,
        open_one: Callable[[Address], AddressPool],
        retries: Retries | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        """`address` is what all of them are called; `open_one` opens the pool of one, which repeats nothing itself."""
        self._spread = spread
        self._open_one = open_one
        self._retries = retries or Retries()
        self._members: dict[Address, Member] = {}
        self._leaving: set[AddressPool] = set()
        """Pools of addresses that are gone, with calls still running."""
        self._closing: set[asyncio.Task[None]] = set()
        self._waiting: dict[BalancedCall, None] = {}
        """Calls that came before any address was known."""
        self._calls = self._turn = 0
        self._timer: asyncio.TimerHandle | None = None
        self._awake = self._closed = False
        self._names: Names | None = None
        places = tuple(replace(address, at=endpoint) for endpoint in spread.endpoints or (address.endpoint,))
        if spread.resolve_seconds is None:
            self._take(places)
        else:
            self._names = Names(places, spread.resolve_seconds, self._found, self._not_found, lookup)

    @property
    def connections(self) -> int:
        """Open connections to all addresses."""
        return sum(pool.connections for pool in self._pools)

    @property
    def state(self) -> State:
        """That of the breaker that is worst off."""
        states = {member.pool.breaker.state for member in self._members.values()}
        return next((state for state in _WORST if state in states), "closed")

    @property
    def _pools(self) -> Sequence[AddressPool]:
        return [*(member.pool for member in self._members.values()), *self._leaving]

    def send(self, request: UpstreamRequest, receiver: Receiver, timeout: float | None = None) -> Call:
        """Start a call, see `Pool.send`."""
        return self._start(BalancedCall(self, request, receiver, timeout))

    def _start[C: BalancedCall](self, call: C) -> C:
        self._calls += 1
        if self._closed:
            asyncio.get_running_loop().call_soon(call.fail, _closed_error())
            return call
        if not self._awake:
            self._wake()
        if self._members:
            self._dispatch(call)
        else:
            self._wait(call)
        return call

    def _dispatch(self, call: BalancedCall) -> None:
        member = self._pick(call.request, self._members.values())
        if member is None:
            asyncio.get_running_loop().call_soon(call.fail, self._refusal())
        else:
            call.go(member)

    def _pick(self, request: UpstreamRequest, members: Iterable[Member]) -> Member | None:
        self._turn += 1
        key = header(request.headers, self._spread.sticky) if self._spread.sticky else None
        return pick(list(members), self._turn, key or "")

    def _refusal(self) -> BridgeError:
        """That of the address which is tried first."""
        refusals = [member.pool.breaker.refusal() for member in self._members.values()]
        return min(refusals, key=lambda error: error.retry_after or 0)

    def again(self, call: BalancedCall, reason: Reason) -> bool:
        """Send a call somewhere else, or once more to the only address that there is; False if that may not be."""
        others = [member for member in self._members.values() if member is not call.member]
        member = self._pick(call.request, others)
        if member is None and reason is not Reason.CONNECT:
            member = self._pick(call.request, [one for one in self._members.values() if one is call.member])
        if self._closed or member is None:
            return False
        if not self._retries.admit(reason, call.request, call.sent, self._calls):
            return False
        if reason is Reason.RESET:
            call.request = structs.replace(call.request, own=self._counted(call))
        call.go(member)
        return True

    def _counted(self, call: BalancedCall) -> Headers:
        return call.request.own

    # calls that wait for an address

    def _wait(self, call: BalancedCall) -> None:
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= _MAX_WAITING:
            error = BridgeError(
                Code.UNAVAILABLE, f"{_MAX_WAITING} calls are waiting already for a name to be looked up"
            )
            loop.call_soon(call.fail, error)
            return
        self._waiting[call] = None
        if call.left is not None:
            call.timer = loop.call_later(
                call.left, call.fail, BridgeError(Code.DEADLINE_EXCEEDED, "no address in time")
            )
        if self._names is not None:
            self._names.look()

    def withdraw(self, call: BalancedCall) -> None:
        """A call waits no longer."""
        self._waiting.pop(call, None)

    def _not_found(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call.fail(BridgeError(Code.UNAVAILABLE, reason))

    def _found(self, addresses: tuple[Address, ...]) -> None:
        self._take(addresses)
        self._sweep()
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            self._dispatch(call)

    # addresses that come and go

    def _take(self, addresses: tuple[Address, ...]) -> None:
        before, self._members = self._members, {}
        for address in addresses:
            self._members[address] = before[address] if address in before else Member(self._open_one(address))
        self._leaving.update(member.pool for address, member in before.items() if address not in self._members)

    def _sweep(self) -> None:
        """Close the pools of addresses that are gone, once their calls have ended."""
        for pool in [pool for pool in self._leaving if not pool.outstanding]:
            self._leaving.discard(pool)
            task = asyncio.get_running_loop().create_task(pool.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # health checks

    def _wake(self) -> None:
        self._awake = True
        if self._names is not None:
            self._names.look()
        if self._spread.check is not None:
            self._check_all(self._spread.check)

    def _check_all(self, check: Check) -> None:
        for member in self._members.values():
            _check(check, member)
        self._timer = asyncio.get_running_loop().call_later(self._spread.check_seconds, self._check_all, check)

    async def close(self) -> None:
        """Close all connections; calls in flight and waiting fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._names is not None:
            await self._names.close()
        for call in list(self._waiting):
            call.fail(_closed_error())
        await asyncio.gather(*(pool.close() for pool in self._pools), *self._closing)


class DuplexBalanced(Balanced):
    """As `Balanced`, over HTTP/2."""

    def begin(
        self, request: UpstreamRequest, receiver: Receiver, drained: Callable[[], None], timeout: float | None = None
    ) -> GrowingCall:
        """Start a call whose request grows, see `DuplexPool.begin`."""
        return self._start(GrowingBalancedCall(self, request, receiver, drained, timeout))

    def _counted(self, call: BalancedCall) -> Headers:
        return counted(call.request.own, call.sent)


def _check(check: Check, member: Member) -> None:
    def take(ready: bool) -> None:
        member.misses = 0 if ready else member.misses + 1
        member.healthy = member.misses < _MISSES

    check(member.pool, take)


def _closed_error() -> BridgeError:
    return BridgeError(Code.UNAVAILABLE, "the connection pool is closed")
