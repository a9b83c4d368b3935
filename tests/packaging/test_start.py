"""The command line starts quickly: it is held to what it imports, not to a clock."""

import re
import subprocess
import sys

import pytest

from packaging_sources import ROOT, SOURCE_ROOTS

HEAVY = (
    "asyncio",
    "betterproto2",
    "google",
    "grpc",
    "grpc_tools",
    "hpack",
    "httptools",
    "hyperframe",
    "jinja2",
    "mitmproxy",
    "msgspec",
    "numpy",
    "orjson",
    "prometheus_client",
    "yaml",
)
"""What makes a start slow and no help text needs."""


def imported_by(*arguments: str) -> set[str]:
    """Modules that a command of ours imports."""
    code = "from inferbridge.cli import main; main()"
    path = ":".join(str(ROOT / folder) for folder in SOURCE_ROOTS)
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *arguments],
        env={"PYTHONPATH": path, "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", run.stderr, re.MULTILINE))


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("generate",),
        ("lint",),
        ("mock",),
        ("call",),
        ("import",),
        ("keys", "new"),
        ("export",),
        ("replay",),
        ("inspect",),
    ],
)
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    """`--help` loads the command line itself and no library that it does not need."""
    modules = imported_by(*command, "--help")
    assert "inferbridge.cli" in modules
    assert sorted(name for name in modules if name.partition(".")[0] in HEAVY) == []


def test_the_gateway_loads_what_it_needs_of_mitmproxy() -> None:
    """Serving takes neither Flask nor LDAP into memory, and whoever wants all addons later gets them."""
    code = (
        "import sys, inferbridge.process.proxy\n"
        "print(*sys.modules)\n"
        "from mitmproxy import addons\n"
        "assert 'Proxyserver' in {type(each).__name__ for each in addons.default_addons()}"
    )
    path = ":".join(str(ROOT / folder) for folder in SOURCE_ROOTS)
    run = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    assert {"flask", "ldap3", "mitmproxy.addons"}.isdisjoint(run.stdout.split())
