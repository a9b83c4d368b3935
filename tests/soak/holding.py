"""`python -m soak.holding COMMAND…`: inferbridge with these arguments, which tells on stderr what it holds of calls.

Every second there is a line `held {…}`: the bytes that flows of mitmproxy or captured payloads are charged with, and
how many calls these are. It is the program as it is; what it holds is read beside it, from a thread.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from inferbridge.capture import build
from inferbridge.capture.capturer import _MESSAGES, Capturer
from inferbridge.flows import entry
from inferbridge.flows.keeping import FlowKeeper

SECONDS = 1.0


class SeenKeeper(FlowKeeper):
    """Tells of itself."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _tell(self)

    def seen(self) -> Mapping[str, int]:
        """What it holds."""
        return {
            "held": self.held,
            "running": len(self._running),
            "shown": len(self._finished),
            "unseen": self.unseen,
        }


class SeenCapturer(Capturer):
    """Tells of itself."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        _tell(self)

    def seen(self) -> Mapping[str, int]:
        """What it has set aside for calls under way, and holds of those that wait."""
        reserved = len(self._open) * _MESSAGES * self._settings.max_bytes
        return {"held": self._held + reserved, "running": len(self._open), "waiting": len(self._waiting)}


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
