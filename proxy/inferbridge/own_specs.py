"""Specs of the user's own: the generated package is made of them and the shipped ones, and kept for the next start.

`inferbridge_generated` is then the made package. It lies in the user's cache folder under a digest of all that it was
made of, so it is made once, whatever changes makes another, and several programs may make the same one at once.
"""

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import inferbridge_codegen
from inferbridge.commands import SPECS_VARIABLE
from inferbridge_codegen.files import write
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.render.package import render_package

PACKAGE = "inferbridge_generated"
_PARTS = ("operations", "apis", "runtimes", "protos")
"""Of a spec folder."""


def use(folders: Sequence[Path]) -> None:
    """Have `import inferbridge_generated` find the shipped specs and those of some folders. Raises `SpecError`.

    Must come before anything imports it; RuntimeError otherwise.
    """
    place = made(folders)
    if PACKAGE in sys.modules and not Path(str(sys.modules[PACKAGE].__file__)).is_relative_to(place):
        raise RuntimeError(f"{PACKAGE} is loaded already, without the specs of {', '.join(map(str, folders))}")
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


def use_environments(environment: Mapping[str, str]) -> None:
    """As `use`, with the folders that the environment names, if any."""
    folders = [Path(text) for text in environment.get(SPECS_VARIABLE, "").split(os.pathsep) if text]
    if folders:
        use(folders)


def made(folders: Sequence[Path]) -> Path:
    """The folder that holds the generated package of the shipped specs and those of some folders."""
    place = _cache() / _digest([default_specs(), *folders])
    if not place.is_dir():
        files = render_package(load_model(default_specs(), *folders))
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            write(files, Path(scratch, "made", PACKAGE))
            try:
                Path(scratch, "made").rename(place)
            except OSError:
                if not place.is_dir():  # somebody else has made the same
                    raise
    return place


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferbridge"


def _digest(folders: Sequence[Path]) -> str:
    """Of all files, the generator's own among them, with their names."""
    found = hashlib.sha256()
    parts = [(folder, folder / part) for folder in folders for part in _PARTS]
    generator = Path(inferbridge_codegen.__file__).parent
    for folder, part in [(generator, generator), *parts]:
        for path in _sources(part):
            content = path.read_bytes()
            found.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode() + content)
        found.update(b"\0")
    return found.hexdigest()[:32]


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".yaml", ".proto", ".py", ".jinja") and path.is_file():
            yield path
