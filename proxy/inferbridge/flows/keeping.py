"""Keeps calls as flows of mitmproxy, for as long as there is memory, and tells its addons of them.

    begun ── requestheaders ── request ── responseheaders ── response │ error ── finished
                                   every `UPDATE_SECONDS` a call that goes on: update

A call whose consumers are slow waits for them here, never in itself. All memory that calls take is charged to one
allowance. While less than `LOW` of it is left the oldest finished flows are taken out of mitmproxy's view; a running
call is then kept only in part, and one that begins when nothing is left is not shown.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from time import monotonic

from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons.view import View
from mitmproxy.connection import Client, Server
from mitmproxy.hooks import UpdateHook
from mitmproxy.http import HTTPFlow
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import (
    HttpErrorHook,
    HttpRequestHeadersHook,
    HttpRequestHook,
    HttpResponseHeadersHook,
    HttpResponseHook,
)

from inferbridge.flows import consumers, drawing
from inferbridge.flows.hooks import Hooks, Step
from inferbridge.gateway.application import RequestHead
from inferbridge.gateway.record import CallRecord
from inferbridge.gateway.transcript import DEFAULT_LIMIT, PIECE_BYTES, Allowance, Transcript

_log = logging.getLogger(__name__)

DEFAULT_MEMORY = 64 << 20
LOW, ENOUGH = 0.25, 0.3
"""Shares of it: flows are removed when less than the first is left, until the second is."""
UPDATE_SECONDS = 0.25
CALL_BYTES = 10 << 10
"""What a call takes beside its texts: objects of mitmproxy and ours."""
_LOOK_SECONDS = 1.0
"""How long the answer to "does anybody want flows" holds."""


@dataclass(slots=True)
class _Kept:
    """A call that has begun and that mitmproxy has not been told the end of."""

    flow: HTTPFlow
    transcript: Transcript
    record: CallRecord
    requested: bool = False
    headed: bool = False
    ended: bool = False

    def draw(self) -> None:
        """All there is."""
        drawing.draw_request(self.flow, self.transcript, self.record)
        drawing.draw_answer(self.flow, self.transcript, self.record)
        drawing.draw_rest(self.flow, self.transcript, self.record)


class FlowKeeper:
    """A `Transcriber` and an `Observer` of the gateway's recorder."""

    def __init__(
        self,
        addons: AddonManager,
        options: Options,
        *,
        memory: int = DEFAULT_MEMORY,
        limit: int = DEFAULT_LIMIT,
        addresses: Mapping[str, tuple[str, int]] | None = None,
    ) -> None:
        """`memory` and `limit` are bytes: of all calls together, and of one message. `addresses` are the upstreams'."""
        self.limit = limit
        self._addons, self._options = addons, options
        self._memory, self._allowance = memory, Allowance(memory)
        self._addresses = addresses or {}
        self._credentials: frozenset[str] = frozenset()
        self._hooks = Hooks(addons)
        self._clients: dict[str, Client] = {}
        self._running: dict[int, _Kept] = {}
        self._changed: dict[int, _Kept] = {}
        self._finished: dict[str, int] = {}
        """Bytes of flows in mitmproxy's view, the oldest first."""
        self._timer: asyncio.TimerHandle | None = None
        self._wanted, self._look_at = False, 0.0
        self.unseen = 0
        """Calls that were not kept for want of memory."""

    # what it holds

    @property
    def held(self) -> int:
        """Bytes that are charged now."""
        return self._memory - self._allowance.left

    def resize(self, memory: int, limit: int) -> None:
        """Other bounds from now on."""
        self._allowance.left += memory - self._memory
        self._memory, self.limit = memory, limit
        self._make_room()

    def know(self, addresses: Mapping[str, tuple[str, int]], credentials: Iterable[str]) -> None:
        """Addresses of upstreams by name, and the headers in which clients show credentials."""
        self._addresses, self._credentials = addresses, frozenset(credentials)

    # connections

    def connected(self, client: Client) -> None:
        """Its calls will name it by its address."""
        self._clients[_address(client)] = client

    def disconnected(self, client: Client) -> None:
        """It calls no more."""
        self._clients.pop(_address(client), None)

    # the gateway's side

    def begin(self, head: RequestHead, record: CallRecord) -> Transcript | None:
        """A call begins; None where nobody wants to see it, or there is no memory left."""
        if not self._is_wanted():
            return None
        if self._allowance.left < CALL_BYTES:
            self._miss()
            return None
        self._allowance.left -= CALL_BYTES
        transcript = Transcript.of(
            head.method,
            head.target,
            head.headers,
            limit=self.limit,
            hidden=self._credentials,
            allowance=self._allowance,
        )
        client = self._clients.get(head.peer) or _unknown_client(head.peer)
        flow = drawing.new_flow(head, transcript, record, client, Server(address=None))
        kept = self._running[id(transcript)] = _Kept(flow, transcript, record)
        transcript.changed = lambda: self._note(kept)
        self._hooks.then(flow, Step(lambda: None, HttpRequestHeadersHook(flow)))
        return transcript

    def ended(self, record: CallRecord) -> None:
        """The call has ended, whole or not."""
        kept = self._running.pop(id(record.transcript), None) if record.transcript is not None else None
        if kept is None:
            return
        self._changed.pop(id(kept), None)
        kept.ended, kept.transcript.changed = True, _nothing
        self._advance(kept)

    def _note(self, kept: _Kept) -> None:
        """Something was added to a call."""
        self._advance(kept)
        self._changed[id(kept)] = kept
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(UPDATE_SECONDS, self.tick)

    def _advance(self, kept: _Kept) -> None:
        """Tell what has happened and was not told."""
        flow, transcript, record = kept.flow, kept.transcript, kept.record
        if not kept.requested and (transcript.asked.ended or transcript.told.status or kept.ended):
            kept.requested = True
            self._hooks.then(flow, Step(lambda: drawing.draw_request(flow, transcript, record), HttpRequestHook(flow)))
        if not kept.headed and transcript.told.status:
            kept.headed = True
            self._hooks.then(flow, Step(kept.draw, HttpResponseHeadersHook(flow)))
        if kept.ended:
            self._hooks.then(flow, self._last(kept))
            self._hooks.then(flow, Step(lambda: self._settle(kept)))

    def _last(self, kept: _Kept) -> Step:
        def draw() -> None:
            self._locate(kept)
            kept.draw()
            if not kept.transcript.told.ended:
                drawing.draw_failure(kept.flow, kept.record)

        whole = kept.headed and bool(kept.transcript.told.ended)
        return Step(draw, HttpResponseHook(kept.flow) if whole else HttpErrorHook(kept.flow))

    def _locate(self, kept: _Kept) -> None:
        legs = kept.transcript.legs
        if legs and (address := self._addresses.get(legs[0].runtime.upstream)) is not None:
            kept.flow.server_conn.address = address

    # running calls

    def tick(self) -> None:
        """Show how far calls are that have gone on since the last time."""
        self._timer = None
        changed, self._changed = list(self._changed.values()), {}
        for kept in changed:
            if not self._hooks.is_busy(kept.flow):  # it will be shown as it is by then
                self._hooks.then(kept.flow, Step(kept.draw, UpdateHook([kept.flow])))
        self._make_room()

    async def idle(self) -> None:
        """Wait until mitmproxy has been told everything."""
        await self._hooks.idle()

    # memory

    def _settle(self, kept: _Kept) -> None:
        """From now on the call takes what its flow takes, if anybody has kept that."""
        transcript = kept.transcript
        view, times = self._view, sum(len(message.times) for message in transcript.messages)
        self._allowance.left += times * PIECE_BYTES
        size = transcript.charged - times * PIECE_BYTES + CALL_BYTES
        if view is not None and view.get_by_id(kept.flow.id) is not None:
            self._finished[kept.flow.id] = size
            self._make_room()
        else:
            self._allowance.left += size

    @property
    def _view(self) -> View | None:
        view = self._addons.get("view")
        return view if isinstance(view, View) else None

    def _make_room(self) -> None:
        """Take the oldest finished flows out of the view, until enough is left."""
        view, enough = self._view, ENOUGH * self._memory
        if self._allowance.left >= LOW * self._memory or view is None:
            return
        for each in [each for each in self._finished if view.get_by_id(each) is None]:
            self._allowance.left += self._finished.pop(each)  # somebody else has removed it
        while self._finished and self._allowance.left < enough:
            oldest = next(iter(self._finished))
            self._allowance.left += self._finished.pop(oldest)
            flow = view.get_by_id(oldest)
            if flow is not None:
                view.remove([flow])

    def _miss(self) -> None:
        self.unseen += 1
        if self.unseen == 1:
            _log.warning("calls are not shown: those under way take all memory (inferbridge_memory)")
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(UPDATE_SECONDS, self.tick)

    def _is_wanted(self) -> bool:
        now = monotonic()
        if now >= self._look_at:
            self._wanted, self._look_at = consumers.wanted(self._addons, self._options), now + _LOOK_SECONDS
        return self._wanted


def _nothing() -> None:
    """Nobody is told any more."""


def _address(client: Client) -> str:
    """As `RequestHead.peer` has it."""
    host, port, *_ = client.peername
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _unknown_client(peer: str) -> Client:
    host, _, port = peer.rpartition(":")
    name = (host.strip("[]"), int(port)) if port.isdecimal() else ("", 0)
    return Client(peername=name, sockname=("", 0))
