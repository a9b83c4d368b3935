"""JSON of the messages of gRPC methods, by descriptor."""

from collections.abc import Mapping

from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.transcode import open_pool, to_json, to_message
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import Unknown, unknown_names


class Methods:
    """The methods of a serialized `FileDescriptorSet`; `rpc` is `/package.Service/Method` everywhere."""

    def __init__(self, descriptor_set: bytes) -> None:
        pool = open_pool(descriptor_set)
        names = [
            f"{file.package}.{service.name}" if file.package else service.name
            for file in FileDescriptorSet.FromString(descriptor_set).file
            for service in file.service
        ]
        self.by_rpc: Mapping[str, MethodDescriptor] = {
            f"/{name}/{method.name}": method for name in names for method in pool.FindServiceByName(name).methods
        }

    def request_from_json(self, rpc: str, text: Buffer) -> bytes:
        """The wire bytes of a request; raises `BridgeError` for what does not fit."""
        return to_message(text, self.find(rpc).input_type)

    def reply_from_json(self, rpc: str, text: Buffer) -> bytes:
        """The wire bytes of a reply."""
        return to_message(text, self.find(rpc).output_type)

    def request_to_json(self, rpc: str, wire: Buffer) -> bytes:
        """The JSON of a request, with the names of the proto."""
        return json_of(wire, self.find(rpc).input_type)

    def reply_to_json(self, rpc: str, wire: Buffer) -> bytes:
        """The JSON of a reply."""
        return json_of(wire, self.find(rpc).output_type)

    def find(self, rpc: str) -> MethodDescriptor:
        """The method of that path; raises `BridgeError` UNIMPLEMENTED."""
        method = self.by_rpc.get(rpc)
        if method is None:
            raise BridgeError(Code.UNIMPLEMENTED, f"no proto has the method {rpc}")
        return method


def json_of(wire: Buffer, descriptor: Descriptor) -> bytes:
    """The JSON of a message, with the names of the proto.

    Fields that no proto of ours knows stand for themselves: they have no name that could be written.
    """
    unknown: Unknown = []
    text = to_json(wire, descriptor, original_names=True, plain_integers=True, unknown=unknown)
    if not unknown:
        return text
    note = ", ".join(f'"{name}":"unknown"' for name in unknown_names(unknown))
    return b"%s%s%s}" % (text[:-1], b"," if text != b"{}" else b"", note.encode())
