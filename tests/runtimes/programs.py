"""The proxy and the client programs as child processes."""

import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.environments import Environment
from runtimes.servers import log_tail, stop_group

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
REPLY_SECONDS = 60.0
START_SECONDS = 30.0


class ProxyFailed(Exception):
    """The proxy did not come up; the message ends with what it said."""


@dataclass(frozen=True)
class Proxy:
    """A running inferbridge proxy."""

    address: str  # host:port, for HTTP/1.1, HTTP/2 without TLS and TLS alike
    log: Path
    pid: int


@contextmanager
def run_proxy(
    upstream: str,
    folder: Path,
    *,
    profile: Path | None = None,
    configuration: Mapping[str, object] | None = None,
    **settings: object,
) -> Iterator[Proxy]:
    """Run `inferbridge proxy` in front of one upstream, `runtime=url`, with further settings of it.

    `profile` takes cProfile's statistics, `configuration` is all that the configuration holds besides the upstream.
    """
    log = folder / "proxy.log"
    runtime, _, url = upstream.partition("=")
    written = {"runtime": runtime, "url": url, **settings}
    config = folder / "inferbridge.yaml"
    # JSON is YAML, too
    config.write_text(json.dumps({"upstreams": [written], **(configuration or {})}, default=str))
    profiler = ["-m", "cProfile", "-o", str(profile)] if profile else []
    program = [sys.executable, *profiler, "-m", "inferbridge.cli"]
    command = [*program, "proxy", "--listen", "127.0.0.1:0", "--config", str(config)]
    sources = os.pathsep.join(str(ROOT / name) for name in ("codegen", "proxy", "generated"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": sources},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Proxy(_await_address(process, log), log, process.pid)
    finally:
        stop_group(process)


def _await_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = re.search(r"listening on https?://(\S+:\d+)", log.read_text("utf-8", "replace"))
        if found:
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    raise ProxyFailed(f"inferbridge proxy did not start listening\n{log_tail(log)}")


class Client:
    """A client library in its own environment, calling one server."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._unread = b""

    def call(self, call: str, **fields: Any) -> dict[str, Any]:
        """Perform one call; the result has one of the keys result, error and refused (see clients/jobs.py)."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": call, **fields}).encode() + b"\n")
        self._process.stdin.flush()
        outcome = json.loads(self._read_line())
        assert isinstance(outcome, dict)
        return outcome

    def infer(self, model: str, inputs: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
        """Perform one inference."""
        return self.call("infer", model=model, inputs=inputs, **fields)

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], REPLY_SECONDS)
            chunk = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("the client program ended" if ready else "the client program does not answer")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line


@contextmanager
def run_client(environment: Environment, program: str, address: str, folder: Path) -> Iterator[Client]:
    """Run `clients/<program>.py` against host:port."""
    with (folder / f"{program}.log").open("ab") as log:
        process = subprocess.Popen(
            [environment.python, CLIENTS / f"{program}.py", address],
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield Client(process)
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        stop_group(process)
