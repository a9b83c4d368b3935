"""Where a running proxy keeps its files."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which mitmproxy makes its authority once."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def home(state_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of state for the time of a test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(state_home))
    return state_home
