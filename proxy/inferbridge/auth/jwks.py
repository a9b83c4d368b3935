"""The public keys of an issuer, as a JSON Web Key Set (RFC 7517) says them.

What a key may verify is decided by the key, never by the token: by its `alg`, else by its type and curve. Shared
secrets (`oct`), private keys, keys for encryption and unknown algorithms are left out, so that no token can be verified
with them.
"""

import json
import logging
from dataclasses import dataclass, field
from typing import Any

from jwt import PyJWKSet
from jwt.exceptions import PyJWTError

_log = logging.getLogger(__name__)

_ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC P-256": ("ES256",),
    "EC P-384": ("ES384",),
    "EC P-521": ("ES512",),
    "OKP Ed25519": ("EdDSA",),
    "OKP Ed448": ("EdDSA",),
}
"""What a key may verify, by its `kty` and `crv`."""


@dataclass(frozen=True, slots=True)
class Key:
    """One public key."""

    key_id: str | None
    algorithms: tuple[str, ...]
    """What it may verify."""
    public: Any
    """The key as `cryptography` has it."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Keys that count at one time. Equal when they were read from equal documents."""

    document: tuple[object, ...]
    keys: tuple[Key, ...] = field(compare=False)

    def lacks(self, key_id: str | None) -> bool:
        """A key of this name is not here; never true for a token that names none."""
        return key_id is not None and all(key.key_id != key_id for key in self.keys)

    def fitting(self, key_id: str | None, algorithm: str) -> tuple[Key, ...]:
        """The keys that a token with this `kid` and `alg` may be signed with."""
        named = self.keys if key_id is None else (key for key in self.keys if key.key_id == key_id)
        return tuple(key for key in named if algorithm in key.algorithms)


def read_key_set(content: bytes) -> KeySet:
    """The keys of a JSON text. ValueError when it is no key set; one without a usable key is an empty one."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the key set is no JSON: {error}") from None
    return key_set(document)


def key_set(document: object) -> KeySet:
    """The usable keys of a decoded key set. ValueError when it is none."""
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list):
        raise ValueError('the key set is no JSON object with a list "keys"')
    keys = tuple(key for member in members if (key := _key(member)) is not None)
    if not keys:
        _log.warning("a key set of %d keys holds none that can verify tokens: no token will be accepted", len(members))
    return KeySet(tuple(members), keys)


def _key(member: object) -> Key | None:
    if not isinstance(member, dict) or not _is_for_signatures(member):
        return None
    algorithms = _algorithms(member)
    if not algorithms:
        return None
    try:
        found = PyJWKSet([{**member, "alg": algorithms[0]}]).keys[0]
    except (PyJWTError, TypeError, ValueError, KeyError):
        return None
    return Key(member.get("kid"), algorithms, found.key)


def _is_for_signatures(member: dict[str, object]) -> bool:
    operations = member.get("key_ops")
    return (
        member.get("use", "sig") == "sig"
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
        and isinstance(member.get("kid", ""), str)
        and "d" not in member
    )


def _algorithms(member: dict[str, object]) -> tuple[str, ...]:
    able = _ALGORITHMS.get(" ".join(str(member[name]) for name in ("kty", "crv") if name in member), ())
    return able if "alg" not in member else tuple(each for each in able if each == member["alg"])
