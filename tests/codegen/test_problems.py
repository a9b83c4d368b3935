"""Problems are collected once each and reported in order, one printable line each."""

import pytest

from inferbridge_codegen.problems import Mark, Problem, Problems, SpecError, suggestion


def test_order_and_duplicates() -> None:
    """Problems come by file, then line, then column as numbers, and the same one twice counts once."""
    problems = Problems()
    for mark in (Mark("b", 1, 1), Mark("a", 10, 1), Mark("a", 9, 10), Mark("a", 9, 9), Mark("a", 9, 9)):
        problems.add(mark, "wrong")
    assert [str(problem) for problem in problems.sorted()] == [
        "a:9:9: wrong",
        "a:9:10: wrong",
        "a:10:1: wrong",
        "b:1:1: wrong",
    ]
    assert len(problems) == 4


def test_truth() -> None:
    """A collector is true as soon as it holds something."""
    problems = Problems()
    assert not problems
    problems.raise_any()
    problems.add(Mark("a", 1, 1), "wrong")
    assert problems


def test_error_says_everything() -> None:
    """The exception carries all problems and prints them a line each."""
    problems = Problems()
    problems.add(Mark("b", 2, 3), "worse")
    problems.add(Mark("a", 1, 1), "wrong")
    with pytest.raises(SpecError) as raised:
        problems.raise_any()
    assert str(raised.value) == "a:1:1: wrong\nb:2:3: worse"
    assert raised.value.problems == (Problem(Mark("a", 1, 1), "wrong"), Problem(Mark("b", 2, 3), "worse"))


def test_message_cannot_forge_lines_or_colours() -> None:
    """What a message quotes from the input reaches the terminal as one printable line; letters of any script stay."""
    problems = Problems()
    problems.add(Mark("a", 1, 1), "größe\nb:1:1: forged \x1b[31m \u202e")
    assert str(problems.sorted()[0]) == "a:1:1: größe\\nb:1:1: forged \\x1b[31m \\u202e"


def test_long_message_is_cut() -> None:
    """A message that quotes a whole file is cut, visibly."""
    problems = Problems()
    problems.add(Mark("a", 1, 1), "x" * 5000)
    message = problems.sorted()[0].message
    assert (len(message), message[-2:]) == (1000, "x…")


def test_suggestion() -> None:
    """The nearest known word is suggested, none if all are far, and the order of the known words does not matter."""
    assert suggestion("rejct", ["warn", "reject"]) == "; did you mean 'reject'?"
    assert suggestion("zzz", ["warn", "reject"]) == ""
    assert suggestion("ab", ["aa", "bb", "cc"]) == suggestion("ab", ["cc", "bb", "aa"])
    assert suggestion("x", []) == ""
