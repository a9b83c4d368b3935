"""Changes to a file of keys that leave all else in it, comments too, as it is.

The text is changed where the tree of its YAML says, and read again before anything is written: when it does not say
exactly the old keys with the one change, nothing is written and the user is told what to write himself. So an unusual
file costs a manual step, never an entry. The new text replaces the file in one step, under a lock that every change
takes.
"""

import fcntl
import json
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from inferbridge.auth import key_form
from inferbridge.auth.identity import Grant
from inferbridge.auth.key_file import (
    KeyEntry,
    KeyFileError,
    child_of,
    entry_nodes,
    key_tree,
    keys_of,
    read_keys,
    show_expiry,
)
from inferbridge_codegen.problems import Mark
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar

_NEW_FILE = """\
# Keys that may call the gateway: their digests, the keys themselves are stored nowhere.
# `inferbridge keys` makes, lists and revokes them; comments stay.
keys:
"""


class UnusualFileError(ValueError):
    """The text cannot be changed in place; the message says what to write by hand."""


def entry_text(entry: KeyEntry) -> str:
    """An entry as YAML, without indentation, ending with a line feed."""
    grant = entry.grant or Grant()
    fields = {
        "id": entry.key_id,
        "form": "" if entry.form == "ib" else entry.form,
        "hash": key_form.show_digest(entry.digest),
        "name": json.dumps(entry.name, ensure_ascii=False) if entry.name else "",
        "groups": _texts(entry.groups),
        "models": _texts(grant.models),
        "operations": _texts(grant.operations),
        "endpoints": _texts(grant.endpoints),
        "max_tokens": grant.max_tokens,
        "max_body": grant.max_body,
        "not_after": "" if entry.expires_at is None else show_expiry(entry.expires_at),
        "disabled": "true" if entry.disabled else "",
    }
    return "- " + "  ".join(f"{key}: {value}\n" for key, value in fields.items() if value not in ("", None))


def _texts(texts: tuple[str, ...]) -> str:
    return json.dumps(texts, ensure_ascii=False) if texts else ""


def with_entry(text: bytes, entry: KeyEntry, file: str) -> bytes:
    """The text of a file with one entry more at its end; nothing but white space is a new file.

    Raises `KeyFileError` when the text or the entry is wrong, `UnusualFileError` when there is no place to add it.
    """
    added = entry_text(entry)
    read_keys(f"keys:\n{added}".encode(), "the new key")
    if not text.strip():
        return (_NEW_FILE + textwrap.indent(added, "  ")).encode()
    tree = key_tree(text, file)
    after = _appended(text.decode(), child_of(tree, "keys"), added).encode()
    _check(after, (*keys_of(tree), entry), file, f"add this to its `keys` yourself:\n{added}")
    return after


def _appended(text: str, keys: Node | None, added: str) -> str:
    """The text with an entry more in its list, if that is a block at the end, or empty."""
    if not isinstance(keys, ListNode):
        return text
    begin = _offset(text, keys.mark)
    if empty := re.compile(r"\[\s*\]").match(text, begin):
        return f"{text[:begin]}\n{textwrap.indent(added, '  ')}{text[empty.end() :].lstrip(' ')}"
    end = "" if text.endswith("\n") else "\n"
    return text + end + textwrap.indent(added, " " * (keys.mark.column - 1))


def with_disabled(text: bytes, key_id: str, file: str) -> bytes:
    """The text of a file in which a key is disabled; the same text when it is already.

    Raises `KeyFileError` when the text is wrong, LookupError when it has no such key, `UnusualFileError` when the entry
    cannot be changed.
    """
    tree = key_tree(text, file)
    keys = keys_of(tree)
    at = next((at for at, key in enumerate(keys) if key.key_id == key_id), None)
    if at is None:
        raise LookupError(key_id)
    if keys[at].disabled:
        return text
    node = entry_nodes(tree)[at]
    after = _disabled(text.decode(), node).encode()
    expected = (*keys[:at], replace(keys[at], disabled=True), *keys[at + 1 :])
    _check(after, expected, file, f"write `disabled: true` into the entry at {node.mark} yourself")
    return after


def _disabled(text: str, entry: MapNode) -> str:
    said = child_of(entry, "disabled")
    if isinstance(said, Scalar):
        at = _offset(text, said.text_mark)
        return text[:at] + "true" + text[at + len(said.text) :]
    begin = _offset(text, entry.mark)
    if text[begin] == "{":
        return f"{text[: begin + 1]}disabled: true, {text[begin + 1 :]}"
    second = entry.entries[1][1]  # id and hash are required; the first may stand behind the dash of its list
    begin = _offset(text, second)
    return f"{text[:begin]}disabled: true\n{' ' * (second.column - 1)}{text[begin:]}"


def _offset(text: str, mark: Mark) -> int:
    """Where a place is in the text."""
    lines = text.splitlines(keepends=True)
    return sum(map(len, lines[: mark.line - 1])) + mark.column - 1


def _check(text: bytes, expected: Sequence[KeyEntry], file: str, remedy: str) -> None:
    """Raise `UnusualFileError` unless the text says exactly these keys."""
    reason = "it is written in a way that `inferbridge keys` does not change"
    try:
        if read_keys(text, file) == tuple(expected):
            return
    except KeyFileError as error:
        reason = str(error.problems[0])
    raise UnusualFileError(f"{file} was not changed ({reason}); {remedy}")


def change(path: Path, edit: Callable[[bytes], bytes], *, create: bool = False) -> None:
    """Replace a file's content by what `edit` makes of it; a new file is its owner's alone. OSError as usual.

    What `edit` raises leaves the file as it is. Mode and owner of the file stay; a symbolic link stays one.
    """
    path = path.resolve()
    with _locked(path.parent):
        present = path.exists() or not create
        before = path.read_bytes() if present else b""
        after = edit(before)
        if after != before:
            _replace(path, after, path.stat() if present else None)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # the folder, because the file itself is replaced, and a file for the lock alone would stay behind
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # the new name survives a crash too
    finally:
        os.close(descriptor)


def _replace(path: Path, content: bytes, like: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if like is not None:
                _make_like(descriptor, like)
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _make_like(descriptor: int, like: os.stat_result) -> None:
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)  # else the gateway may not be able to read it any more
    os.fchmod(descriptor, like.st_mode & 0o777)
