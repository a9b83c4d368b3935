"""A call of a pool with several addresses: at one of them at a time, until one answers or there is none left."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from inferbridge.bridge.errors import BridgeError
from inferbridge.bridge.values import Buffer, Headers
from inferbridge.upstream.api import Call, DuplexPool, GrowingCall, Opening, Receiver, UpstreamRequest, opening_of
from inferbridge.upstream.choosing import AddressPool, Member
from inferbridge.upstream.http2_call import GrowingHttp2Call
from inferbridge.upstream.retries import Lost, Reason


class Owner(Protocol):
    """The pool, as a call sees it."""

    def again(self, call: "BalancedCall", reason: Reason) -> bool:
        """Send a call somewhere else, or once more to the only address that there is; False if that may not be."""

    def withdraw(self, call: "BalancedCall") -> None:
        """A call waits no longer."""


class BalancedCall:
    """One call, at one address after another."""

    __slots__ = ("_answered", "_deadline", "_inner", "_over", "member", "pool", "receiver", "request", "sent", "timer")

    def __init__(self, pool: "Owner", request: UpstreamRequest, receiver: Receiver, timeout: float | None) -> None:
        self.pool = pool
        self.request = request
        self.receiver = receiver
        self._deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        self._inner: Call | None = None
        self._answered = self._over = False
        self.member: Member | None = None
        """Where it is, or was last."""
        self.sent = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def left(self) -> float | None:
        """Seconds until its deadline, if it has one."""
        return None if self._deadline is None else max(0.001, self._deadline - asyncio.get_running_loop().time())

    @property
    def over(self) -> bool:
        """It has ended."""
        return self._over

    def go(self, member: Member) -> None:
        """Send it there."""
        if self.timer is not None:
            self.timer.cancel()
        self.member = member
        self.sent += 1
        self._inner = self._begin(member.pool, self._inner)

    def _begin(self, pool: AddressPool, before: Call | None) -> Call:
        return pool.send(self.request, self, self.left)

    @property
    def opening(self) -> Opening | None:
        """See `opening_of`."""
        return opening_of(self._inner)

    def cancel(self) -> None:
        """Stop it, see `Call.cancel`."""
        self._end()
        if self._inner is not None:
            self._inner.cancel()

    def throttle(self, paused: bool) -> None:
        """See `Call.throttle`; only an answer is slowed down, and that stays where it is."""
        if self._inner is not None:
            self._inner.throttle(paused)

    def fail(self, error: BridgeError) -> None:
        """It goes nowhere any more."""
        if not self._over:
            self._end()
            self.receiver.on_failure(error)

    def _end(self) -> None:
        self._over = True
        if self.timer is not None:
            self.timer.cancel()
        if self._inner is None:
            self.pool.withdraw(self)

    def on_head(self, status: int, headers: Headers) -> None:
        """The head of the answer: from now on it stays where it is."""
        self._answered = True
        self.receiver.on_head(status, headers)

    def on_data(self, data: Buffer) -> None:
        """A piece of the body."""
        self.receiver.on_data(data)

    def on_end(self, trailers: Headers) -> None:
        """The end."""
        self._over = True
        self.receiver.on_end(trailers)

    def on_failure(self, error: BridgeError) -> None:
        """It failed there, which need not be the end."""
        if self._over:
            return
        if self._answered or not isinstance(error, Lost) or not self.pool.again(self, error.reason):
            self.fail(error)


class GrowingBalancedCall(BalancedCall):
    """One call whose request grows."""

    __slots__ = ("_complete", "_drained", "_early")

    def __init__(
        self,
        pool: "Owner",
        request: UpstreamRequest,
        receiver: Receiver,
        drained: Callable[[], None],
        timeout: float | None,
    ) -> None:
        super().__init__(pool, request, receiver, timeout)
        self._drained = drained
        self._early: list[Buffer] = []
        """What came before there was an address."""
        self._complete = False

    def _begin(self, pool: AddressPool, before: Call | None) -> Call:
        assert isinstance(pool, DuplexPool)
        call = pool.begin(self.request, self, self._drained, self.left)
        for piece in before.body if isinstance(before, GrowingHttp2Call) else self._early:
            call.write(piece)
        self._early = []
        if self._complete:
            call.finish()
        return call

    def write(self, data: Buffer) -> bool:
        """More of the body, see `GrowingCall.write`."""
        if self._inner is not None:
            return self._growing.write(data)
        self._early.append(data)
        return False

    def finish(self) -> None:
        """The body is complete."""
        self._complete = True
        if self._inner is not None:
            self._growing.finish()

    @property
    def _growing(self) -> GrowingCall:
        inner: GrowingCall = self._inner  # type: ignore[assignment]  # made by `begin`
        return inner
