"""Which event loop is chosen."""

import asyncio
from collections.abc import Iterator

import pytest

from inferbridge import event_loop
from inferbridge.config import Flags, SettingsError, load_settings

TRITON = Flags(upstream=("triton=grpc://127.0.0.1:8001",))


@pytest.fixture(autouse=True)
def _found_out_anew() -> Iterator[None]:
    """What was found out in a test counts in no other."""
    event_loop.fault.cache_clear()
    yield
    event_loop.fault.cache_clear()


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if uvloop were not installed."""
    monkeypatch.setattr(event_loop, "find_spec", lambda name: None)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the uvloop that is installed did what 0.23.0 does with Python before 3.13.3."""

    class Broken(asyncio.SelectorEventLoop):
        def create_task(self, coroutine, **options):  # type: ignore[no-untyped-def]  # as its parent says
            raise TypeError("factory() got an unexpected keyword argument 'eager_start'")

    monkeypatch.setattr(event_loop, "find_spec", lambda name: name)
    monkeypatch.setattr(event_loop, "factory", lambda name: Broken)


def load(wanted: str) -> str:
    """What the settings say."""
    flags = Flags(upstream=TRITON.upstream, event_loop=wanted)
    return load_settings(None, {}, flags, {"triton": ("rest", "grpc")}).event_loop


def test_uvloop_is_chosen_where_it_works() -> None:
    """By itself, and where it is asked for; who asks for asyncio gets that."""
    pytest.importorskip("uvloop")
    assert [event_loop.choose(wanted) for wanted in event_loop.CHOICES] == ["uvloop", "asyncio", "uvloop"]
    assert [load(wanted) for wanted in event_loop.CHOICES] == list(event_loop.CHOICES)


@pytest.mark.usefixtures("missing")
def test_without_uvloop_asyncio_serves(caplog: pytest.LogCaptureFixture) -> None:
    """It is an extra, so that it is missing is nothing to be told about."""
    assert event_loop.choose("auto") == event_loop.choose("asyncio") == "asyncio"
    assert not caplog.records


@pytest.mark.usefixtures("missing")
def test_asked_for_and_missing_is_a_mistake_in_the_settings() -> None:
    """Who asks for uvloop is told what to install."""
    with pytest.raises(SettingsError) as caught:
        load("uvloop")
    install = "pip install 'inferbridge[proxy,uvloop]'"
    assert str(caught.value) == f"flag --event-loop: event_loop: uvloop is not installed; to have it: {install}"
    with pytest.raises(ValueError, match="uvloop is not installed"):
        event_loop.choose("uvloop")


@pytest.mark.usefixtures("broken")
def test_a_uvloop_that_does_not_work_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """By itself asyncio then serves and the log says why; who asks for uvloop gets no other loop."""
    assert event_loop.choose("auto") == "asyncio"
    reason = "does not work with this Python: factory() got an unexpected keyword argument 'eager_start'"
    assert caplog.messages == [f"asyncio's event loop is used: uvloop {reason}"]
    with pytest.raises(SettingsError, match="event_loop: uvloop does not work with this Python"):
        load("uvloop")


async def test_it_can_be_found_out_while_a_loop_runs() -> None:
    """A configuration is read again while serving; the loop that runs does not notice."""
    running = asyncio.get_running_loop()
    event_loop.fault()
    assert asyncio.get_running_loop() is running


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_the_loop_that_runs_is_told(name: event_loop.Name) -> None:
    """A program runs in the loop that it names; uvloop is told with its version."""
    if name == "uvloop":
        pytest.importorskip("uvloop")

    async def look() -> tuple[str, str]:
        return event_loop.running(), event_loop.described()

    kind, description = event_loop.run(look(), name)
    assert kind == name
    assert description.split()[0] == name
    assert len(description.split()) == (2 if name == "uvloop" else 1)
    assert event_loop.described() == ""


def test_no_other_word_is_taken() -> None:
    """A slip is a mistake with its place."""
    with pytest.raises(SettingsError, match="must be one of auto, asyncio, uvloop"):
        load("uvlop")
