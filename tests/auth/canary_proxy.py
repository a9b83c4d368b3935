"""`inferbridge proxy` with faults of its own: where a call says so, our code raises and quotes all that it holds.

Run as a program, with the arguments of `inferbridge`.
"""

from typing import Any

from inferbridge.auth.presented import Reader
from inferbridge.bridge.bridge import Bridge
from inferbridge.cli import main
from inferbridge.gateway.calls.guard import Guard


def quoting(owner: type, name: str, word: str) -> None:
    """Have a method raise where the word is in what it gets, from another error and with notes, as libraries do."""
    method = getattr(owner, name)

    def faulty(self: Any, *arguments: Any, **named: Any) -> Any:
        held = repr([*arguments])
        if word in held:
            try:
                raise KeyError(held)
            except KeyError as error:
                raised = ValueError(f"cannot make sense of {held}\nsecond line")
                raised.add_note(held)
                raise raised from error
        return method(self, *arguments, **named)

    setattr(owner, name, faulty)


def plant() -> None:
    """Plant all faults."""
    quoting(Reader, "read", "explode-reading")
    quoting(Guard, "open", "explode-opening")
    quoting(Bridge, "request", "explode-crossing")
    quoting(Bridge, "write_reply", "explode-replying")


if __name__ == "__main__":
    plant()
    main()
