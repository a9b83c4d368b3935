"""The form of our own keys, and what is stored of any key.

    key    = "ib-" id "_" secret            all of it is shown once, when the key is made
    id     = 17 base62 digits               96 random bits; public: logs, lists and rules name it
    secret = 43 base62 digits               256 random bits
    digest = SHA-256(id 0x00 secret)        stored; a plain key, brought along from elsewhere: SHA-256(key)

One round of SHA-256 is enough because nobody can go through 2^256 secrets. For a password it would not be, so plain
keys have a least length.
"""

import hashlib
import re
import secrets
import string

PREFIX = "ib-"
PLAIN_LEAST = 20
"""Characters that a plain key has at least."""
ALGORITHM = "sha256:"

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_BITS, _ID_WIDTH = 96, 17
_SECRET_BITS, _SECRET_WIDTH = 256, 43
_ID = re.compile(rf"[0-9A-Za-z]{{{_ID_WIDTH}}}")
_KEY = re.compile(rf"{PREFIX}({_ID.pattern})_([0-9A-Za-z]{{{_SECRET_WIDTH}}})")
_PLAIN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


def new_key() -> tuple[str, str]:
    """A new id, and its secret."""
    return _base62(secrets.randbits(_ID_BITS), _ID_WIDTH), _base62(secrets.randbits(_SECRET_BITS), _SECRET_WIDTH)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def written(key_id: str, secret: str) -> str:
    """The key as its holder sends it."""
    return f"{PREFIX}{key_id}_{secret}"


def split(text: str) -> tuple[str, str] | None:
    """Id and secret of a key; None when it has not the form of one."""
    found = _KEY.fullmatch(text)
    return None if found is None else (found[1], found[2])


def digest_of(key_id: str, secret: str) -> bytes:
    """What is stored of one of our keys."""
    return hashlib.sha256(f"{key_id}\0{secret}".encode()).digest()


def plain_digest(text: str) -> bytes:
    """What is stored of a key of another system; ValueError says why the key is not taken."""
    if text.startswith(PREFIX):
        raise ValueError(f"begins with {PREFIX}, so it would be read as a key of inferbridge's own")
    if len(text) < PLAIN_LEAST:
        raise ValueError(f"has {len(text)} characters, and at least {PLAIN_LEAST} are needed: short ones are guessed")
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError("holds a space or a character that is not printable ASCII, which no header carries unchanged")
    return hashlib.sha256(text.encode()).digest()


def show_digest(digest: bytes) -> str:
    """A digest as it stands in a file."""
    return ALGORITHM + digest.hex()


def parse_digest(text: str) -> bytes:
    """A digest from a file; ValueError with what is wrong, which does not repeat the text: it may be a key."""
    name, digits = text[: len(ALGORITHM)], text[len(ALGORITHM) :]
    if name != ALGORITHM or not re.fullmatch("[0-9a-fA-F]{64}", digits):
        raise ValueError(f"must be {ALGORITHM} and 64 hexadecimal digits, as `inferbridge keys hash` prints it")
    return bytes.fromhex(digits)


def is_id(text: str, *, plain: bool) -> bool:
    """Whether this can be the id of a plain key, or else of one of our own."""
    return bool((_PLAIN_ID if plain else _ID).fullmatch(text))
