"""Tells mitmproxy's addons of flows, as mitmproxy does: the hooks of one flow in their order, one after another.

Hooks may wait for something, so they run in a task for each flow, beside the call and never within it. Each step first
draws the flow as that hook is to find it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import Hook, UpdateHook
from mitmproxy.http import HTTPFlow

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next for a flow."""

    draw: Callable[[], None]
    hook: Hook | None = None
    """None: nothing is told."""


class Hooks:
    """Of all flows."""

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._steps: dict[str, deque[Step]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._intercepted = False

    def is_busy(self, flow: HTTPFlow) -> bool:
        """Whether there are steps that have not been made."""
        return flow.id in self._steps

    def then(self, flow: HTTPFlow, step: Step) -> None:
        """Make this step when those before it have been made."""
        if (steps := self._steps.get(flow.id)) is not None:
            steps.append(step)
            return
        self._steps[flow.id] = deque([step])
        # not before the next turn of the loop: an eager task would run a hook within the call
        asyncio.get_running_loop().call_soon(self._start, flow)

    async def idle(self) -> None:
        """Wait until everything is told."""
        while self._steps:  # noqa: ASYNC110 - the last step of a flow has no event of its own
            await asyncio.sleep(0)

    def _start(self, flow: HTTPFlow) -> None:
        task = asyncio.get_running_loop().create_task(self._make(flow))
        self._tasks.add(task)  # the loop itself keeps weak references alone
        task.add_done_callback(self._tasks.discard)

    async def _make(self, flow: HTTPFlow) -> None:
        steps = self._steps[flow.id]
        try:
            while steps:
                await self._step(flow, steps.popleft())
        finally:
            del self._steps[flow.id]

    async def _step(self, flow: HTTPFlow, step: Step) -> None:
        try:
            step.draw()
        except Exception:
            _log.exception("a flow cannot be drawn")
        if step.hook is not None:
            await self._tell(step.hook)
        if flow.intercepted:
            flow.resume()
            if not self._intercepted:
                self._intercepted = True
                _log.warning("calls cannot be intercepted: a flow shows a call, and changing it changes nothing")

    async def _tell(self, hook: Hook) -> None:
        """mitmproxy logs what a hook raises; what it does not catch must not end the other hooks."""
        try:
            if isinstance(hook, UpdateHook):
                await self._addons.trigger_event(hook)
            else:
                await self._addons.handle_lifecycle(hook)
        except Exception:
            _log.exception("a hook of a flow failed")
