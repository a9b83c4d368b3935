"""The methods that can be called in Connect's form."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor

from inferbridge.bridge.transcode_methods import Methods


@dataclass(frozen=True, slots=True)
class Method:
    """One method."""

    rpc: str
    """`/package.Service/Method`."""
    descriptor: MethodDescriptor
    idempotent: bool
    """It may be called with GET."""

    @property
    def streams(self) -> bool:
        """Whether more than one message goes either way."""
        return self.descriptor.client_streaming or self.descriptor.server_streaming


def methods_of(sets: Iterable[Methods], idempotent: Callable[[str], bool]) -> Mapping[str, Method]:
    """All methods of some sets by their path; the first set to declare one counts."""
    found: dict[str, Method] = {}
    for methods in sets:
        for rpc, descriptor in methods.by_rpc.items():
            found.setdefault(rpc, Method(rpc, descriptor, idempotent(rpc)))
    return found
