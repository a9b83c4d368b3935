"""Where settings come from. Every source becomes a tree with places; the trees are merged, and read once.

Precedence is that of the merge: a flag replaces what the environment says, which replaces what the file says; what
nobody says is the default. A list is replaced as a whole. A place in a file is `file:line:column`, one outside has
line 0 and only its name is shown.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inferbridge.config.kinds import OUTSIDE, ListOf, Record
from inferbridge.config.table import LIMITS, SETTINGS
from inferbridge.config.upstreams import Upstreams
from inferbridge_codegen.problems import Mark, Problems, suggestion
from inferbridge_codegen.spec.yaml_tree import ListNode, MapNode, Node, Scalar, load_yaml

PREFIX = "INFERBRIDGE_"
type Key = tuple[str, ...]
_VARIABLE = re.compile(r"\$\$(?=\{)|\$\{(?:(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|file:([^}]+)\})?")


@dataclass(frozen=True, slots=True)
class Flags:
    """Settings from the command line, as written; None and () are not given."""

    listen: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    """Each `name=value`, such as `body_size=64MiB`."""
    lossy: str | None = None
    nan: str | None = None
    tls_certificate: str | None = None
    allow_unauthenticated: bool | None = None
    log_level: str | None = None
    log_format: str | None = None
    access_log: bool | None = None
    admin: str | None = None
    workers: str | None = None
    event_loop: str | None = None


def environment_names() -> dict[str, Key]:
    """Every environment variable that is a setting, and which."""
    return {PREFIX + "_".join(key).upper(): key for key in _keys(SETTINGS)}


def _keys(record: Record[object], before: Key = ()) -> Iterator[Key]:
    for name, field in record.fields.items():
        if isinstance(field.kind, Record):
            yield from _keys(field.kind, (*before, name))
        else:
            yield (*before, name)


def file_tree(path: Path, environment: Mapping[str, str], problems: Problems, text: bytes | None = None) -> Node | None:
    """The tree of a configuration file, read unless `text` is given, with `${VARIABLE}` filled in."""
    try:
        text = path.read_bytes() if text is None else text
    except OSError as error:
        problems.add(Mark(str(path), OUTSIDE, OUTSIDE), f"cannot read the configuration: {error.strerror}")
        return None
    tree = load_yaml(text, str(path), problems)
    return None if tree is None else _filled(tree, environment, problems)


def _filled(node: Node, environment: Mapping[str, str], problems: Problems) -> Node:
    if isinstance(node, MapNode):
        entries = ((name, mark, _filled(child, environment, problems)) for name, mark, child in node.entries)
        return MapNode(tuple(entries), node.mark)
    if isinstance(node, ListNode):
        return ListNode(tuple(_filled(child, environment, problems) for child in node.items), node.mark)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    text = interpolate(node.value, environment, lambda message: problems.add(node.mark, message))
    return Scalar(text, text, node.mark)


def interpolate(text: str, environment: Mapping[str, str], complain: Callable[[str], None]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${file:PATH}`; `$${` is a literal `${`.

    `${env:NAME}` is the same as `${NAME}`; the default is for unset or empty. A file's last line end is left out.
    """

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if found[0] == "$$":
            return "$"
        if found[3] is not None:
            return _content(found[3], complain)
        if name is None:
            complain("'${' must begin ${NAME}, ${NAME:-default} or ${file:PATH}; '$${' is the two characters")
            return ""
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            complain(f"environment variable {name} is not set; set it, or give a default: ${{{name}:-…}}")
        return environment.get(name, "")

    return _VARIABLE.sub(value, text)


def _content(path: str, complain: Callable[[str], None]) -> str:
    try:
        return Path(path).read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        complain(f"cannot read the file {path}: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}")
        return ""


def environment_tree(environment: Mapping[str, str]) -> Node:
    """The settings among the environment variables; a list is separated by commas.

    Other `INFERBRIDGE_…` variables are no error: Kubernetes itself sets such names for a service called inferbridge.
    """
    tree: Node = MapNode((), Mark("environment", OUTSIDE, OUTSIDE))
    for variable, key in environment_names().items():
        if (text := environment.get(variable)) is not None:
            mark = Mark(f"environment variable {variable}", OUTSIDE, OUTSIDE)
            tree = merge(tree, _nested(key, _node(key, text.split(","), mark), mark))
    return tree


def flags_tree(flags: Flags, problems: Problems) -> Node:
    """The settings among the flags."""
    given: list[tuple[str, Key, tuple[str, ...]]] = [
        ("--listen", ("listen",), flags.listen),
        ("--upstream", ("upstreams",), flags.upstream),
        ("--lossy", ("lossy",), _one(flags.lossy)),
        ("--nan", ("nan",), _one(flags.nan)),
        ("--tls-certificate", ("tls", "certificate"), _one(flags.tls_certificate)),
        ("--allow-unauthenticated", ("allow_unauthenticated",), _one(flags.allow_unauthenticated)),
        ("--log-level", ("log", "level"), _one(flags.log_level)),
        ("--log-format", ("log", "format"), _one(flags.log_format)),
        ("--access-log", ("access_log", "enabled"), _one(flags.access_log)),
        ("--admin", ("admin", "listen"), _one(flags.admin)),
        ("--workers", ("workers",), _one(flags.workers)),
        ("--event-loop", ("event_loop",), _one(flags.event_loop)),
        *_limits(flags.limit, problems),
    ]
    tree: Node = MapNode((), Mark("flags", OUTSIDE, OUTSIDE))
    for flag, key, texts in given:
        if texts:
            mark = Mark(f"flag {flag}", OUTSIDE, OUTSIDE)
            tree = merge(tree, _nested(key, _node(key, texts, mark), mark))
    return tree


def _one(value: str | bool | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (str(value).lower(),) if isinstance(value, bool) else (value,)


def _limits(texts: tuple[str, ...], problems: Problems) -> Iterator[tuple[str, Key, tuple[str, ...]]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if equals and name in LIMITS.fields:
            yield "--limit", ("limits", name), (value,)
        else:
            why = f"there is no such limit{suggestion(name, LIMITS.fields)}" if equals else "must be name=value"
            problems.add(Mark("flag --limit", OUTSIDE, OUTSIDE), why)


def _node(key: Key, texts: list[str] | tuple[str, ...], mark: Mark) -> Node:
    kind = SETTINGS.fields[key[0]].kind
    if len(key) == 1 and isinstance(kind, ListOf | Upstreams):
        stripped = [text.strip() for text in texts]
        return ListNode(tuple(Scalar(text, text, mark) for text in stripped), mark)
    text = ",".join(texts)
    return Scalar(text, text, mark)


def _nested(key: Key, node: Node, mark: Mark) -> Node:
    for name in reversed(key):
        node = MapNode(((name, mark, node),), mark)
    return node


def merge(below: Node | None, above: Node) -> Node:
    """Two trees as one: maps are merged, all else of `above` replaces what is below."""
    if not isinstance(below, MapNode) or not isinstance(above, MapNode):
        return above
    entries = {name: (name, mark, child) for name, mark, child in below.entries}
    for name, mark, child in above.entries:
        old = entries.get(name)
        entries[name] = (name, mark, merge(old[2] if old else None, child))
    return MapNode(tuple(entries.values()), below.mark)
