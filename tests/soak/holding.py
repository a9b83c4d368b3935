"""`python -m soak.holding COMMAND…`: inferbridge with these arguments, which tells on stderr what it holds of calls.

Every second there is a line `held {…}`: the bytes that flows of mitmproxy or captured payloads are charged with, how
many calls these are, and what has become of others. It is the program as it is; what it holds is read beside it, from
a thread.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from inferbridge.capture import build
from inferbridge.capture.capturer import _MESSAGES, CaptureCounters, Capturer
from inferbridge.flows import entry
from inferbridge.flows.keeping import FlowKeeper

SECONDS = 1.0


class SeenKeeper(FlowKeeper):
    """Tells of itself."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._settled = 0
        _tell(self)

    def _settle(self, kept: Any) -> None:
        self._settled += 1
        super()._settle(kept)

    def seen(self) -> Mapping[str, int]:
        """What it holds, what it has let go of, and what it had no memory for."""
        return {
            "held": self.held,
            "running": len(self._running),
            "shown": len(self._finished),
            "evicted": self._settled - len(self._finished),
            "unseen": self.unseen,
        }


class SeenCapturer(Capturer):
    """Tells of itself."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._written = 0
        self._lost = self._counters = _Lost(self._counters)
        _tell(self)

    async def _write(self, one: Any) -> None:
        await super()._write(one)
        self._written += 1

    def seen(self) -> Mapping[str, int]:
        """What it has set aside for calls under way, and holds of those that wait; what it wrote, and what it lost."""
        reserved = len(self._open) * _MESSAGES * self._settings.max_bytes
        return {
            "held": self._held + reserved,
            "running": len(self._open),
            "waiting": len(self._waiting),
            "written": self._written,
            "dropped": self._lost.count,
        }


class _Lost:
    """Counts what finds no room."""

    def __init__(self, counters: CaptureCounters) -> None:
        self._counters = counters
        self.count = 0

    def captured(self, sink: str) -> None:
        self._counters.captured(sink)

    def capture_dropped(self, sink: str, reason: str) -> None:
        self.count += 1
        self._counters.capture_dropped(sink, reason)


def _tell(one: SeenKeeper | SeenCapturer) -> None:
    def tell() -> None:
        while True:
            time.sleep(SECONDS)
            sys.stderr.write(f"held {json.dumps(one.seen())}\n")
            sys.stderr.flush()

    threading.Thread(target=tell, daemon=True).start()


def main() -> None:
    """Run it."""
    from inferbridge.cli import main

    entry.FlowKeeper = SeenKeeper  # type: ignore[misc]  # for this process alone
    build.Capturer = SeenCapturer  # type: ignore[misc]
    main()


if __name__ == "__main__":
    main()
