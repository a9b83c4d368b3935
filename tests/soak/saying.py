"""What a soak prints, as it goes on."""

import sys
from collections.abc import Collection


def say(line: str) -> None:
    """At once, also where nobody watches."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def verdict(wrong: Collection[str]) -> int:
    """All that is wrong, and the exit code."""
    for line in wrong:
        say(f"WRONG  {line}")
    say("failed" if wrong else "passed")
    return 1 if wrong else 0
