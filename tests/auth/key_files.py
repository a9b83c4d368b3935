"""Files of keys for tests, and a clock that is told the time."""

from dataclasses import dataclass
from pathlib import Path

from inferbridge.auth import key_form
from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.identity import Presented, Token
from inferbridge.auth.keys import KeysAuthenticator
from inferbridge.auth.settings import KeysSettings

ID = "0Yw3kQm8sTz5RbN1c"
SECRET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
KEY = f"ib-{ID}_{SECRET}"
HASH = key_form.show_digest(key_form.digest_of(ID, SECRET))
PLAIN = "sk-brought-along-from-elsewhere"
PLAIN_HASH = key_form.show_digest(key_form.plain_digest(PLAIN))
NOON = 1_800_000_000.0
"""Some second since 1970: 2027-01-15T08:00:00Z."""


@dataclass
class Clock:
    """Seconds, as told."""

    seconds: float = NOON

    def __call__(self) -> float:
        return self.seconds


def entry(*lines: str, key_id: str = ID, digest: str = HASH) -> str:
    """A file with one key; `lines` are more of its settings."""
    return "\n".join(["keys:", f"  - id: {key_id}", f"    hash: {digest}", *(f"    {line}" for line in lines), ""])


PLAIN_ENTRY = f"  - {{id: batch, form: plain, hash: {PLAIN_HASH}}}\n"


def authenticator(folder: Path, text: str, clock: Clock | None = None) -> KeysAuthenticator:
    """An authenticator of a file with this text; the clock is both of its clocks."""
    path = folder / "keys.yaml"
    path.write_text(text, encoding="utf-8")
    clock = clock or Clock()
    return KeysAuthenticator(KeysSettings(path), clock, monotonic=clock)


def presented(key: str) -> Presented:
    """What a client with this token shows."""
    return Presented(Token.of(key))


def refusal(asked: KeysAuthenticator, key: str) -> Unauthenticated | None:
    """How a key is refused; None when it is not."""
    try:
        asked.authenticate(presented(key))
    except Unauthenticated as error:
        return error
    return None
