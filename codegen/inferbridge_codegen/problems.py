"""Problems in the user's input: collected with their place, reported together, never raised one by one."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

_MAX_MESSAGE = 1000


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file: `file` relative to its root, `line` and `column` from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def after(self, characters: int) -> "Mark":
        """The place some characters further on the same line."""
        return Mark(self.file, self.line, self.column + characters)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and where."""

    mark: Mark
    message: str

    def __str__(self) -> str:
        return f"{self.mark}: {self.message}"


class SpecError(Exception):
    """The input cannot be used; `problems` says all that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """Collects problems; the same one twice counts once. True when there is one."""

    def __init__(self) -> None:
        self._found: set[Problem] = set()

    def add(self, mark: Mark, message: str) -> None:
        """Note one problem. The message is cut to 1 000 characters and made one printable line."""
        self._found.add(Problem(mark, _one_line(message)))

    def sorted(self) -> list[Problem]:
        """All problems, by place."""
        return sorted(self._found)

    def raise_any(self) -> None:
        """Raise `SpecError` when there is a problem."""
        if self._found:
            raise SpecError(self.sorted())

    def __len__(self) -> int:
        return len(self._found)


def _one_line(message: str) -> str:
    # messages quote the input: a newline or an escape sequence in it must not forge output lines or reach a terminal
    if len(message) > _MAX_MESSAGE:
        message = message[: _MAX_MESSAGE - 1] + "…"
    if message.isprintable():
        return message
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in message)


def suggestion(word: str, known: Iterable[str]) -> str:
    """A hint at the nearest known word, or an empty string."""
    nearest = get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
