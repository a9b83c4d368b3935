"""Finds messages and methods of one descriptor set, in a pool of its own: variants declare the same names."""

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool


class ProtoIndex:
    """Messages by full name and methods by `package.Service/Method`."""

    def __init__(self, descriptors: FileDescriptorSet) -> None:
        pool = DescriptorPool()
        for file in descriptors.file:
            pool.AddSerializedFile(file.SerializeToString())
        files = [pool.FindFileByName(file.name) for file in descriptors.file]
        self._messages = [
            message for file in files for top in file.message_types_by_name.values() for message in _with_nested(top)
        ]
        self.methods: dict[str, MethodDescriptor] = {
            f"{service.full_name}/{method.name}": method
            for file in files
            for service in file.services_by_name.values()
            for method in service.methods
        }

    def reachable(self, roots: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
        """The messages that `roots` contain, themselves included, map entries left out, in file order."""
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            message = waiting.pop()
            if message.full_name not in found:
                found.add(message.full_name)
                waiting.extend(field.message_type for field in message.fields if field.message_type is not None)
        return tuple(
            message
            for message in self._messages
            if message.full_name in found and not message.GetOptions().map_entry
        )


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    yield message
    for nested in message.nested_types:
        yield from _with_nested(nested)
