"""Generation is a function of the specs alone, and drift from it is found."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inferbridge_codegen import files
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_output, default_specs
from inferbridge_codegen.render.package import FileSet, render_package


@pytest.fixture(scope="module")
def rendered() -> FileSet:
    """All generated files of the repository's specs."""
    return render_package(load_model(default_specs()))


def test_committed_code_is_what_the_specs_say(rendered: FileSet) -> None:
    """The committed package has exactly the generator's bytes."""
    folder = default_output()
    assert folder is not None
    assert files.compare(rendered, folder) == []


@pytest.mark.parametrize(("seed", "locale"), [("1", "C"), ("4711", "C.UTF-8")])
def test_output_depends_on_nothing_else(rendered: FileSet, tmp_path: Path, seed: str, locale: str) -> None:
    """Another hash seed, locale and working directory give the same bytes."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "inferbridge.cli", "generate", "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tmp_path)
    assert files.compare(rendered, tmp_path / "out") == []


def test_check_finds_changed_missing_and_stale_files(rendered: FileSet, tmp_path: Path) -> None:
    """Drift of each kind is reported, and writing repairs it."""
    files.write(rendered, tmp_path)
    (tmp_path / "registry.py").write_text("changed\n")
    (tmp_path / "runtimes.py").unlink()
    (tmp_path / "old.py").write_text("stale\n")
    drifts = files.compare(rendered, tmp_path)
    assert [(drift.kind, drift.path) for drift in drifts] == [
        ("stale", "old.py"),
        ("changed", "registry.py"),
        ("missing", "runtimes.py"),
    ]
    assert "-changed" in drifts[1].diff
    files.write(rendered, tmp_path)
    assert files.compare(rendered, tmp_path) == []


def test_every_file_says_that_it_is_generated(rendered: FileSet) -> None:
    """No source file lacks the header that warns against editing it."""
    sources = {path: content.decode() for path, content in rendered.items() if path.endswith(".py")}
    assert sources
    for path, text in sources.items():
        assert "Do not edit" in text.partition('"""')[0], path
