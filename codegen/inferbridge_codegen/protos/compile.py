"""Runs protoc (from grpcio-tools) over .proto files and reads back their descriptors."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.problems import Mark, Problems

_MESSAGE = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?P<text>.*)$")
FOLDER = "protos"


def compile_protos(root: Path, names: Sequence[str], problems: Problems, where: Mark) -> FileDescriptorSet | None:
    """Descriptors of `names` (relative to `root`/protos) and all they import; None after a problem.

    The files of one call share one namespace; conflicting protos are compiled in calls of their own.
    """
    folder = root / FOLDER
    if not all([_is_inside(folder, name, problems, where) for name in names]):
        return None
    with tempfile.TemporaryDirectory() as scratch, as_file(files("grpc_tools").joinpath("_proto")) as well_known:
        output = Path(scratch) / "set.binpb"
        arguments = [f"-I{folder}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={output}", *names]
        run = run_protoc(arguments)
        if run.returncode == 0:
            return FileDescriptorSet.FromString(output.read_bytes())
    _report(run.stderr, problems, where)
    return None


def run_protoc(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """protoc as a process of its own: it writes its errors past Python's stderr and may end the process."""
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _is_inside(folder: Path, name: str, problems: Problems, where: Mark) -> bool:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        problems.add(where, f"proto {name!r} leads outside the spec folder")
        return False
    if not path.is_file():
        problems.add(where, f"there is no proto {FOLDER}/{name}")
        return False
    return True


def _report(text: str, problems: Problems, where: Mark) -> None:
    found = [match for line in text.splitlines() if (match := _MESSAGE.match(line))]
    for match in found:
        problems.add(Mark(f"{FOLDER}/{match['file']}", int(match["line"]), int(match["column"])), match["text"])
    if not found:
        problems.add(where, f"protoc failed: {text.strip()}")
