"""Messages of the gateway's own services, from the descriptor set that the generator made of their protos."""

from functools import lru_cache
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from inferbridge.bridge.errors import invalid
from inferbridge.bridge.transcode import open_pool
from inferbridge.bridge.values import Buffer
from inferbridge.protos import grpc_services


@lru_cache(1)
def _pool() -> DescriptorPool:
    return open_pool(grpc_services())


@lru_cache
def message_class(name: str) -> Any:
    """The class of a message, by its full name."""
    return GetMessageClass(_pool().FindMessageTypeByName(name))


def parse(name: str, wire: Buffer) -> Any:
    """The message in some wire bytes; raises `BridgeError` INVALID_ARGUMENT."""
    try:
        return message_class(name).FromString(bytes(wire))
    except DecodeError as error:
        raise invalid(f"malformed {name}: {error}") from None
