"""Lines of the log: who may speak, and what becomes of records."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inferbridge.observe.logs import LINE_CHARACTERS, Discreet, DiscreetMessages, JsonLines, one_line, told

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"


def failing(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """An error that has been raised here."""
    try:
        raise error from cause
    except BaseException as raised:  # to hold it, as logging does
        return raised


def record(message: str, *arguments: object, error: BaseException | None = None, name: str = "x") -> logging.LogRecord:
    """A record."""
    info = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord(name, logging.ERROR, "f.py", 1, message, arguments, info)


@pytest.mark.parametrize("form", [logging.Formatter(), JsonLines()])
def test_an_exception_is_told_without_its_text(form: logging.Formatter) -> None:
    """A traceback has types and places of the whole chain, and nothing of what the errors quote."""
    raised = failing(ValueError(f"no {SECRET}"), failing(KeyError(SECRET)))
    raised.add_note(SECRET)
    one = record("failed", error=raised)
    Discreet().filter(one)
    line = form.format(one)
    assert SECRET not in line
    assert line.index("KeyError") < line.index("ValueError")
    assert "in failing" in line


def test_mitmproxys_formatter_gets_the_traceback_in_the_message() -> None:
    """A formatter that writes exceptions itself has none left to write."""
    one = record("failed", error=failing(ValueError(SECRET)))
    DiscreetMessages().filter(one)
    assert (one.exc_info, one.exc_text) == (None, None)
    assert one.getMessage().startswith("failed\nTraceback")
    assert SECRET not in one.getMessage()


def test_a_record_seen_by_two_handlers_stays_whole() -> None:
    """The traceback is told once, however many handlers filter the record."""
    one = record("failed", error=failing(ValueError(SECRET)))
    for _ in range(2):
        DiscreetMessages().filter(one)
    assert one.getMessage().count("Traceback") == 1
    assert one.getMessage().count("\n") > 1


def test_an_error_of_the_system_says_why() -> None:
    """`OSError` keeps the system's reason, but not the name of a file or an address."""
    lines = list(told(failing(FileNotFoundError(2, "No such file or directory", SECRET))))
    assert lines[-1] == "FileNotFoundError: No such file or directory"


def test_errors_that_cause_each_other_end() -> None:
    """A chain that leads back to itself is told once."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert [line for line in told(first) if "Error" in line] == ["KeyError", "ValueError"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain ü €", "plain ü €"),
        ("a\r\nb\x00", "a\\r\\nb\\x00"),
        ("\x1b[31m\x9b", "\\x1b[31m\\x9b"),
        ("\u202e\u2028\u200b\ud800", "\\u202e\\u2028\\u200b\\ud800"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, line: str) -> None:
    """Nothing in a message can begin a line, colour a terminal or turn the direction of writing."""
    assert one_line(text) == line


@pytest.mark.parametrize("text", ["A" * 1_000_000, "\U000e0001" * 1_000_000])
def test_a_line_is_bounded(text: str) -> None:
    """A million signs are cut, escaped ones too, and the line says how many there were."""
    assert len(one_line(text)) <= LINE_CHARACTERS
    assert "(1000000 characters)" in one_line(text) or one_line(text).endswith("…")


async def test_asyncio_quotes_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    """What asyncio says of a lost task or a callback's fault holds neither the error nor the arguments."""
    loop = asyncio.get_running_loop()
    caplog.handler.addFilter(DiscreetMessages())
    loop.call_soon(lambda text: int(text), SECRET)
    loop.call_exception_handler({"message": "lost", "task": SECRET, "exception": failing(ValueError(SECRET))})
    loop.call_exception_handler({"message": "lost", "source": SECRET})
    await asyncio.sleep(0)
    assert caplog.text.count("an error outside of any call") == 3
    assert SECRET not in caplog.text


TALK = """
import logging, os, threading
from inferbridge.observe import logs
logs.set_up("debug", "FORM")
for name in ("inferbridge.x", "mitmproxy.x", "hpack.hpack", "other"):
    logging.getLogger(name).debug("from %s", name)
logging.getLogger("other").warning("louder")
class Late:
    def __del__(self):
        raise ValueError(os.environ["HIDDEN"])
Late()
thread = threading.Thread(target=lambda: int(os.environ["HIDDEN"]))
thread.start()
thread.join()
raise KeyError(os.environ["HIDDEN"])
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_only_known_loggers_speak_and_nothing_ends_without_a_line(form: str) -> None:
    """At debug hpack, which logs headers, stays silent; errors that nobody catches are logged without their text."""
    sources = os.pathsep.join(str(ROOT / name) for name in ("codegen", "proxy", "generated"))
    code = TALK.replace("FORM", form)
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": sources, "HIDDEN": SECRET},
    )
    assert ended.returncode == 1
    heard = [name for name in ("inferbridge.x", "mitmproxy.x", "hpack", "other") if f"from {name}" in ended.stderr]
    assert heard == ["inferbridge.x", "mitmproxy.x"]
    assert "louder" in ended.stderr
    assert ended.stderr.count("Traceback") == 3
    assert SECRET not in ended.stderr
    if form == "json":
        assert all(json.loads(line)["level"] for line in ended.stderr.splitlines())
