"""Finds messages and methods of one descriptor set, in a pool of its own: variants declare the same names."""

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool


class ProtoIndex:
    """Messages by full name and methods by `package.Service/Method`, map entries left out, all in file order."""

    def __init__(self, descriptors: FileDescriptorSet, opaque: Iterable[str] = ()) -> None:
        self._opaque = frozenset(opaque)
        pool = DescriptorPool()
        for file in descriptors.file:
            pool.AddSerializedFile(file.SerializeToString())
        files = [pool.FindFileByName(file.name) for file in descriptors.file]
        tops = [top for file in files for top in file.message_types_by_name.values()]
        self._messages: dict[str, Descriptor] = {
            message.full_name: message for top in tops for message in _with_nested(top)
        }
        self.methods: dict[str, MethodDescriptor] = {
            f"{service.full_name}/{method.name}": method
            for file in files
            for service in file.services_by_name.values()
            for method in service.methods
        }

    def message(self, full_name: str) -> Descriptor | None:
        """The message with that full name."""
        return self._messages.get(full_name)

    def method(self, name: str) -> MethodDescriptor | None:
        """The method with that name, `package.Service/Method`."""
        return self.methods.get(name)

    def message_names(self) -> tuple[str, ...]:
        """Full names of all messages."""
        return tuple(self._messages)

    def method_names(self) -> tuple[str, ...]:
        """Names of all methods, `package.Service/Method`."""
        return tuple(self.methods)

    def messages(self) -> tuple[Descriptor, ...]:
        """All messages: files in the order of the set, nested messages after the one that holds them."""
        return tuple(self._messages.values())

    def reachable(self, roots: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
        """The messages that `roots` contain, themselves included, in file order; not those that are kept as bytes."""
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            message = waiting.pop()
            if message.full_name not in found and message.full_name not in self._opaque:
                found.add(message.full_name)
                waiting.extend(field.message_type for field in message.fields if field.message_type is not None)
        return tuple(message for name, message in self._messages.items() if name in found)


def _with_nested(message: Descriptor) -> Iterator[Descriptor]:
    if not message.GetOptions().map_entry:
        yield message
        for nested in message.nested_types:
            yield from _with_nested(nested)
