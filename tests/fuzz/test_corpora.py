"""Each fuzz target over its committed corpus, so that no target and no mended failure rots."""

import pytest

from fuzz.targets import CORPUS, TARGETS


def test_every_target_has_a_corpus() -> None:
    """There is a folder of inputs for each target, and none without."""
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def test_corpora_are_small() -> None:
    """The inputs of a target have some kilobytes together: what is found anew each night is not kept here."""
    for folder in CORPUS.iterdir():
        assert 0 < sum(path.stat().st_size for path in folder.iterdir()) <= 32 * 1024, folder.name


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_keeps_its_promise_over_its_corpus(name: str) -> None:
    """Every input of the corpus is taken as the target says, whole and with its last byte lost."""
    for path in sorted((CORPUS / name).iterdir()):
        data = path.read_bytes()
        TARGETS[name](data)
        TARGETS[name](data[:-1])
