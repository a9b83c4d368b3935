"""Sinks of JSON lines: a file that begins anew when it is full, and stdout.

    capture.jsonl  ─full─▶  capture.jsonl.1  ─▶  …  capture.jsonl.KEEP  ─▶ deleted

Only the owner may read the files. A line is written whole or not at all as far as the system goes, by a thread, so a
disk that stalls holds up no call.
"""

import asyncio
import logging
import os
import stat
import sys
from pathlib import Path

import msgspec

from inferbridge.capture.capturer import CaptureCounters
from inferbridge.capture.lines import CapturedLine
from inferbridge.capture.settings import FileSink

_log = logging.getLogger(__name__)
_MODE = 0o600


class StdoutLines:
    """Lines on stdout."""

    name = "stdout"

    def __init__(self, counters: CaptureCounters) -> None:
        self._counters = counters
        self._encode = msgspec.json.Encoder().encode

    async def take(self, line: CapturedLine) -> None:
        """Write it; where nobody takes it any more, the loss is counted and serving goes on."""
        try:
            self._write(self._encode(line) + b"\n")
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            self._counters.capture_dropped(self.name, "sink")
            _log.error("a captured call cannot be written to %s: %s", self.name, type(error).__name__)
        else:
            self._counters.captured(self.name)

    def _write(self, data: bytes) -> None:
        # on the loop, as the access log does, or their lines would stand within each other
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    async def close(self, seconds: float) -> None:
        """Nothing waits."""


class FileLines:
    """Lines in a file. OSError when it cannot be opened."""

    name = "file"

    def __init__(self, settings: FileSink, counters: CaptureCounters) -> None:
        self._settings = settings
        self._counters = counters
        self._encode = msgspec.json.Encoder().encode
        self._file = self._opened()
        self._size = os.fstat(self._file).st_size

    async def take(self, line: CapturedLine) -> None:
        """Write it; a disk that is full costs lines, which are counted, and no call."""
        try:
            await asyncio.to_thread(self._write, line)
        except OSError as error:
            self._counters.capture_dropped(self.name, "sink")
            _log.error("a captured call cannot be written to %s: %s", self._settings.path, error.strerror)
        else:
            self._counters.captured(self.name)

    async def close(self, seconds: float) -> None:
        """Nothing waits."""
        os.close(self._file)

    def _write(self, line: CapturedLine) -> None:
        data = self._encode(line) + b"\n"
        if self._size and self._size + len(data) > self._settings.max_bytes:
            self._begin_anew()
        while data:
            written = os.write(self._file, data)
            data, self._size = data[written:], self._size + written

    def _begin_anew(self) -> None:
        path = self._settings.path
        for number in range(self._settings.keep, 0, -1):
            before = path if number == 1 else _numbered(path, number - 1)
            if before.exists():
                before.replace(_numbered(path, number))
        if not self._settings.keep:
            path.unlink(missing_ok=True)
        full, self._file, self._size = self._file, self._opened(), 0
        os.close(full)

    def _opened(self) -> int:
        # never through a link that somebody else has put there, nor into a file that others may read
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(self._settings.path, flags, _MODE)
        if stat.S_ISREG(os.fstat(file).st_mode):  # a pipe's or a device's mode is not ours to change
            os.fchmod(file, _MODE)
        return file


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
