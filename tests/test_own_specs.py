"""Spec folders beside the shipped ones: what they add, how their problems are placed, and how they are run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from inferbridge import own_specs
from inferbridge.cli import main
from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import SpecError
from packaging_sources import ROOT, SOURCE_ROOTS

API = """\
api: acme
protos: [acme.proto]
errors: grpc-status
endpoints:
  - name: ready
    operation: server_ready
    grpc: {method: acme.S/Ready, reply: {ok: ready}}
"""
PROTO = """\
syntax = "proto3";
package acme;
service S { rpc Ready(A) returns (B); }
message A {}
message B { bool ok = 1; }
"""
RUNTIME = "runtime: acme\ntitle: Acme\napis: [{api: acme}]\n"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with one API and one runtime."""
    folder = tmp_path / "own"
    for path, text in (("apis/acme.yaml", API), ("protos/acme.proto", PROTO), ("runtimes/acme.yaml", RUNTIME)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_a_folder_adds_to_the_shipped_specs(own: Path) -> None:
    """It uses the shipped operations, its protos are its own, and all that is shipped stays."""
    shipped, both = load_model(default_specs()), load_model(default_specs(), own)
    assert {api.name for api in both.apis} == {api.name for api in shipped.apis} | {"acme"}
    assert {runtime.name for runtime in both.runtimes} == {runtime.name for runtime in shipped.runtimes} | {"acme"}


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("apis/acme.yaml", API.replace("server_ready", "server_redy"), "apis/acme.yaml:6:16: there is no operation"),
        ("protos/acme.proto", PROTO + "message {}\n", "protos/acme.proto:6:9: "),
        ("apis/acme.yaml", API.replace("api: acme", "api: tgis"), "apis/acme.yaml:1:6: API 'tgis' is already declared"),
        (
            "apis/acme.yaml",
            API.replace("server_ready", '"??? live?"'),
            "operation is still to decide: live?",
        ),
        ("apis/acme.yaml", "include: [apis/none.yaml]\n" + API, "cannot read "),
    ],
)
def test_problems_have_the_place_in_their_own_folder(own: Path, path: str, text: str, said: str) -> None:
    """A file of the folder is named with the folder, so that one finds it."""
    (own / path).write_text(text)
    with pytest.raises(SpecError) as caught:
        load_model(default_specs(), own)
    assert str(caught.value).startswith(f"{own}/")
    assert said in str(caught.value)


def test_a_folder_can_stand_alone() -> None:
    """A complete set needs nothing that is shipped."""
    base = ROOT / "tests" / "golden" / "base_specs"
    result = CliRunner().invoke(main, ["lint", "--alone", "--specs", str(base)])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("1 APIs")


def test_own_specs_never_overwrite_the_checkout(own: Path) -> None:
    """Where to write must be said."""
    result = CliRunner().invoke(main, ["generate", "--specs", str(own)])
    assert result.exit_code == 2
    assert "--out" in result.stderr


def program(code: str, own: Path, **more: str) -> str:
    """What a program prints that is started with some environment."""
    path = ":".join([*more.pop("first", "").split(), *(str(ROOT / folder) for folder in SOURCE_ROOTS)])
    environment = {"PYTHONPATH": path, "XDG_CACHE_HOME": str(own.parent / "cache"), "PATH": os.environ["PATH"], **more}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_commands_know_the_runtimes_of_own_specs(own: Path) -> None:
    """By the option or by the environment; the package is made once, and again when a file changes."""
    check = 'from inferbridge.cli import main; main(["proxy", "--check", "--upstream", "acme=grpc://127.0.0.1:1"'
    program(f'{check}, "--specs", {str(own)!r}])', own)
    program(f"{check}])", own, INFERBRIDGE_SPECS=str(own))
    made = list((own.parent / "cache" / "inferbridge").iterdir())
    assert len(made) == 1
    (own / "runtimes" / "acme.yaml").write_text(RUNTIME.replace("Acme", "Other"))
    assert own_specs._digest([default_specs(), own]) != made[0].name


def test_a_package_made_in_a_build_needs_no_specs(own: Path) -> None:
    """What `generate` writes of own specs takes the place of the shipped package on the path."""
    out = own.parent / "build" / "inferbridge_generated"
    result = CliRunner().invoke(main, ["generate", "--specs", str(own), "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    code = "from inferbridge.gateway.build import RUNTIMES; print(sorted(RUNTIMES['acme']))"
    assert program(code, own, first=str(out.parent)) == "['grpc']"


def test_broken_own_specs_end_a_command_with_100(own: Path) -> None:
    """Before anything is served, with the places of the problems."""
    (own / "apis" / "acme.yaml").write_text(API.replace("server_ready", "no_such"))
    result = CliRunner().invoke(main, ["mock", "acme", "--specs", str(own)])
    assert result.exit_code == 100
    assert "there is no operation 'no_such'" in result.stderr


def test_a_package_that_is_loaded_is_not_replaced(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too late is an error, not half of each."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(own.parent / "cache"))
    monkeypatch.setattr(own_specs, "made", lambda folders: own.parent / "other")
    monkeypatch.setattr(sys, "path", [*sys.path])
    __import__("inferbridge_generated")
    with pytest.raises(RuntimeError, match="loaded already"):
        own_specs.use([own])
