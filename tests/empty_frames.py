"""The `h2` library as a peer that takes empty frames at any time, as RFC 9113 section 6.9.1 has it.

h2 refuses even an empty DATA frame while a window is below zero, where a smaller SETTINGS_INITIAL_WINDOW_SIZE may have
brought it; such a frame ends a stream and needs no window.
"""

from typing import Any
from unittest import mock

from h2.windows import WindowManager

_consume = WindowManager.window_consumed


def allowed() -> Any:
    """A patcher, to be started and stopped."""
    return mock.patch.object(WindowManager, "window_consumed", _take)


def _take(self: WindowManager, size: int) -> None:
    if size:
        _consume(self, size)
