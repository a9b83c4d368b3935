"""Reading the configuration again while serving: on SIGHUP, and when its file has changed.

SIGHUP ──────────┐
                 ├──▶ read ──▶ build ──▶ apply: new calls go by the new settings
file changed ────┘     └─────────┴─ cannot be used ──▶ said in the log, with the place; nothing changes
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from signal import SIGHUP

from inferbridge.config import Settings, SettingsError
from inferbridge.process.watching import WATCH_SECONDS, FileWatch

_FIXED = ("listen", "admin", "workers", "reload", "capture", "event_loop")
"""Settings that only a restart can change."""
_log = logging.getLogger(__name__)

type Read = Callable[[], Settings]
"""Reads the settings; raises what `load_settings` does."""
type Apply = Callable[[Settings], None]
"""Has them take effect, whole or, with ValueError or OSError, not at all."""


class Reloader:
    """Reads settings again."""

    def __init__(self, settings: Settings, read: Read, apply: Apply, counted: Callable[[bool], None]) -> None:
        """`counted` hears whether the new settings could be used."""
        self._settings = settings
        self._read = read
        self._apply = apply
        self._counted = counted

    def reload(self) -> bool:
        """Whether what is configured now is in force."""
        try:
            wanted = self._read()
            settings = replace(wanted, **{name: getattr(self._settings, name) for name in _FIXED})
            self._apply(settings)
        except (SettingsError, ValueError, OSError) as error:
            for line in str(error).splitlines():
                _log.error("the configuration is not reloaded, what was in force still is: %s", line)
            self._counted(False)
            return False
        except Exception:  # a fault of ours; serving goes on
            _log.exception("the configuration is not reloaded, what was in force still is")
            self._counted(False)
            return False
        for name in different(wanted, self._settings, _FIXED):
            _log.warning("`%s` has changed: that takes effect with a restart", name)
        names = different(settings, self._settings)
        _log.info("the configuration is reloaded: %s", f"new {', '.join(names)}" if names else "the same as before")
        self._settings = settings
        self._counted(True)
        return True


def different(one: Settings, other: Settings, names: tuple[str, ...] = ()) -> list[str]:
    """The settings (of `names`, if any are given) in which two differ."""
    known = names or tuple(field.name for field in fields(Settings))
    return [name for name in known if getattr(one, name) != getattr(other, name)]


@asynccontextmanager
async def reloading(reload: Callable[[], object], path: Path | None, *, watch: bool) -> AsyncIterator[None]:
    """Call `reload` on SIGHUP, and with `watch` when the file has changed."""
    loop = asyncio.get_running_loop()
    with suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
        loop.add_signal_handler(SIGHUP, reload)
    task = loop.create_task(_watch(FileWatch(path), reload)) if watch and path is not None else None
    try:
        yield
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(SIGHUP)
        if task is not None:
            task.cancel()


async def _watch(file: FileWatch, reload: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        if file.changed():
            reload()
