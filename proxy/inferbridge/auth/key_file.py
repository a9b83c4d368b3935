"""The file of keys: what it may say, and how it is read.

keys:
  - id: 0Yw3kQm8sTz5RbN1c
    hash: sha256:9f86d0…                # the key itself is stored nowhere
    name: search                        # the subject; several keys may share it
    groups: [team-search]
    models: ["llama-*"]                 # also operations, endpoints, max_tokens, max_body: what this key may do
    not_after: 2027-02-24               # the last day, in UTC; or a time, 2027-02-24T18:00:00Z
    disabled: false
  - {id: batch, form: plain, hash: sha256:3b64d1…}     # a key of another system: SHA-256 of all of it
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from inferbridge.auth import key_form
from inferbridge.auth.identity import Grant, Identity
from inferbridge.config.auth import GRANT
from inferbridge.config.kinds import Choice, Each, Field, ListOf, Record, Schema, SettingsReader, Switch, Text, name
from inferbridge_codegen.problems import Mark, Problem, Problems
from inferbridge_codegen.spec.yaml_tree import MapNode, Node, load_yaml

METHOD = "keys"
_WRITABLE_BY_OTHERS = 0o022
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
_TIME = re.compile(f"{_DATE.pattern}[Tt ]{_CLOCK}")


class KeyFileError(ValueError):
    """The file cannot be used; the message has a line for each problem, with its place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key as the file describes it."""

    key_id: str
    digest: bytes = field(repr=False)
    """Of id and secret, or of all of a plain key; see `key_form`."""
    form: Literal["ib", "plain"] = "ib"
    name: str = ""
    groups: tuple[str, ...] = ()
    grant: Grant | None = None
    expires_at: float | None = None
    """Seconds since 1970."""
    disabled: bool = False

    @property
    def identity(self) -> Identity:
        """Whoever shows this key."""
        return Identity(
            self.name or self.key_id, self.groups, METHOD, self.key_id, expires_at=self.expires_at, grant=self.grant
        )

    def expired(self, now: float) -> bool:
        """Whether it is past its time; `now` in seconds since 1970."""
        return self.expires_at is not None and self.expires_at <= now


def parse_expiry(text: str) -> float:
    """The second from which a key is not good any more: a time of RFC 3339, or a date, which is its last day in UTC.

    Seconds since 1970; ValueError with what is wrong.
    """
    try:
        if _DATE.fullmatch(text):
            return (datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)).timestamp()
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"is no day or time there is: {error}") from None
    raise ValueError("must be a date such as 2027-02-24, or a time with its zone such as 2027-02-24T18:00:00Z")


def show_expiry(seconds: float) -> str:
    """A time as the file says it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def writable_by_others(path: Path) -> str:
    """A warning when others than the owner may write the file; empty otherwise. OSError when it cannot be looked at."""
    mode = path.stat().st_mode & 0o777
    if not mode & _WRITABLE_BY_OTHERS:
        return ""
    return f"{path} can be written by others (mode {mode:04o}), who can give themselves keys: chmod go-w {path}"


@dataclass(frozen=True, slots=True)
class _Unshown[T]:
    """A text that no message repeats: somebody may have put a key there."""

    parse: Callable[[str], T]

    def read(self, reader: SettingsReader, node: Node, where: str) -> T | None:
        text = reader.text(node, where)
        try:
            return None if text is None else self.parse(text)
        except ValueError as error:
            reader.problems.add(node.mark, f"{where} {error}")
            return None

    def schema(self) -> Schema:
        return {"type": "string", "minLength": 1}


def _entry(**values: Any) -> KeyEntry:
    limits = {key: values.pop(key) for key in GRANT if key in values}
    return KeyEntry(**values, grant=Grant(**limits) if limits else None)


_RECORD = Record(
    _entry,
    {
        "id": Field(_Unshown(name), "How logs and rules call it.", attribute="key_id", required=True),
        "hash": Field(_Unshown(key_form.parse_digest), "What is stored of it.", attribute="digest", required=True),
        "form": Field(Choice(("ib", "plain")), "plain: a key of another system, whose hash is that of all of it."),
        "name": Field(Text(name), "The subject of whoever shows it; its id unless given."),
        "groups": Field(ListOf(Text(name)), "Groups of whoever shows it."),
        **GRANT,
        "not_after": Field(Text(parse_expiry), "Its last day, or the time it ends.", attribute="expires_at"),
        "disabled": Field(Switch(), "true: it is refused."),
    },
    "a key",
)


class _Entry:
    """A record whose id fits its form."""

    def read(self, reader: SettingsReader, node: Node, where: str) -> KeyEntry | None:
        found = _RECORD.read(reader, node, where)
        if found is None or key_form.is_id(found.key_id, plain=found.form == "plain"):
            return found
        plain = "must begin with a letter or digit and go on with at most 63 of these and . _ -"
        own = "must be one that `inferbridge keys new` has made, or its key one of another system (`form: plain`)"
        reader.problems.add(node.mark, f"{where}.id {plain if found.form == 'plain' else own}")
        return None

    def schema(self) -> Schema:
        return _RECORD.schema()


def _keys(keys: tuple[KeyEntry, ...] = ()) -> tuple[KeyEntry, ...]:
    return keys


_FILE = Record(_keys, {"keys": Field(Each(_Entry()), "The keys.", required=True)}, "a file of keys")


def read_keys(text: bytes, file: str) -> tuple[KeyEntry, ...]:
    """The keys in a file's text, in its order; `file` names it in problems. Raises `KeyFileError` with all of them."""
    return keys_of(key_tree(text, file))


def key_tree(text: bytes, file: str) -> Node:
    """The tree of a file of keys; `KeyFileError` when it is no YAML."""
    problems = Problems()
    tree = load_yaml(text, file, problems)
    if tree is None:
        raise KeyFileError(problems.sorted())
    return tree


def keys_of(tree: Node) -> tuple[KeyEntry, ...]:
    """The keys in a tree; raises `KeyFileError`."""
    problems = Problems()
    keys = _FILE.read(SettingsReader(problems, {}, Path()), tree, "")
    if keys is not None:
        _check_unique(keys, entry_nodes(tree), problems)
    if keys is None or len(problems):
        raise KeyFileError(problems.sorted())
    return keys


def entry_nodes(tree: Node) -> tuple[MapNode, ...]:
    """Where the entries of a file without problems stand."""
    nodes = child_of(tree, "keys")
    return tuple(node for node in getattr(nodes, "items", ()) if isinstance(node, MapNode))


def child_of(node: Node | None, key: str) -> Node | None:
    """What a map says for a key."""
    entries = node.entries if isinstance(node, MapNode) else ()
    return next((child for name, _, child in entries if name == key), None)


def _check_unique(keys: tuple[KeyEntry, ...], nodes: tuple[MapNode, ...], problems: Problems) -> None:
    ids: dict[str, Mark] = {}
    digests: dict[bytes, Mark] = {}
    for key, node in zip(keys, nodes, strict=True):
        _once(ids, key.key_id, node, f"id {key.key_id}", problems)
        _once(digests, key.digest, node, "hash", problems)


def _once[T](seen: dict[T, Mark], value: T, node: Node, what: str, problems: Problems) -> None:
    if value in seen:
        problems.add(node.mark, f"the {what} is already that of the key at line {seen[value].line}")
    seen.setdefault(value, node.mark)
