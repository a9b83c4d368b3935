"""Whether a file has changed, by looking at it now and then."""

import os
from pathlib import Path

from inferbridge.process.watching import FileWatch, Look


class Looks:
    """How a file looks, as the test says."""

    def __init__(self) -> None:
        self.now: Look = (1, 1, 10, 0)

    def __call__(self, path: Path) -> Look:
        return self.now


def test_a_change_counts_once_when_it_is_complete() -> None:
    """While a file looks different each time it is being written; when it has settled that is one change."""
    looks = Looks()
    watch = FileWatch(Path("x"), looks)
    assert [watch.changed() for _ in range(3)] == [False, False, False]
    for size in (0, 5):
        looks.now = (1, 1, size, 1)
        assert not watch.changed()
    assert [watch.changed() for _ in range(3)] == [True, False, False]


def test_a_file_that_is_gone_is_no_change() -> None:
    """Between the removal and the arrival of the new file there is nothing to read; the old one back is none either."""
    looks = Looks()
    watch = FileWatch(Path("x"), looks)
    old, looks.now = looks.now, ()
    assert [watch.changed() for _ in range(3)] == [False, False, False]
    looks.now = old
    assert [watch.changed() for _ in range(3)] == [False, False, False]
    looks.now = (1, 2, 10, 0)
    assert [watch.changed() for _ in range(2)] == [False, True]


def test_real_files(tmp_path: Path) -> None:
    """An edit in place, a file moved over it and a swapped link to its folder are all seen."""
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inferbridge.yaml").write_text("same")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "inferbridge.yaml").symlink_to("..data/inferbridge.yaml")
    watch = FileWatch(tmp_path / "inferbridge.yaml")

    def swap() -> None:
        (tmp_path / "..new").symlink_to("2")
        (tmp_path / "..new").replace(tmp_path / "..data")

    def replace() -> None:
        (tmp_path / "other").write_text("same")
        (tmp_path / "other").replace(tmp_path / "2" / "inferbridge.yaml")

    def edit() -> None:
        file = tmp_path / "2" / "inferbridge.yaml"
        file.write_text("more")
        os.utime(file, ns=(1, 1))  # a file system may count time in seconds

    for change in (swap, replace, edit):
        assert not watch.changed()
        change()
        assert [watch.changed() for _ in range(3)] == [False, True, False], change.__name__
