"""Runs protoc (from grpcio-tools) over .proto files and reads back their descriptors, comments included."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.problems import Mark, Problems

_MESSAGE = re.compile(r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?!warning: )(?P<text>.*)$", re.MULTILINE)
FOLDER = "protos"


def compile_protos(
    root: Path, names: Sequence[str], problems: Problems, where: Mark, shown: str = ""
) -> FileDescriptorSet | None:
    """Descriptors of `names` (relative to `root`/protos) and all they import, imports first; None after a problem.

    protoc's errors are noted at their place in the .proto file, all others at `where`. The files of one call share
    one namespace; conflicting protos are compiled in calls of their own. `shown` stands before the names of files.
    """
    return compile_folder(root / FOLDER, names, problems, where, f"{shown}{FOLDER}/")


def compile_folder(
    folder: Path, names: Sequence[str], problems: Problems, where: Mark, shown: str = ""
) -> FileDescriptorSet | None:
    """As `compile_protos`, of a folder of protos."""
    faults = [fault for name in names if (fault := _fault(folder, name))]
    for fault in faults:
        problems.add(where, fault)
    if faults:
        return None
    if not names:
        return FileDescriptorSet()
    descriptors, complaints = _run_protoc(folder, names)
    if descriptors is None:
        # protoc stops after the first bad file, so each gets a run of its own to say all that is wrong
        others = [_run_protoc(folder, [name])[1] for name in names if len(names) > 1]
        _report("\n".join([complaints, *others]), problems, where, shown)
        return None
    return descriptors if _stays_inside(folder, descriptors, problems, where) else None


def _run_protoc(folder: Path, names: Sequence[str]) -> tuple[FileDescriptorSet | None, str]:
    """The descriptors, None after an error, and what protoc said.

    protoc is a process of its own: it writes its errors past Python's stderr and may end the process. It works in
    `folder` and sees relative paths only, so that no absolute one can end in what it writes; `-P` keeps that folder
    off Python's module path.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "set.binpb"
        options = ["--proto_path=.", "--include_imports", "--include_source_info", f"--descriptor_set_out={output}"]
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", *options, *names]
        run = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            check=False,
        )
        descriptors = FileDescriptorSet.FromString(output.read_bytes()) if run.returncode == 0 else None
    return descriptors, run.stderr


def _fault(folder: Path, name: str) -> str:
    """Why the file cannot be compiled, or an empty string."""
    if name.startswith(("-", "@")) or ":" in name:
        return f"{name!r} is no name for a proto"  # protoc would read an option, a file of arguments, or two folders
    if ".." in PurePosixPath(name).parts or not _is_inside(folder, name):
        return f"proto {name!r} leads outside the spec folder"
    if not (folder / name).is_file():
        return f"there is no proto {FOLDER}/{name}"
    return ""


def _is_inside(folder: Path, name: str) -> bool:
    return (folder / name).resolve().is_relative_to(folder.resolve())


def _stays_inside(folder: Path, descriptors: FileDescriptorSet, problems: Problems, where: Mark) -> bool:
    """Whether no import followed a link out of the folder; what it lacks comes with protoc, as google/protobuf does."""
    outside = [file.name for file in descriptors.file if not _is_inside(folder, file.name)]
    for name in outside:
        problems.add(where, f"proto {name!r} leads outside the spec folder")
    return not outside


def _report(text: str, problems: Problems, where: Mark, shown: str) -> None:
    found = list(_MESSAGE.finditer(text))
    for match in found:
        problems.add(Mark(f"{shown}{match['file']}", int(match["line"]), int(match["column"])), match["text"])
    if not found:
        problems.add(where, f"protoc failed: {text.strip()}")
