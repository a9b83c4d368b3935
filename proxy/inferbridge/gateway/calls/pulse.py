"""Signs of life: proxies and clients give up on a stream that is silent for long."""

import asyncio
from collections.abc import Callable

SECONDS = 15.0


class Pulse:
    """Calls `beat` whenever nothing was heard for `SECONDS`, from `start` to `stop`."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._timer: asyncio.TimerHandle | None = None
        self._quiet = False

    def start(self) -> None:
        """From now on."""
        self._quiet = False
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self._due)

    def _due(self) -> None:
        self._wait()
        if self._quiet:
            self._beat()
        self._quiet = True

    def heard(self) -> None:
        """Something else was sent."""
        self._quiet = False

    def stop(self) -> None:
        """The stream is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
