"""JSON of the messages of gRPC methods, by descriptor."""

from google.protobuf.descriptor import Descriptor

from inferbridge.bridge.errors import BridgeError, Code
from inferbridge.bridge.transcode import open_pool, to_json, to_message
from inferbridge.bridge.values import Buffer
from inferbridge.bridge.wire import Unknown


class Methods:
    """The methods of a serialized `FileDescriptorSet`; `rpc` is `/package.Service/Method` everywhere."""

    def __init__(self, descriptor_set: bytes) -> None:
        self._pool = open_pool(descriptor_set)

    def request_from_json(self, rpc: str, text: Buffer) -> bytes:
        """The wire bytes of a request; raises `BridgeError` for what does not fit."""
        return to_message(text, self._types(rpc)[0])

    def reply_from_json(self, rpc: str, text: Buffer) -> bytes:
        """The wire bytes of a reply."""
        return to_message(text, self._types(rpc)[1])

    def request_to_json(self, rpc: str, wire: Buffer) -> bytes:
        """The JSON of a request, with the names of the proto."""
        return _json(wire, self._types(rpc)[0])

    def reply_to_json(self, rpc: str, wire: Buffer) -> bytes:
        """The JSON of a reply."""
        return _json(wire, self._types(rpc)[1])

    def _types(self, rpc: str) -> tuple[Descriptor, Descriptor]:
        service, _, name = rpc.strip("/").partition("/")
        try:
            method = self._pool.FindServiceByName(service).methods_by_name[name]
        except KeyError:
            raise BridgeError(Code.UNIMPLEMENTED, f"no proto has the method {rpc}") from None
        return method.input_type, method.output_type


def _json(wire: Buffer, descriptor: Descriptor) -> bytes:
    """Fields that no proto of ours knows stand for themselves: they have no name that could be written."""
    unknown: Unknown = []
    text = to_json(wire, descriptor, original_names=True, plain_integers=True, unknown=unknown)
    if not unknown:
        return text
    note = ", ".join(f'"{name}#{number}":"unknown"' for name, number in unknown)
    return b"%s%s%s}" % (text[:-1], b"," if text != b"{}" else b"", note.encode())
