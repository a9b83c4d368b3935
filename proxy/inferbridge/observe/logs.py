"""Lines on stderr that may be read by anybody: they hold no secrets, no bodies, and only lines of our own making.

    record ─▶ Discreet ─▶ message: printable, one line, at most 4 KiB  (a client chose paths, models and names in it)
                     └──▶ exception: types and places, not their texts (a library's error quotes what it could not read)

Who may speak is decided here too: other libraries log what passes through them (hpack every header, at debug), so below
warnings only our own loggers and mitmproxy's are heard.
"""

import json
import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Literal

from inferbridge.bridge.visible import visible

MESSAGE_CHARACTERS = 2048
"""Of a message; with escapes it can become eight times as long, which is cut again."""
LINE_CHARACTERS = 4096
_CHAIN = 8
"""Exceptions that are told of one record."""
_FRAMES = 50
_DONE = "inferbridge_discreet"
_OUTSIDE = "an error outside of any call"
_log = logging.getLogger(__name__)


def set_up(least: Literal["debug", "info", "warning", "error"], form: Literal["text", "json"]) -> None:
    """Log to stderr what is at least so important, errors that nobody has caught too."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if form == "json" else text)
    handler.addFilter(Discreet())
    level = logging.getLevelNamesMapping()[least.upper()]
    logging.basicConfig(level=max(logging.WARNING, level), handlers=[handler])
    logging.getLogger("inferbridge").setLevel(level)
    sys.excepthook = lambda kind, error, trace: _log.critical("ended by an error", exc_info=error)
    sys.unraisablehook = lambda raised: _log.error(_OUTSIDE, exc_info=raised.exc_value)
    threading.excepthook = lambda raised: _log.error(_OUTSIDE, exc_info=raised.exc_value)
    # mitmproxy tells of every connection; that is debugging
    logging.getLogger("mitmproxy").setLevel(level if least == "debug" else max(logging.WARNING, level))


def set_level(least: Literal["debug", "info", "warning", "error"]) -> None:
    """From now on our own lines are shown when they are at least so important."""
    logging.getLogger("inferbridge").setLevel(logging.getLevelNamesMapping()[least.upper()])


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {"time": record.created, "level": record.levelname.lower(), "logger": record.name}
        entry["message"] = record.getMessage()
        if record.exc_text:
            entry["exception"] = record.exc_text
        return json.dumps(entry)


class Discreet(logging.Filter):
    """Makes records harmless before a handler formats them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes, changed: once, whatever the number of handlers that get it."""
        if not record.__dict__.get(_DONE):
            self._change(record)
            record.__dict__[_DONE] = True
        return True

    def _change(self, record: logging.LogRecord) -> None:
        exception, message = record.exc_info[1] if record.exc_info else None, record.getMessage()
        if exception is not None:
            record.exc_text = "\n".join(told(exception))
        if record.name == "asyncio" and (exception is not None or "\n" in message):
            message = _OUTSIDE  # asyncio's own words quote tasks with their errors, and callbacks with what they got
        record.msg, record.args, record.exc_info, record.stack_info = one_line(message), (), None, None


class DiscreetMessages(Discreet):
    """The same for formatters that know nothing of `exc_text`, such as mitmproxy's."""

    def _change(self, record: logging.LogRecord) -> None:
        super()._change(record)
        if record.exc_text:
            record.msg, record.exc_text = f"{record.msg}\n{record.exc_text}", None


def one_line(text: str) -> str:
    """A text as one printable line of at most `LINE_CHARACTERS`: what is not printable is escaped as Python does."""
    if len(text) > MESSAGE_CHARACTERS:
        text = f"{text[:MESSAGE_CHARACTERS]}… ({len(text)} characters)"
    text = visible(text)
    return text if len(text) <= LINE_CHARACTERS else text[: LINE_CHARACTERS - 1] + "…"


def told(exception: BaseException) -> Iterator[str]:
    """The lines of a traceback, the cause first, as Python prints it but without the exceptions' own texts."""
    chain: list[BaseException] = []
    error: BaseException | None = exception
    while error is not None and error not in chain and len(chain) < _CHAIN:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    for number, one in enumerate(reversed(chain)):
        yield "then:" if number else "Traceback (most recent call last), without what the errors say:"
        for lines in traceback.format_tb(one.__traceback__, -_FRAMES):
            yield from lines.splitlines()
        kind = type(one)
        reason = f": {one.strerror}" if isinstance(one, OSError) and one.strerror else ""
        yield one_line(f"{kind.__module__}.{kind.__qualname__}{reason}".removeprefix("builtins."))
