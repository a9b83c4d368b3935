"""The cache of virtual environments: made once, found again, never half."""

from pathlib import Path

import pytest

from runtimes import environments
from runtimes.environments import EnvironmentFailed, EnvironmentUnavailable, Recipe, prepare

ANY_PYTHON = ("3.13", "3.12", "3.14")


class Installer:
    """Stands in for venv and pip: makes the folder, or fails as told."""

    problem = ""

    def run(self, command: list[str | Path]) -> None:
        """Run a command of the build."""
        if "venv" in command:
            Path(command[-1]).mkdir()
        elif self.problem:
            raise EnvironmentFailed(self.problem)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a recipe `empty` that asks for nothing."""
    (tmp_path / "empty.txt").write_text("")
    monkeypatch.setenv("INFERBRIDGE_TEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setitem(environments.RECIPES, "empty", Recipe("empty", ANY_PYTHON))
    return tmp_path / "cache"


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    """What builds are made with."""
    stand_in = Installer()
    monkeypatch.setattr(environments, "_run", stand_in.run)
    return stand_in


def test_made_once(cache: Path, installer: Installer) -> None:
    """An environment that is there is used as it is, and other requirements make another one."""
    first = prepare("empty")
    (first.folder / "kept").touch()
    assert (prepare("empty").folder / "kept").exists()
    (environments.REQUIREMENTS / "empty.txt").write_text("# other\n")
    assert prepare("empty").folder != first.folder


def test_interrupted_build_is_not_used(cache: Path, installer: Installer) -> None:
    """A build that stopped before its end is no environment, and the next one starts anew."""
    installer.problem = "no space left"
    with pytest.raises(EnvironmentFailed, match="no space left"):
        prepare("empty")
    (draft,) = cache.glob("*.draft")
    (draft / "left over").touch()
    installer.problem = ""
    assert list(prepare("empty").folder.iterdir()) == []
    assert not draft.exists()


def test_missing_python_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a fitting Python the reason says which one was looked for."""
    monkeypatch.setitem(environments.RECIPES, "empty", Recipe("empty", ("2.4",)))
    with pytest.raises(EnvironmentUnavailable, match=r"empty needs Python 2\.4"):
        prepare("empty")
