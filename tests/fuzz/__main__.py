"""Feeds each parser bytes that atheris makes up, guided by the code they reach: `python -m fuzz [TARGET …]`.

Each target has FUZZ_SECONDS (300) and a process of its own, for libFuzzer ends the process it runs in. It begins with
the committed corpus; what it finds beyond it stays in .cache/fuzz, and so does the input of a failure: mend what it
shows, and put it into the corpus.
"""

import os
import subprocess
import sys
from pathlib import Path

_WORK = Path(".cache") / "fuzz"
_INPUT_BYTES = 2048
_MEGABYTES = 2048
_HANG_SECONDS = 10


def main(names: list[str]) -> int:
    """Run the targets of these names, or all, one after the other; 1 if one fails."""
    if names[:1] == ["--one"]:
        _fuzz(names[1], names[2:])
    from fuzz.targets import TARGETS

    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        print(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}", file=sys.stderr)  # noqa: T201  # a tool
        return 2
    failed = [name for name in names or TARGETS if not _passes(name)]
    print(f"failed: {', '.join(failed)}" if failed else "no target failed", file=sys.stderr)  # noqa: T201  # as above
    return bool(failed)


def _passes(name: str) -> bool:
    from fuzz.targets import CORPUS

    found = _WORK / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={os.environ.get('FUZZ_SECONDS', '300')}",
        f"-max_len={_INPUT_BYTES}",
        f"-rss_limit_mb={_MEGABYTES}",
        f"-timeout={_HANG_SECONDS}",
        f"-artifact_prefix={_WORK}/{name}-",
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "fuzz", "--one", name, *options, str(found), str(CORPUS / name)]
    return subprocess.run(command, check=False).returncode == 0


def _fuzz(name: str, options: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["inferbridge", "inferbridge_codegen", "inferbridge_generated"]):
        from fuzz.targets import TARGETS
    atheris.Setup([name, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
