"""Where a skeleton comes from: .proto files with what they import, or descriptors of a server, or a document."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from inferbridge_codegen.importing.from_protos import skeleton_of_protos
from inferbridge_codegen.importing.guessing import Guesses
from inferbridge_codegen.importing.openapi import skeleton_of_openapi
from inferbridge_codegen.importing.proto_text import proto_text
from inferbridge_codegen.importing.skeleton import Skeleton
from inferbridge_codegen.importing.writing import api_file, runtime_file
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import Mark, Problems, SpecError
from inferbridge_codegen.protos.compile import FOLDER, compile_folder
from inferbridge_codegen.spec.loader import load_specs
from inferbridge_codegen.spec.questions import QUESTION

MAX_DOCUMENT = 32 * 1024 * 1024
_WITH_PROTOC = "google/protobuf/"


@dataclass(frozen=True, slots=True)
class Imported:
    """The files of a spec folder, by their paths in it."""

    files: Mapping[str, str]

    @property
    def questions(self) -> int:
        """How much is left to decide."""
        return sum(line.count(f'"{QUESTION} ') for text in self.files.values() for line in text.splitlines())


def from_proto(path: Path, folder: Path, name: str) -> Imported:
    """Of a .proto file; `folder` is what its imports are relative to. Raises `SpecError`."""
    problems = Problems()
    file = path.resolve().relative_to(folder.resolve()).as_posix()
    descriptors = compile_folder(folder, [file], problems, Mark(str(path), 1, 1))
    problems.raise_any()
    assert descriptors is not None
    names = [each.name for each in descriptors.file if not each.name.startswith(_WITH_PROTOC)]
    protos = {f"{FOLDER}/{each}": (folder / each).read_text(encoding="utf-8") for each in names}
    return _finished(skeleton_of_protos(name, file, (file,), descriptors), protos)


def name_and_imports(file: bytes) -> tuple[str, tuple[str, ...]]:
    """Of a serialized `FileDescriptorProto`."""
    found = FileDescriptorProto.FromString(file)
    return found.name, tuple(found.dependency)


def from_descriptors(files: Iterable[bytes], url: str, name: str, port: int) -> Imported:
    """Of the `FileDescriptorProto`s that a server's reflection gives, imports first.

    ValueError for what no .proto can say.
    """
    parsed = [FileDescriptorProto.FromString(file) for file in files]
    kept = [file for file in parsed if not file.name.startswith(("grpc/health/", "grpc/reflection/"))]
    own = [file for file in kept if not file.name.startswith(_WITH_PROTOC)]
    protos = {f"{FOLDER}/{file.name}": proto_text(file) for file in own}
    services = tuple(file.name for file in own if file.service)
    skeleton = skeleton_of_protos(name, f"the reflection of {url}", services, FileDescriptorSet(file=kept))
    skeleton.ports = {"grpc": port}
    return _finished(skeleton, protos)


def from_openapi(text: bytes, source: str, name: str) -> Imported:
    """Of an OpenAPI document in JSON or YAML; ValueError for what is none."""
    return _finished(skeleton_of_openapi(name, source, _parsed(text)), {})


def _parsed(text: bytes) -> Any:
    if len(text) > MAX_DOCUMENT:
        raise ValueError(f"the document has more than {MAX_DOCUMENT} bytes")
    try:
        return json.loads(text) if text.lstrip()[:1] == b"{" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"neither JSON nor YAML: {error}") from None


def _finished(skeleton: Skeleton, protos: Mapping[str, str]) -> Imported:
    if not skeleton.endpoints:
        raise ValueError(f"{skeleton.source} has no endpoint that a spec could describe")
    problems = Problems()
    guesses = Guesses(load_specs(default_specs(), problems))
    if len(problems):
        raise SpecError(problems.sorted())
    files = {
        **protos,
        f"apis/{skeleton.name}.yaml": api_file(skeleton, guesses),
        f"runtimes/{skeleton.name}.yaml": runtime_file(skeleton),
    }
    return Imported(files)
