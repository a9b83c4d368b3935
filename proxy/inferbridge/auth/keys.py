"""Recognises keys from a file of their digests.

    token ─▶ begins with ib- ? ──yes──▶ id ─▶ entry, or a dummy ─▶ one SHA-256, one comparison ─▶ good, or unknown
                └─no─▶ has an entry its digest? ──no──▶ not ours: the next authenticator is asked
                                     └─yes──▶ good

A wrong secret and an unknown id take the same steps and get the same answer. Only then it counts whether the key is
disabled or past its time, so that nobody learns that of a key he does not hold.
"""

import hmac
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inferbridge.auth import key_form
from inferbridge.auth.authenticator import Unauthenticated
from inferbridge.auth.files import WatchedFile
from inferbridge.auth.identity import Identity, Presented, Token
from inferbridge.auth.key_file import METHOD, KeyEntry, read_keys, writable_by_others
from inferbridge.auth.settings import KeysSettings


@dataclass(frozen=True, slots=True)
class _Known:
    """A key that can be shown to us, and whom it makes of its holder."""

    entry: KeyEntry
    identity: Identity


_DUMMY = _Known(KeyEntry("", os.urandom(32), disabled=True), Identity(""))
"""Stands for ids that do not exist. Nobody knows what its digest is the digest of."""


class _Table:
    """The keys of one state of the file. Identities of the state before are taken over where nothing changed."""

    def __init__(self, entries: Sequence[KeyEntry], before: "_Table | None") -> None:
        kept = {known.identity: known.identity for known in before.all} if before else {}
        self.all: tuple[_Known, ...] = tuple(_Known(one, kept.get(one.identity, one.identity)) for one in entries)
        self._own = {known.entry.key_id: known for known in self.all if known.entry.form == "ib"}
        # found by its digest: how far two digests agree says nothing about the keys, and cannot be chosen
        self._plain = {known.entry.digest: known for known in self.all if known.entry.form == "plain"}

    def find(self, token: Token) -> _Known | None:
        """The key that this token is; None when it is of another kind. Raises Unauthenticated."""
        text = token.secret.reveal()
        return self._find_own(text) if text.startswith(key_form.PREFIX) else self._plain.get(token.digest)

    def _find_own(self, text: str) -> _Known:
        parts = key_form.split(text)
        if parts is None:
            raise Unauthenticated("malformed", f"it begins with {key_form.PREFIX} and has not the form of a key")
        known = self._own.get(parts[0], _DUMMY)
        if not hmac.compare_digest(known.entry.digest, key_form.digest_of(*parts)):
            raise Unauthenticated("unknown", "no key has this id and this secret")
        return known


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What a `Presented` was found to be, as long as the file stays as it is."""

    table: _Table
    known: _Known


class KeysAuthenticator:
    """Keys of a file, which is read again when it changes. ValueError or OSError when it cannot be read at first."""

    method = METHOD
    challenge = "Bearer"

    def __init__(
        self,
        settings: KeysSettings,
        now: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is seconds since 1970, for expiry; `monotonic` says when to look at the file again."""
        self._now = now
        self._memo = f"keys {settings.file}"
        self._path = settings.file
        self._table: _Table | None = None
        self._file = WatchedFile(settings.file, self._read, now=monotonic)

    def _read(self, text: bytes) -> _Table:
        self._table = _Table(read_keys(text, str(self._path)), self._table)
        return self._table

    def authenticate(self, presented: Presented) -> Identity | None:
        """Who shows this key; None for a token that is no key of ours."""
        if presented.token is None:
            return None
        table = self._file.value
        remembered = presented.memo.get(self._memo)
        if isinstance(remembered, _Remembered) and remembered.table is table:
            return self._admitted(remembered.known)
        known = table.find(presented.token)
        if known is None:
            return None
        presented.memo[self._memo] = _Remembered(table, known)
        return self._admitted(known)

    def _admitted(self, known: _Known) -> Identity:
        entry = known.entry
        if entry.disabled:
            raise Unauthenticated("disabled", f"key {entry.key_id}")
        if entry.expires_at is not None and entry.expires_at <= self._now():
            raise Unauthenticated("expired", f"key {entry.key_id}")
        return known.identity

    def posture(self) -> Sequence[str]:
        """How many keys there are, how many never expire, and whether others can write the file."""
        entries = [known.entry for known in self._file.value.all]
        now = self._now()
        good = [one for one in entries if not one.disabled and not one.expired(now)]
        lines = [f"keys: {len(good)} of {len(entries)} keys in {self._path} are good"]
        if endless := sum(one.expires_at is None for one in good):
            lines.append(f"keys: {endless} of them never expire")
        try:
            warning = writable_by_others(self._path)
        except OSError as error:
            warning = f"{self._path} cannot be looked at: {error.strerror}"
        return (*lines, *([f"keys: {warning}"] if warning else ()))

    async def close(self) -> None:
        """Nothing is open."""
