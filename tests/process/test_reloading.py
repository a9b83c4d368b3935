"""Reading settings again, without a proxy: what is applied, what is refused, and what is said."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from inferbridge.config import Admin, Listener, Settings, SettingsError, Upstream
from inferbridge.process.reloading import Reloader
from inferbridge.upstream.address import Address
from inferbridge_codegen.problems import Mark, Problem

ONE = (Upstream("one", "triton", Address("grpc", "127.0.0.1", 9)),)
SETTINGS = Settings(upstreams=ONE)


class Applied:
    """What has become of reloads."""

    def __init__(self, read: Callable[[], Settings], error: Exception | None = None) -> None:
        self.settings: list[Settings] = []
        self.counted: list[bool] = []
        self._error = error
        self.reloader = Reloader(SETTINGS, read, self._apply, self.counted.append)

    def _apply(self, settings: Settings) -> None:
        if self._error is not None:
            raise self._error
        self.settings.append(settings)


def test_what_can_change_does(caplog: pytest.LogCaptureFixture) -> None:
    """New settings are applied, counted and named in the log."""
    caplog.set_level(logging.INFO)
    applied = Applied(lambda: replace(SETTINGS, lossy="allow"))
    assert applied.reloader.reload()
    assert [one.lossy for one in applied.settings] == ["allow"]
    assert applied.counted == [True]
    assert caplog.messages == ["the configuration is reloaded: new lossy"]


def test_what_cannot_change_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Addresses and workers stay as they are until a restart, which the log says; the rest of the change counts."""
    admin = Admin(Listener("127.0.0.1", 9901))
    fixed = replace(SETTINGS, listen=(Listener("::1", 1),), admin=admin, workers=4, event_loop="uvloop")
    applied = Applied(lambda: replace(fixed, nan="null"))
    assert applied.reloader.reload()
    assert applied.settings == [replace(SETTINGS, nan="null")]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [
        f"`{name}` has changed: that takes effect with a restart"
        for name in ("listen", "admin", "workers", "event_loop")
    ]


def broken() -> Settings:
    """A file with a problem."""
    raise SettingsError([Problem(Mark("inferbridge.yaml", 3, 9), "limits has no key 'body'")])


def test_a_broken_file_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the place and the reason, the failure is counted, and nothing is applied."""
    applied = Applied(broken)
    assert not applied.reloader.reload()
    assert (applied.settings, applied.counted) == ([], [False])
    assert caplog.messages == [
        "the configuration is not reloaded, what was in force still is: inferbridge.yaml:3:9: limits has no key 'body'"
    ]


@pytest.mark.parametrize("error", [OSError("keys.txt: no such file"), ValueError("no certificate"), KeyError("ours")])
def test_what_cannot_be_built_changes_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Settings whose files cannot be used, or which meet a fault of ours, change nothing; a next try counts."""
    applied = Applied(lambda: replace(SETTINGS, lossy="allow"), error)
    assert not applied.reloader.reload()
    assert applied.counted == [False]
    assert "what was in force still is" in caplog.text
    applied._error = None
    assert applied.reloader.reload()
    assert applied.counted == [False, True]
