"""Whether a file has changed: edited in place, replaced, or reached over a symbolic link that was swapped.

Kubernetes swaps a link two levels above the file, so what counts is the file that is found behind all links. A change
counts when the file has looked the same twice: an editor may be in the middle of writing it.
"""

import os
from collections.abc import Callable
from pathlib import Path

WATCH_SECONDS = 0.5
"""Between two looks."""

type Look = tuple[int, ...]
"""How a file looks from the outside; empty while there is none."""


def look_at(path: Path) -> Look:
    """The file as it looks now."""
    try:
        found = os.stat(path)  # noqa: PTH116 - follows links like Path.stat, and says so
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


class FileWatch:
    """Watches one file; somebody must have it look."""

    def __init__(self, path: Path, look: Callable[[Path], Look] = look_at) -> None:
        self._path = path
        self._look = look
        self._known = self._last = look(path)

    def changed(self) -> bool:
        """Look; true once for each change, when it is complete. A file that is gone is none."""
        last, self._last = self._last, self._look(self._path)
        if not self._last or self._last != last or self._last == self._known:
            return False
        self._known = self._last
        return True
