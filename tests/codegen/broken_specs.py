"""Replays broken spec sets: `tests/golden/broken_specs/<case>/` holds the broken files and what must be said of them.

A case's `specs/` is laid over the small valid set `tests/golden/base_specs`: a file of the same path replaces, any
other adds. `expected.txt` has the exact lines, `file:line:col: message`, in the order they are reported.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from inferbridge_codegen.problems import Problems
from inferbridge_codegen.spec.loader import load_specs

_GOLDEN = Path(__file__).resolve().parent.parent / "golden"
BASE = _GOLDEN / "base_specs"
_CASES = _GOLDEN / "broken_specs"
type Load = Callable[[Path, Problems], object]


def cases() -> list[str]:
    """Names of all cases, sorted."""
    return sorted(folder.name for folder in _CASES.iterdir() if folder.is_dir())


def expected_of(case: str) -> list[str]:
    """The lines that the case must give."""
    return (_CASES / case / "expected.txt").read_text(encoding="utf-8").splitlines()


def problems_of(case: str, load: Load = load_specs) -> list[str]:
    """The lines that `load` gives for the case."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "specs"
        shutil.copytree(BASE, root)
        shutil.copytree(_CASES / case / "specs", root, dirs_exist_ok=True)
        return problem_lines(root, load)


def problem_lines(root: Path, load: Load = load_specs) -> list[str]:
    """The lines that `load` gives for the spec folder `root`."""
    problems = Problems()
    load(root, problems)
    return [str(problem) for problem in problems.sorted()]
