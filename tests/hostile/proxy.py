"""A proxy in a process of its own, so that its memory and CPU are its alone, and raw sockets to it."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import inferbridge

TIMEOUT = 20
_ROOT = Path(inferbridge.__file__).parents[2]
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Proxy:
    """A running proxy."""

    port: int
    admin: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used so far, to the nanosecond (`clock_getcpuclockid` of another process)."""
        return time.clock_gettime(~self.pid << 3 | 2)

    def rss(self) -> int:
        """Bytes of memory that it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def connect(self, receive_buffer: int = 0) -> socket.socket:
        """A connection; a small receive buffer is that of a client that hardly reads."""
        client = socket.socket()
        client.settimeout(TIMEOUT)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.connect(("127.0.0.1", self.port))
        return client

    def metrics(self) -> str:
        """What the admin port shows."""
        with socket.create_connection(("127.0.0.1", self.admin), TIMEOUT) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return read_to_end(client).decode()

    def count(self, sample: str) -> float:
        """The value of one sample, such as `inferbridge_h2_abuse_total{kind="ping"}`; 0 if there is none."""
        lines = [line for line in self.metrics().splitlines() if line.startswith(f"{sample} ")]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def read_to_end(client: socket.socket) -> bytes:
    """Everything until the peer closes, or resets."""
    pieces: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    return b"".join(pieces)


def send_all(client: socket.socket, data: bytes) -> bool:
    """Send bytes; False if the peer has closed before all were taken."""
    try:
        client.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def read_some(client: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """What comes until nothing has come for a while, and whether the peer has closed."""
    client.settimeout(seconds)
    pieces: list[bytes] = []
    try:
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    except TimeoutError:
        return b"".join(pieces), False
    except ConnectionResetError:
        pass
    return b"".join(pieces), True


@contextmanager
def proxy(folder: Path, *upstreams: str, config: str = "") -> Iterator[Proxy]:
    """Start a proxy before upstreams such as `triton=http://…`, with further lines of configuration."""
    file = folder / "inferbridge.yaml"
    listed = "".join(f"  - {upstream}\n" for upstream in upstreams)
    listeners = 'listen: "127.0.0.1:0"\nadmin: {listen: "127.0.0.1:0"}\n'
    file.write_text(f"{listeners}upstreams:\n{listed}{config}")
    sources = os.pathsep.join(str(_ROOT / part) for part in ("codegen", "proxy", "generated"))
    environment = {**os.environ, "PYTHONPATH": sources, "XDG_STATE_HOME": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-m", "inferbridge.cli", "proxy", "-c", str(file)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    assert process.stderr is not None
    drain = threading.Thread()
    try:
        ports = _ports(process)
        drain = threading.Thread(target=process.stderr.read)  # a full pipe would stop the proxy
        drain.start()
        yield Proxy(*ports, process.pid)
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        if drain.ident is not None:
            drain.join()
        process.stderr.close()


def _ports(process: "subprocess.Popen[bytes]") -> tuple[int, int]:
    """The ports that it says it listens on."""
    assert process.stderr is not None
    said, main = [], 0
    for line in process.stderr:
        said.append(line.decode())
        if said[-1].startswith("listening on "):
            main = int(said[-1].rpartition(":")[2])
        if said[-1].startswith("admin port on "):
            return main, int(said[-1].rpartition(":")[2])
    raise AssertionError("the proxy did not start:\n" + "".join(said))
