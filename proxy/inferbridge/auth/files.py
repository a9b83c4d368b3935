"""Files that change while the gateway runs: keys, tokens, key sets.

Kubernetes swaps a symlink to renew what is mounted, editors replace files, so a file is known by what `stat` says of
the name. It is looked at when it is used, at most once in `LOOK_SECONDS`: no task to start and stop, no inotify that
network file systems do not send.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 1.0
_log = logging.getLogger(__name__)

type _Stamp = tuple[int, int, int]
_UNSEEN: _Stamp = (0, 0, 0)


class WatchedFile[T]:
    """What `read` makes of a file's bytes. ValueError or OSError at first; later the value before is kept."""

    def __init__(self, path: Path, read: Callable[[bytes], T], *, now: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._read = read
        self._now = now
        self._looked = now()
        self._stamp = self._look()
        self._value = read(path.read_bytes())
        self._complaint = ""

    @property
    def value(self) -> T:
        """What the file says, at most `LOOK_SECONDS` old."""
        now = self._now()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._refresh()
        return self._value

    def read_again(self) -> T:
        """What the file says now, for whoever was just told that its value does not count any more."""
        self._looked = self._now()
        self._stamp = _UNSEEN  # times of files are coarse: what has just been replaced may look the same
        self._refresh()
        return self._value

    def _refresh(self) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                content = self.path.read_bytes()  # one that cannot be opened now has not been looked at yet
                self._stamp = stamp
                self._value = self._read(content)
                self._complaint = ""
                _log.info("%s was read again", self.path)
        except (OSError, ValueError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("%s cannot be read again, what it said before still counts: %s", self.path, error)

    def _look(self) -> _Stamp:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size
