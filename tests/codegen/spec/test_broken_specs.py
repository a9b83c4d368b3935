"""Every broken spec set is refused with exactly the lines its case holds."""

import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.broken_specs import BASE, cases, expected_of, problem_lines, problems_of
from inferbridge_codegen.spec.includes import MAX_CHAIN
from inferbridge_codegen.spec.yaml_tree import MAX_BYTES

_REAL_SPECS = Path(__file__).resolve().parents[3] / "specs"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the small valid spec set."""
    return Path(shutil.copytree(BASE, tmp_path / "specs"))


def _write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", cases())
def test_case_gives_its_exact_lines(case: str) -> None:
    """A broken spec set gives its expected `file:line:col: message` lines, all of them and no others."""
    expected = expected_of(case)
    assert expected
    assert problems_of(case) == expected


def test_base_set_is_valid() -> None:
    """What the cases are laid over has no problem of its own, so every line comes from the case."""
    assert problem_lines(BASE) == []


def test_real_specs_are_valid() -> None:
    """The specs that are shipped load without a problem."""
    assert problem_lines(_REAL_SPECS) == []


def test_missing_folders_are_named(tmp_path: Path) -> None:
    """A folder that is no spec folder gives a line for each missing part instead of an empty spec set."""
    assert problem_lines(tmp_path) == [
        "apis:1:1: no apis/*.yaml in the spec folder",
        "operations:1:1: no operations/*.yaml in the spec folder",
        "runtimes:1:1: no runtimes/*.yaml in the spec folder",
    ]


def test_symlink_out_of_the_folder_is_refused(root: Path, tmp_path: Path) -> None:
    """An include through a symlink that leads outside the spec folder is not read."""
    _write(tmp_path, "secret.yaml", "operations: {}\n")
    (root / "operations" / "parts").symlink_to(tmp_path)
    _write(root, "operations/more.yaml", "include: [operations/parts/secret.yaml]\noperations: {}\n")
    assert problem_lines(root) == [
        "operations/more.yaml:1:11: operations/parts/secret.yaml leads outside the spec folder"
    ]


def test_top_file_that_leads_outside_is_refused(root: Path, tmp_path: Path) -> None:
    """A spec file that is itself a symlink to the outside is not read either."""
    (root / "apis" / "other.yaml").symlink_to(_write(tmp_path, "secret.yaml", "api: other\n"))
    assert problem_lines(root) == ["apis/other.yaml:1:1: apis/other.yaml leads outside the spec folder"]


def test_symlink_within_the_folder_is_followed(root: Path) -> None:
    """A symlink that stays below the spec folder is an ordinary file."""
    part = _write(root, "parts/one.yaml", "operations:\n  tell: {doc: Tell., request: {}, reply: {}}\n")
    (root / "parts" / "link.yaml").symlink_to(part)
    _write(root, "operations/more.yaml", "include: [parts/link.yaml]\noperations: {}\n")
    assert problem_lines(root) == []


def test_cycle_through_a_symlink_is_found(root: Path) -> None:
    """A file that includes itself under another name is a cycle."""
    path = _write(root, "operations/more.yaml", "include: [parts/link.yaml]\noperations: {}\n")
    (root / "parts").mkdir()
    (root / "parts" / "link.yaml").symlink_to(path)
    assert problem_lines(root) == ["operations/more.yaml:1:11: include cycle: operations/more.yaml -> parts/link.yaml"]


def test_loop_of_symlinks_is_a_problem(root: Path) -> None:
    """Symlinks that point at each other are reported, on every Python version in the same words."""
    (root / "loop.yaml").symlink_to(root / "pool.yaml")
    (root / "pool.yaml").symlink_to(root / "loop.yaml")
    _write(root, "operations/more.yaml", "include: [loop.yaml]\noperations: {}\n")
    assert problem_lines(root) == [
        "operations/more.yaml:1:11: cannot read loop.yaml: Too many levels of symbolic links"
    ]


def test_pipe_is_not_read(root: Path) -> None:
    """A named pipe in the spec folder is refused; reading it would block for ever."""
    os.mkfifo(root / "operations" / "pipe.yaml")
    assert problem_lines(root) == ["operations/pipe.yaml:1:1: cannot read operations/pipe.yaml: it is not a file"]


def test_long_chain_of_includes_is_refused(root: Path) -> None:
    """Includes that go on and on end in a problem where the limit is passed, not in a recursion error."""
    for index in range(MAX_CHAIN + 10):
        _write(root, f"parts/{index}.yaml", f"include: [parts/{index + 1}.yaml]\n")
    _write(root, "operations/more.yaml", "include: [parts/0.yaml]\noperations: {}\n")
    assert problem_lines(root) == [f"parts/{MAX_CHAIN - 1}.yaml:1:11: includes nested more than {MAX_CHAIN} deep"]


def test_big_file_is_refused(root: Path) -> None:
    """A file one byte over the limit is refused unread; one of exactly the limit is read."""
    text = "operations: {}\n#"
    _write(root, "operations/fits.yaml", text.ljust(MAX_BYTES, "x"))
    _write(root, "operations/more.yaml", text.ljust(MAX_BYTES + 1, "x"))
    assert problem_lines(root) == ["operations/more.yaml:1:1: the file is larger than 1048576 bytes"]


def test_folder_name_does_not_matter(root: Path, tmp_path: Path) -> None:
    """Lines are relative to the spec folder, wherever it is."""
    _write(root, "operations/more.yaml", "operations: []\n")
    elsewhere = shutil.copytree(root, tmp_path / "other" / "place")
    assert problem_lines(root) == problem_lines(elsewhere) == ["operations/more.yaml:1:13: operations must be a map"]


_JUNK = st.sampled_from(
    ["", "~", "[]", "{}", "5", "true", "- ", ": ", "\n", "  ", "'", "{", "]", "/", "..", "list<", "é", "&a "]
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_specs_never_raise(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A valid spec set with any stretch of any file replaced loads or gives lines with a place; it never raises."""
    root = tmp_path_factory.mktemp("damaged") / "specs"
    shutil.copytree(BASE, root)
    source = data.draw(st.sampled_from(sorted(_REAL_SPECS.glob("*/*.yaml"))))
    text = source.read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = start + data.draw(st.integers(0, 12))
    (root / source.parent.name / "damaged.yaml").write_text(
        text[:start] + data.draw(_JUNK) + text[end:], encoding="utf-8"
    )
    assert all(re.fullmatch(r"[a-z]+/damaged\.yaml:\d+:\d+: .+", line) for line in problem_lines(root))
