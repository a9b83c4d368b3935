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
