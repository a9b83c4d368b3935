"""Descriptor sets for whoever calls a method without our package: the method's file and all that it imports."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from inferbridge.recorded.calls import Place, Unfit
from inferbridge.recorded.exchanges import Side


def protoset(side: Side, method: MethodDescriptor, place: Place) -> str:
    """The name of a file with the descriptors: one beside the command, else the one that the package has."""
    if place.beside:
        return place.add(f"{side.asked.target.lstrip('/').partition('/')[0]}.protoset", descriptor_set(method))
    return _packaged(method)


def descriptor_set(method: MethodDescriptor) -> bytes:
    """A serialized `FileDescriptorSet`, imports first."""
    return FileDescriptorSet(file=_files(method)).SerializeToString(deterministic=True)


def _files(method: MethodDescriptor) -> Iterator[FileDescriptorProto]:
    seen: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name not in seen:
            for imported in file.dependencies:
                visit(imported)
            seen[file.name] = file

    visit(method.containing_service.file)
    for file in seen.values():
        yield FileDescriptorProto.FromString(file.serialized_pb)


def _packaged(method: MethodDescriptor) -> str:
    """The packaged set that holds exactly this file; variants of an API have files of the same name."""
    wanted = method.containing_service.file.serialized_pb
    for path in sorted(Path(str(files("inferbridge_generated"))).rglob("*.binpb")):
        found = FileDescriptorSet.FromString(path.read_bytes())
        if any(each.SerializeToString() == wanted for each in found.file):
            return str(path)
    raise Unfit("its proto lies in no file; give -o, and one is written beside")
