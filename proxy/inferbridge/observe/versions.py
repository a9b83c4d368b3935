"""What runs here: versions, and a hash of what the specs say."""

import hashlib
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import inferbridge_generated
from inferbridge import event_loop

_GENERATED = {".py", ".binpb"}
_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Versions:
    """Of the parts that decide how a call is carried."""

    inferbridge: str
    python: str
    mitmproxy: str
    event_loop: str
    """What serves: "asyncio", or uvloop with its version."""
    spec_hash: str
    """The same for two proxies that were generated from the same specs, whatever machine they run on."""


def versions() -> Versions:
    """The versions of this process; reads the whole generated package."""
    generated = Path(str(inferbridge_generated.__file__)).parent
    return Versions(
        inferbridge=_version("inferbridge"),
        python=platform.python_version(),
        mitmproxy=_version("mitmproxy"),
        event_loop=event_loop.described(),
        spec_hash=spec_hash(generated),
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # run from a checkout, without an install
        return "unknown"


def spec_hash(generated: Path) -> str:
    """A hash of a generated package: of its code and descriptors, with their names."""
    found = hashlib.sha256()
    for path in sorted(generated.rglob("*")):
        if path.suffix in _GENERATED:
            content = path.read_bytes()
            found.update(f"{path.relative_to(generated).as_posix()}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:_HASH_DIGITS]
