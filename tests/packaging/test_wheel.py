"""What users install: the wheel's contents, and the wheel alone in a fresh environment."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from packaging_sources import PACKAGES, ROOT, SOURCE_ROOTS

pytestmark = pytest.mark.network


def run(*command: object, cwd: Path) -> str:
    """Output of a command that has to succeed."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of a fresh virtual environment with the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=folder)
    return folder / "bin"


def names(wheel: Path) -> list[str]:
    """Files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def files_below(folder: Path) -> set[str]:
    """Files below a folder, caches left out."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    """No top-level name but our packages and the metadata: no tests, no source roots."""
    tops = {name.partition("/")[0] for name in names(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not any("__pycache__" in name or "/tests/" in name for name in names(wheel))


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """All modules, templates and type markers are in, and all specs."""
    found = {name for name in names(wheel) if ".dist-info/" not in name}
    expected = {f"inferbridge_codegen/specs/{name}" for name in files_below(ROOT / "specs")}
    for root, package in zip(
        SOURCE_ROOTS, ("inferbridge_codegen", "inferbridge", "inferbridge_generated"), strict=True
    ):
        expected |= {f"{package}/{name}" for name in files_below(ROOT / root / package)}
    assert found == expected


def test_the_packages_are_typed(wheel: Path) -> None:
    """Each package tells type checkers that it has annotations."""
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names(wheel))


def test_the_license_is_in_the_metadata(wheel: Path) -> None:
    """The wheel carries the license."""
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names(wheel))


def test_the_base_install_has_no_proxy(environment: Path) -> None:
    """The wheel alone brings no mitmproxy, whose exact requirements must not land in a user's build environment."""
    listed = run(environment / "python", "-m", "pip", "list", "--format", "json", cwd=environment)
    installed = {entry["name"].lower() for entry in json.loads(listed)}
    assert "inferbridge" in installed
    assert installed.isdisjoint({"mitmproxy", "httptools", "tornado"})


def test_the_base_install_generates(environment: Path, tmp_path: Path) -> None:
    """The wheel alone generates from the specs it ships, finds the result up to date, and it is what it ships."""
    command = environment / "inferbridge"
    run(command, "generate", "--out", tmp_path / "inferbridge_generated", cwd=tmp_path)
    run(command, "generate", "--check", "--out", tmp_path / "inferbridge_generated", cwd=tmp_path)
    shipped = ROOT / "generated" / "inferbridge_generated"
    assert files_below(tmp_path / "inferbridge_generated") == files_below(shipped)
    for name in files_below(shipped):
        assert (tmp_path / "inferbridge_generated" / name).read_bytes() == (shipped / name).read_bytes(), name


def test_the_base_install_imports(environment: Path, tmp_path: Path) -> None:
    """What users of generated code import works without the extra."""
    code = (
        "import inferbridge, inferbridge_codegen, inferbridge_generated.registry as registry; print(registry.__name__)"
    )
    assert (
        run(environment / "python", "-W", "error", "-c", code, cwd=tmp_path).strip() == "inferbridge_generated.registry"
    )
