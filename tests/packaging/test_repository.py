"""Rules for the files of the repository as a whole."""

import re
import stat
import subprocess
from pathlib import Path

import pytest

from packaging_sources import ROOT, modules, tracked_files, tracked_paths

MOST_LINES = 600
WORKPLACE = re.compile(r"/wor[k]/|/hom[e]/[a-z]|/roo[t]/|/tm[p]/lab")
"""Paths of the machine that something was written on."""
TEXT = {".py", ".pyi", ".md", ".toml", ".yaml", ".yml", ".json", ".proto", ".jinja", ".txt", ".sh", ".cfg", ""}


def relative(path: Path) -> str:
    """A path as a reader knows it."""
    return path.relative_to(ROOT).as_posix()


def test_nothing_stray_is_in_the_repository() -> None:
    """The top level holds what the layout says, and there are no symbolic links."""
    known = {".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml"}
    known |= {"codegen", "docs", "generated", "proxy", "specs", "tests"}
    assert {relative(path).partition("/")[0] for path in tracked_paths()} <= known
    assert [relative(path) for path in tracked_paths() if path.is_symlink()] == []


def test_no_source_file_is_too_long() -> None:
    """A file written by hand has at most 600 lines; what the generator writes may have more."""
    written = [path for path in tracked_files() if path.suffix in {".py", ".jinja", ".yaml"}]
    written = [path for path in written if not relative(path).startswith(("generated/", "tests/golden/"))]
    lengths = {relative(path): path.read_bytes().count(b"\n") for path in written}
    assert written
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_nothing_names_the_place_it_was_written_at() -> None:
    """No text of the repository holds a path of somebody's machine."""
    found = []
    for path in tracked_files():
        if path.suffix in TEXT and (hit := WORKPLACE.search(path.read_text(encoding="utf-8", errors="replace"))):
            found.append(f"{relative(path)}: {hit[0]}")
    assert not found, "\n".join(found)


def test_every_module_says_what_it_is() -> None:
    """Each module of the three packages begins with a docstring, after the header of generated ones."""
    silent = [name for name, path in modules() if not _first_statement(path).startswith('"""')]
    assert silent == []


def _first_statement(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line for line in lines if line.strip() and not line.startswith("#")), "")


@pytest.mark.parametrize("script", ["run", "find-python", "setup", "test-other-pythons"])
def test_scripts_are_executable(script: str) -> None:
    """What the Makefile and CI call can be called."""
    path = ROOT / ".ci" / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert path.read_text().startswith("#!")


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    """A Python that is too old, or none at all, is one clear line that says what is needed."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    run = subprocess.run(
        [ROOT / ".ci" / "find-python"],
        env={"PYTHON": str(old), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == f"inferbridge needs Python 3.12 or newer with venv, and PYTHON={old} is not one\n"


def test_the_license_is_complete() -> None:
    """LICENSE is the text of Apache-2.0, as the metadata says."""
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
