"""Spec files that include others.

A top-level `include: [path, …]` merges the other files' top-level maps into this one: maps key by key, lists end to
end; a key that both define otherwise is a problem at the second place. Paths are relative to the spec folder and stay
below it, also through symlinks. Each file is read once for one top file, so includes cannot grow without bound.
"""

import errno
import os
from pathlib import Path

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec.yaml_tree import MAX_BYTES, ListNode, MapNode, Node, Scalar, load_yaml

MAX_CHAIN = 32


def load_with_includes(path: Path, root: Path, problems: Problems, shown: str = "") -> Node | None:
    """The tree of `path` merged with those it includes, or None after a problem; nothing is raised.

    Messages name files relative to `root`, with `shown` in front.
    """
    file = shown + (path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name)
    return _Includes(root, problems, shown).load(path, file, (), Mark(file, 1, 1))


class _Includes:
    """Holds what is known while one top file is read."""

    def __init__(self, root: Path, problems: Problems, shown: str) -> None:
        self._root = root
        self._shown = shown
        self._problems = problems
        self._read: set[Path] = set()

    def load(self, path: Path, file: str, chain: tuple[tuple[Path, str], ...], where: Mark) -> Node | None:
        """The tree of one file; `file` names it in messages, `chain` is what led to it."""
        found = self._locate(path, file, chain, where)
        text = self._text(found, file, where) if found else None
        if found is None or text is None:
            return None
        self._read.add(found)
        node = load_yaml(text, file, self._problems)
        return self._merged(node, (*chain, (found, file))) if isinstance(node, MapNode) else node

    def _locate(self, path: Path, file: str, chain: tuple[tuple[Path, str], ...], where: Mark) -> Path | None:
        """The real path, if the file may be read here."""
        try:
            real, root = path.resolve(), self._root.resolve()
        except (OSError, RuntimeError):  # Python 3.12 raises RuntimeError for a loop of symlinks
            self._problems.add(where, f"cannot read {file}: {os.strerror(errno.ELOOP)}")
            return None
        if not real.is_relative_to(root):
            self._problems.add(where, f"{file} leads outside the spec folder")
        elif real in [known for known, _ in chain]:
            self._problems.add(where, f"include cycle: {' -> '.join([*(name for _, name in chain), file])}")
        elif real in self._read:
            self._problems.add(where, f"{file} is included twice")
        elif len(chain) > MAX_CHAIN:
            self._problems.add(where, f"includes nested more than {MAX_CHAIN} deep")
        else:
            return real
        return None

    def _text(self, path: Path, file: str, where: Mark) -> bytes | None:
        try:
            # a pipe or a device would block or never end
            if path.exists() and not path.is_file():
                self._problems.add(where, f"cannot read {file}: it is not a file")
                return None
            with path.open("rb") as stream:
                return stream.read(MAX_BYTES + 1)
        except OSError as error:
            self._problems.add(where, f"cannot read {file}: {error.strerror}")
            return None

    def _merged(self, node: MapNode, chain: tuple[tuple[Path, str], ...]) -> MapNode:
        listed = next((child for key, _, child in node.entries if key == "include"), None)
        if listed is None:
            return node
        if not isinstance(listed, ListNode):
            self._problems.add(listed.mark, "include must be a list of files")
            return node
        for item in listed.items:
            included = self._included(item, chain)
            if isinstance(included, MapNode):
                node = _merge(node, included, self._problems)
            elif included is not None:
                self._problems.add(included.mark, "an included file must be a map")
        return node

    def _included(self, item: Node, chain: tuple[tuple[Path, str], ...]) -> Node | None:
        if not isinstance(item, Scalar) or not isinstance(item.value, str) or not item.value:
            self._problems.add(item.mark, "include must be a list of files")
            return None
        if item.value.startswith("/") or ".." in item.value.split("/") or "\\" in item.value:
            message = f"include {item.value!r} must be a path below the spec folder, without '..'"
            self._problems.add(item.mark, message)
            return None
        path = self._root / item.value
        return self.load(path, self._shown + path.relative_to(self._root).as_posix(), chain, item.mark)


def _merge(base: MapNode, other: MapNode, problems: Problems) -> MapNode:
    entries = {key: (mark, child) for key, mark, child in base.entries}
    for key, mark, child in other.entries:
        mine = entries.get(key)
        if key == "include":
            continue
        if mine is None:
            entries[key] = (mark, child)
        elif isinstance(mine[1], ListNode) and isinstance(child, ListNode):
            entries[key] = (mine[0], ListNode(mine[1].items + child.items, mine[1].mark))
        elif isinstance(mine[1], MapNode) and isinstance(child, MapNode):
            entries[key] = (mine[0], _merge(mine[1], child, problems))
        else:
            problems.add(mark, f"key {key!r} is already defined at {mine[0]}")
    return MapNode(tuple((key, mark, child) for key, (mark, child) in entries.items()), base.mark)
