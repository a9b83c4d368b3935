"""Compares a set of rendered files with a folder, and writes it there."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inferbridge_codegen.render.package import FileSet


@dataclass(frozen=True, slots=True)
class Drift:
    """One file that is not as rendered: `kind` is changed, missing or stale."""

    kind: str
    path: str
    diff: str


def compare(files: FileSet, folder: Path) -> list[Drift]:
    """Everything in which the folder differs; files that nothing renders any more are stale."""
    found = [drift for path, content in files.items() if (drift := _compare(path, content, folder / path))]
    stale = [Drift("stale", path, "") for path in _present(folder) if path not in files]
    return sorted([*found, *stale], key=lambda drift: drift.path)


def _compare(path: str, content: bytes, place: Path) -> Drift | None:
    if not place.is_file():
        return Drift("missing", path, "")
    present = place.read_bytes()
    return None if present == content else Drift("changed", path, _diff(path, present, content))


def _diff(path: str, before: bytes, after: bytes) -> str:
    if path.endswith(".binpb"):
        return f"{path}: {len(before)} bytes differ from {len(after)}\n"
    old, new = (text.decode(errors="replace").splitlines(keepends=True) for text in (before, after))
    return "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))


def _present(folder: Path) -> Iterator[str]:
    for place in sorted(folder.rglob("*")):
        if place.is_file() and "__pycache__" not in place.parts:
            yield place.relative_to(folder).as_posix()


def write(files: FileSet, folder: Path) -> list[Drift]:
    """Make the folder hold exactly these files; answers what was changed."""
    drifts = compare(files, folder)
    for drift in drifts:
        place = folder / drift.path
        if not place.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{drift.path} leads outside {folder}")
        if drift.kind == "stale":
            place.unlink()
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(files[drift.path])
    return drifts


def replace_block(place: Path, name: str, block: str) -> None:
    """Put `block` between the lines `<!-- NAME -->` and `<!-- /NAME -->` of a text; ValueError where they are not."""
    text = place.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, opened, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        raise ValueError(f"{place} has no lines {begin.strip()} and {end.strip()}")
    place.write_text(f"{before}{begin}{block}{end}{after}", encoding="utf-8")
