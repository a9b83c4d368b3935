"""Which event loop a process gets that serves."""

import asyncio
import sys
from pathlib import Path

import pytest

from gateway.applications import Echo
from gateway.serving import serving, talk
from inferbridge.process import loop


async def running() -> str:
    """The package of the loop that runs, which must start tasks at once when it is asked to."""
    here = asyncio.get_running_loop()
    here.set_task_factory(asyncio.eager_task_factory)
    said: list[str] = []

    async def say() -> None:
        said.append("at once")

    task = asyncio.create_task(say(), name="named")
    assert said == ["at once"]
    await task
    return type(here).__mro__[1].__module__.partition(".")[0]


def test_uvloop_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to ask for uvloop, and mitmproxy's eager tasks work with it on every Python."""
    pytest.importorskip("uvloop")
    monkeypatch.delenv(loop.VARIABLE, raising=False)
    assert loop.run(running()) == "uvloop"


def test_without_uvloop_it_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvloop cannot be imported serving goes on without a word."""
    monkeypatch.delenv(loop.VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop.run(running()) == "asyncio"


def test_asyncios_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment decides against uvloop."""
    monkeypatch.setenv(loop.VARIABLE, "asyncio")
    assert loop.run(running()) == "asyncio"


def test_an_unknown_loop_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that means nothing is refused with the variable and what it may say."""
    monkeypatch.setenv(loop.VARIABLE, "trio")
    with pytest.raises(ValueError, match="INFERBRIDGE_LOOP is 'trio', it must be auto or asyncio"):
        loop.run(running())


@pytest.mark.parametrize("name", ["auto", "asyncio"])
def test_every_loop_serves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain connection is served from its socket, whichever loop holds that."""
    monkeypatch.setenv(loop.VARIABLE, name)

    async def call() -> bytes:
        async with serving(Echo(), tmp_path) as port:
            return await talk(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")

    assert loop.run(call()).startswith(b"HTTP/1.1 200 ")
