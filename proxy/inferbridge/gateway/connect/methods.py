"""The methods that can be called in Connect's form, with the descriptors of their messages."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from inferbridge.bridge.transcode import open_pool


@dataclass(frozen=True)
class Method:
    """One method; its messages are looked up when it is called first."""

    rpc: str
    """`/package.Service/Method`."""
    streams_in: bool
    streams_out: bool
    idempotent: bool
    """It may be called with GET."""
    find: Callable[[], tuple[Descriptor, Descriptor]]

    @cached_property
    def _messages(self) -> tuple[Descriptor, Descriptor]:
        return self.find()

    @property
    def request(self) -> Descriptor:
        """The message that asks."""
        return self._messages[0]

    @property
    def reply(self) -> Descriptor:
        """The message that answers."""
        return self._messages[1]


def methods_of(descriptor_sets: Iterable[bytes], idempotent: Callable[[str], bool]) -> Mapping[str, Method]:
    """All methods of some serialized `FileDescriptorSet`s by their path; the first set to declare one counts."""
    found: dict[str, Method] = {}
    for data in descriptor_sets:
        pool = _Pool(data)
        for file in FileDescriptorSet.FromString(data).file:
            for service in file.service:
                name = f"{file.package}.{service.name}" if file.package else service.name
                for method in service.method:
                    rpc = f"/{name}/{method.name}"
                    streams = (method.client_streaming, method.server_streaming)
                    find = partial(pool.messages, name, method.name)
                    found.setdefault(rpc, Method(rpc, *streams, idempotent(rpc), find))
    return found


class _Pool:
    """A descriptor set, opened when it is needed."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _pool(self) -> DescriptorPool:
        return open_pool(self._data)

    def messages(self, service: str, method: str) -> tuple[Descriptor, Descriptor]:
        """Request and reply of a method."""
        found = self._pool.FindServiceByName(service).FindMethodByName(method)
        return found.input_type, found.output_type
