"""Descriptor sets as files of the generated package, in the form that tools such as grpcurl take."""

from collections.abc import Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import FOLDER, compile_protos

GRPC_FOLDER = "grpc"
"""The protos of the services that the gateway answers itself: health and reflection."""
GRPC_SET = "grpc_services.binpb"


def without_comments(descriptors: FileDescriptorSet) -> bytes:
    """The serialized set; comments and places would be three quarters of it."""
    plain = FileDescriptorSet()
    plain.CopyFrom(descriptors)
    for file in plain.file:
        file.ClearField("source_code_info")
    return plain.SerializeToString(deterministic=True)


def render_grpc_services(specs: Path) -> Mapping[str, bytes]:
    """The set of all protos in the gRPC folder of `specs`; no file when there are none. Raises `SpecError`."""
    folder, problems = specs / FOLDER, Problems()
    names = sorted(path.relative_to(folder).as_posix() for path in (folder / GRPC_FOLDER).rglob("*.proto"))
    descriptors = compile_protos(specs, names, problems, Mark(f"{FOLDER}/{GRPC_FOLDER}", 1, 1))
    problems.raise_any()
    return {GRPC_SET: without_comments(descriptors)} if names and descriptors is not None else {}
