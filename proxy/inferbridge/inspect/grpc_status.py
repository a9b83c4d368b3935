"""The trailers of a gRPC answer as a table, its status in words and the details of an error as messages."""

import base64
import binascii
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from google.protobuf import any_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from inferbridge.bridge.errors import Code
from inferbridge.bridge.framing import unquote_message
from inferbridge.inspect.messages import add_message
from inferbridge.inspect.page import Page, quoted, quoted_bytes, shorten
from inferbridge.secret import HIDDEN, is_credential_header

STATUS, MESSAGE, DETAILS = "grpc-status", "grpc-message", "grpc-status-details-bin"
_BIN = "-bin"


def add_trailers(page: Page, trailers: Iterable[tuple[str, str]], depth: int = 0) -> None:
    """One line for each; the values of credentials are not shown."""
    for name, value in trailers:
        if page.is_full:
            return
        if name.lower() == DETAILS:
            _add_details(page, value, depth)
        else:
            page.add(f"{shorten(name, 200)}: {_shown(name.lower(), value)}", depth)


def _shown(name: str, value: str) -> str:
    if is_credential_header(name):
        return HIDDEN
    if name == STATUS:
        return status_text(value)
    if name == MESSAGE:
        return quoted(unquote_message(shorten(value, 16 * 1024)))
    if name.endswith(_BIN):
        octets = _from_base64(value)
        return shorten(value) if octets is None else quoted_bytes(octets)
    return shorten(value)


def status_text(value: str) -> str:
    """`5 NOT_FOUND`."""
    known = value.isascii() and value.isdecimal() and len(value) <= 2 and int(value) in set(Code)
    return f"{value} {Code(int(value)).name}" if known else f"{shorten(value, 40)} ! no status of gRPC"


def _add_details(page: Page, value: str, depth: int) -> None:
    octets = _from_base64(value)
    if octets is None:
        page.add(f"{DETAILS}: {shorten(value)} ! not base64", depth)
        return
    page.add(f"{DETAILS}: google.rpc.Status, {len(octets)} bytes", depth)
    add_message(page, memoryview(octets), _status(), depth + 1)


def _from_base64(value: str) -> bytes | None:
    """Padded or not, as gRPC allows."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


@cache
def _status() -> Descriptor:
    """google.rpc.Status, with the types of its details where googleapis-common-protos is installed."""
    try:
        import_module("google.rpc.error_details_pb2")
        return import_module("google.rpc.status_pb2").Status.DESCRIPTOR  # type: ignore[no-any-return]  # not typed
    except ImportError:
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(_STATUS_FILE.SerializeToString())
        found: Descriptor = pool.FindMessageTypeByName("google.rpc.Status")
        return found


_STATUS_FILE = FileDescriptorProto(
    name="google/rpc/status.proto",
    package="google.rpc",
    syntax="proto3",
    dependency=["google/protobuf/any.proto"],
)
_FIELD = FieldDescriptorProto
_STATUS_FILE.message_type.add(name="Status").field.extend(
    [
        _FIELD(name="code", number=1, type=_FIELD.TYPE_INT32, label=_FIELD.LABEL_OPTIONAL),
        _FIELD(name="message", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL),
        _FIELD(
            name="details",
            number=3,
            type=_FIELD.TYPE_MESSAGE,
            type_name=".google.protobuf.Any",
            label=_FIELD.LABEL_REPEATED,
        ),
    ]
)
