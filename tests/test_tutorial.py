"""The tutorial, followed to the letter but for its ports: files written, commands run, outputs compared."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from packaging_sources import ROOT, SOURCE_ROOTS

TUTORIAL = ROOT / "specs" / "adding-a-runtime.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+\b")
SECONDS = 60
END = "the-command-has-ended"


@dataclass(frozen=True)
class Step:
    """A file to write, or a command and what it shows."""

    text: str
    output: str = ""
    file: str = ""


def on_free_ports(markdown: str) -> str:
    """The tutorial with other ports than those it names, since two tests on one machine may be following it."""
    named = sorted(set(PORT.findall(markdown)))
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in named]
        free = {port: str(server.getsockname()[1]) for port, server in zip(named, held, strict=True)}
    return re.sub(rf"\b({'|'.join(named)})\b", lambda found: free[found[0]], markdown)


def steps(markdown: str) -> Iterator[Step]:
    """All that the reader is to do, in order."""
    for kind, file, body in BLOCK.findall(markdown):
        if kind == "console":
            for command in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                line, _, output = command.partition("\n")
                yield Step(line, output)
        else:
            assert file, f"a block of {kind} has no file name"
            yield Step(body, file=file)


class Shell:
    """One bash for all commands, so that jobs and variables live on."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output: IO[bytes] = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    def run(self, step: Step) -> str:
        """What a command shows; one that stays in the background is given the time to show what it should."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"set -m\n{step.text}\necho {END}\n".encode())
        self._process.stdin.flush()
        shown, until = "", time.monotonic() + SECONDS
        background = step.text.endswith("&")
        while time.monotonic() < until:
            shown += (self._output.read() or b"").decode()
            text = shown.replace(f"{END}\n", "")
            if END in shown and (not background or text.count("\n") >= step.output.count("\n")):
                return text
            time.sleep(0.02)
        raise AssertionError(f"{step.text} took too long; it has shown: {shown}")

    def close(self) -> None:
        """End the shell and all that it has started."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"kill $(jobs -p) 2>/dev/null; exit\n")  # each job has a process group of its own
        self._process.stdin.close()
        self._process.wait(SECONDS)
        self._output.close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder, with `inferbridge` on its PATH."""
    programs, folder = tmp_path / "bin", tmp_path / "empty"
    programs.mkdir()
    folder.mkdir()
    path = ":".join(str(ROOT / part) for part in SOURCE_ROOTS)
    program = programs / "inferbridge"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -m inferbridge.cli "$@"\n')
    program.chmod(0o755)
    found = Shell(
        folder,
        {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
        },
    )
    yield found
    found.close()


def test_the_tutorial_works(shell: Shell, tmp_path: Path) -> None:
    """Whoever does what the tutorial says sees what it shows, from an empty folder to curl through the proxy."""
    count = 0
    for step in steps(on_free_ports(TUTORIAL.read_text())):
        count += 1
        if step.file:
            place = tmp_path / "empty" / step.file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(step.text)
        else:
            assert shell.run(step).rstrip("\n") == step.output.rstrip("\n"), step.text
    assert count > 15
