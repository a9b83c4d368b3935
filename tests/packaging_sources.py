"""The project's own files, and what they import."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = ("codegen", "proxy", "generated")
PACKAGES = ("inferbridge", "inferbridge_codegen", "inferbridge_generated")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: who imports what, with the place."""

    importer: str
    imported: str
    place: str


def tracked_paths() -> list[Path]:
    """Everything in the repository that is not ignored, committed or not."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S603, RUF100
    paths = {ROOT / name for name in output.decode().split("\0") if name}
    return sorted(path for path in paths if path.exists(follow_symlinks=False))


def tracked_files() -> list[Path]:
    """The regular files among them."""
    return [path for path in tracked_paths() if path.is_file() and not path.is_symlink()]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the three packages by its dotted name."""
    for folder in SOURCE_ROOTS:
        for path in sorted((ROOT / folder).glob("inferbridge*/**/*.py")):
            name = ".".join(path.relative_to(ROOT / folder).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imports() -> Iterator[Import]:
    """Every import of the three packages, those inside functions too."""
    for name, path in modules():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            yield from (Import(name, imported, place) for imported in _imported(node, package))


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*parents, *([node.module] if node.module else [])])
        # `from package import module` may name a module, so both spellings count
        yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name: str, *prefixes: str) -> bool:
    """Whether a dotted name is one of the prefixes or below it."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def is_standard(name: str) -> bool:
    """Whether a module belongs to Python."""
    return name.partition(".")[0] in sys.stdlib_module_names
