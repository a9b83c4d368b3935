"""The three dialects of TGIS' generation.proto as messages of google.protobuf, to be clients and runtimes of each.

`tgis.binpb` holds the newest, vllm-tgis-adapter 0.10's. The older ones are the same but for what the table says:
IBM's TGIS (2025-05, the fork of Open Data Hub is the same) and caikit-tgis-backend 0.1.38.
"""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

NEWEST = Path(__file__).parent.parent / "golden/descriptors/tgis.binpb"
DIALECTS = ("ibm", "caikit", "adapter")
TOKENIZE = {"BatchedTokenizeRequest": {"prefix_id", "adapter_id"}}
MISSING: dict[str, dict[str, set[str]]] = {
    "adapter": {},
    "caikit": TOKENIZE,
    "ibm": {
        **TOKENIZE,
        "BatchedGenerationRequest": {"adapter_id"},
        "SingleGenerationRequest": {"adapter_id"},
        "DecodingParameters": {"format", "json_schema", "regex", "choice", "grammar"},
    },
}


@cache
def pool(dialect: str) -> DescriptorPool:
    """The messages of a dialect."""
    (file,) = FileDescriptorSet.FromString(NEWEST.read_bytes()).file
    if dialect != "adapter":
        _age(file, dialect)
    made = DescriptorPool()
    made.Add(file)
    return made


def _age(file: FileDescriptorProto, dialect: str) -> None:
    for message in file.message_type:
        for name in MISSING[dialect].get(message.name, ()):
            (field,) = (field for field in message.field if field.name == name)
            message.field.remove(field)
        if message.name == "SamplingParameters":
            _without_presence(message, "temperature")
        _tidy(message)


def _without_presence(message: DescriptorProto, name: str) -> None:
    """A field that is not told apart from 0."""
    (field,) = (field for field in message.field if field.name == name)
    field.ClearField("oneof_index")
    field.ClearField("proto3_optional")


def _tidy(message: DescriptorProto) -> None:
    """Oneofs that hold nothing any more go, the others move up."""
    used = sorted({field.oneof_index for field in message.field if field.HasField("oneof_index")})
    oneofs = [message.oneof_decl[number] for number in used]
    for field in message.field:
        if field.HasField("oneof_index"):
            field.oneof_index = used.index(field.oneof_index)
    kept = [oneof.name for oneof in oneofs]
    del message.oneof_decl[:]
    for name in kept:
        message.oneof_decl.add(name=name)


def make(dialect: str, name: str, **fields: Any) -> Message:
    """A message of `fmaas` as a program with this dialect's stubs makes it."""
    message = GetMessageClass(pool(dialect).FindMessageTypeByName(f"fmaas.{name}"))()
    return json_format.ParseDict(fields, message)


def read(dialect: str, name: str, data: bytes) -> Message:
    """A message as this dialect's stubs read it."""
    return GetMessageClass(pool(dialect).FindMessageTypeByName(f"fmaas.{name}")).FromString(data)
