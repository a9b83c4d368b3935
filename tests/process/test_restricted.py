"""As OpenShift runs a container: any user of group 0, HOME=/, nothing to write to but a folder for temporary files."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.serving import curl
from process.running import Process, config, http_call, proxy, runtime

UID = 1000660000
SCRIPT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=777 tmpfs "$TMPDIR"
if [ -n "$CLOSED" ]; then  # the interpreter lies in a folder that other users cannot enter
    mkdir "$TMPDIR/base"
    mount --bind "$BASE" "$TMPDIR/base"
    mount -t tmpfs -o mode=755 tmpfs "$CLOSED"
    mkdir -p "$BASE"
    mount --move "$TMPDIR/base" "$BASE"
    rmdir "$TMPDIR/base"
    mount -o remount,bind,ro "$CLOSED"
    mount -o remount,bind,ro "$BASE"
fi
mount -o remount,bind,ro /
if touch /probe 2>/dev/null; then echo "the file system can be written to" >&2; exit 9; fi
exec setpriv --reuid 1000660000 --regid 0 --clear-groups --no-new-privs --inh-caps=-all "$@"
"""


def _possible() -> str:
    """Why it is not, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "takes root on Linux"
    tried = subprocess.run(["unshare", "-m", "mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else f"no mount namespaces here: {tried.stderr.decode().strip()}"


def closed(path: Path) -> str:
    """The first folder on the way to a path that other users cannot enter."""
    for folder in reversed([path, *path.parents]):
        if folder.is_dir() and not folder.stat().st_mode & stat.S_IXOTH:
            return str(folder)
    return ""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose files other users can read, which those of pytest are not."""
    if reason := _possible():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def restricted(folder: Path) -> dict[str, str]:
    """The environment of the process."""
    scratch, base = folder / "scratch", Path(sys.base_prefix)
    scratch.mkdir()
    return {"HOME": "/", "TMPDIR": str(scratch), "BASE": str(base), "CLOSED": closed(base)}


def identity(running: Process) -> str:
    """What the kernel says of the process."""
    return Path(f"/proc/{running.process.pid}/status").read_text()


def left(running: Process, environment: dict[str, str]) -> list[str]:
    """What the process has left in the one folder that it can write to."""
    return sorted(os.listdir(f"/proc/{running.process.pid}/root{environment['TMPDIR']}"))  # noqa: PTH208 - names only


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_it_serves_reloads_and_stops(workers: str, restricted: dict[str, str], folder: Path) -> None:
    """Nothing is written anywhere; TLS without a certificate is refused with advice, and plaintext goes on."""
    prefix = ("unshare", "-m", "sh", "-c", SCRIPT, "sh")
    async with runtime() as backend:
        backend.gate.set()
        path = config(folder, backend.url, "drain: {delay: 0s}")
        path.chmod(0o644)
        async with proxy("-c", str(path), "--workers", workers, env=restricted, prefix=prefix) as running:
            status = identity(running)
            assert f"\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n" in status
            assert "\nGid:\t0\t0\t0\t0\n" in status
            with pytest.raises(AssertionError, match="curl"):
                await curl("-k", f"https://127.0.0.1:{running.port}/v2")
            await running.says("TLS needs a certificate (tls.certificate), or a folder")
            head, body = await http_call(running.port, close=True)
            assert (head.split()[1], "Hello" in body) == ("200", True)
            path.write_text(path.read_text() + "lossy: allow\n")
            await running.says("the configuration is reloaded: new lossy")
            assert (await running.page("readyz"))[0] == 200
            assert left(running, restricted) == []
            running.send(signal.SIGTERM)
            assert await running.ended() == 0
            assert not [line for line in running.lines if "Traceback" in line]
