"""Codecs rendered for a test beside google.protobuf's classes of the same messages, and what compares the two.

A message is compared as its *meaning*: field names to plain values. Floats are taken by their bits, so that NaN equals
itself and the zeros differ; a run that a codec keeps as packed bytes is a list of its elements.
"""

import math
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from inferbridge.bridge.values import Buffer, join
from inferbridge_codegen.model.wire_view import attribute, class_name
from inferbridge_codegen.protos.index import ProtoIndex
from inferbridge_codegen.render.wire import render_wire

DESCRIPTORS = Path(__file__).parent.parent / "golden" / "descriptors"

KINDS = """
syntax = "proto3";
package kinds;

enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 1; COLOUR_FAR = 2147483647; COLOUR_BELOW = -1; }

message Scalars {
  double double_field = 1; float float_field = 2; int32 int32_field = 3; int64 int64_field = 4;
  uint32 uint32_field = 5; uint64 uint64_field = 6; sint32 sint32_field = 7; sint64 sint64_field = 8;
  fixed32 fixed32_field = 9; fixed64 fixed64_field = 10; sfixed32 sfixed32_field = 11; sfixed64 sfixed64_field = 12;
  bool bool_field = 13; string string_field = 14; bytes bytes_field = 15; Colour enum_field = 16;
}
message Optionals {
  optional double double_field = 1; optional float float_field = 2; optional int32 int32_field = 3;
  optional int64 int64_field = 4; optional uint32 uint32_field = 5; optional uint64 uint64_field = 6;
  optional sint32 sint32_field = 7; optional sint64 sint64_field = 8; optional fixed32 fixed32_field = 9;
  optional fixed64 fixed64_field = 10; optional sfixed32 sfixed32_field = 11; optional sfixed64 sfixed64_field = 12;
  optional bool bool_field = 13; optional string string_field = 14; optional bytes bytes_field = 15;
  optional Colour enum_field = 16; optional Scalars message_field = 17;
}
message Runs {
  repeated double double_run = 1; repeated float float_run = 2; repeated int32 int32_run = 3;
  repeated int64 int64_run = 4; repeated uint32 uint32_run = 5; repeated uint64 uint64_run = 6;
  repeated sint32 sint32_run = 7; repeated sint64 sint64_run = 8; repeated fixed32 fixed32_run = 9;
  repeated fixed64 fixed64_run = 10; repeated sfixed32 sfixed32_run = 11; repeated sfixed64 sfixed64_run = 12;
  repeated bool bool_run = 13; repeated string string_list = 14; repeated bytes bytes_list = 15;
  repeated Colour enum_run = 16; repeated Scalars message_list = 17;
}
message Unpacked {
  repeated double double_run = 1 [packed = false]; repeated float float_run = 2 [packed = false];
  repeated int32 int32_run = 3 [packed = false]; repeated sint64 sint64_run = 8 [packed = false];
  repeated bool bool_run = 13 [packed = false]; repeated Colour enum_run = 16 [packed = false];
}
message Maps {
  map<int32, double> by_int32 = 1; map<int64, float> by_int64 = 2; map<uint32, int32> by_uint32 = 3;
  map<uint64, sint64> by_uint64 = 4; map<sint32, uint64> by_sint32 = 5; map<sint64, bool> by_sint64 = 6;
  map<fixed32, string> by_fixed32 = 7; map<fixed64, bytes> by_fixed64 = 8; map<sfixed32, Colour> by_sfixed32 = 9;
  map<sfixed64, fixed32> by_sfixed64 = 10; map<bool, Scalars> by_bool = 11; map<string, Optionals> by_string = 12;
}
message Choice {
  string before = 1;
  oneof choice {
    bool bool_choice = 2; int64 int64_choice = 3; string string_choice = 4; bytes bytes_choice = 5;
    double double_choice = 6; Colour enum_choice = 7; Scalars scalars_choice = 8; Choice choice_choice = 9;
  }
  oneof other { sint32 sint32_other = 10; fixed64 fixed64_other = 11; }
}
message Tree {
  string label = 1; Tree left = 2; repeated Tree children = 3; map<string, Tree> named = 4; Runs runs = 5;
  message Leaf { bytes value = 1; message Vein { int32 width = 1; } repeated Vein veins = 2; }
  Leaf leaf = 16; Maps maps = 2047;
}
message Names {
  bool global = 1; string from = 2; string data = 3; int32 at = 4; bool end = 5; repeated int32 tag = 6;
  float size = 7; map<string, string> value = 8; map<int32, bool> item = 9; bytes m = 10; string unknown = 11;
  int64 depth = 12; string stop = 13; string out = 14; repeated string total = 15; string piece = 16;
  bytes head = 2048; Empty key = 536870911; string Mixed_Case = 262144;
}
message Empty {}
"""


class Codecs:
    """One set of messages: google's class and the rendered codec of each, by the codec's class name."""

    def __init__(self, messages: Iterable[Descriptor]) -> None:
        found = tuple(messages)
        self.source = render_wire(found, ["test.proto"])
        self.module = ModuleType("rendered_wire")
        exec(compile(self.source, "rendered_wire.py", "exec"), self.module.__dict__)
        self.descriptors = {class_name(message): message for message in found}

    def google(self, name: str) -> type[Message]:
        """google.protobuf's class."""
        return GetMessageClass(self.descriptors[name])

    def decode(self, name: str, data: Buffer) -> tuple[Any, list[tuple[str, int]]]:
        """The codec's struct, and the fields it did not know."""
        unknown: list[tuple[str, int]] = []
        return getattr(self.module, f"decode_{name}")(data, unknown), unknown

    def encode(self, value: Any) -> Buffer:
        """The codec's bytes of a struct."""
        return join(getattr(self.module, f"encode_{type(value).__name__}")(value))

    def struct_of(self, message: Any) -> Any:
        """A google message as a struct, made without the codec's reader."""
        descriptor: Descriptor = message.DESCRIPTOR
        values = {attribute(field): self._value_of(message, field) for field in descriptor.fields}
        return getattr(self.module, class_name(descriptor))(**values)

    def _value_of(self, message: Any, field: FieldDescriptor) -> Any:
        value = getattr(message, field.name)
        if is_map(field):
            is_message = map_fields(field)[1].message_type is not None
            return {key: self.struct_of(value[key]) if is_message else value[key] for key in value}
        if field.is_repeated and field.message_type is not None:
            return [self.struct_of(item) for item in value]
        if field.is_repeated:
            return _packed(field, value) if field.type in PACKED else list(value)
        if field.has_presence and not message.HasField(field.name):
            return None
        return self.struct_of(value) if field.message_type is not None else value


PACKED = {
    FieldDescriptor.TYPE_DOUBLE: "<d",
    FieldDescriptor.TYPE_FLOAT: "<f",
    FieldDescriptor.TYPE_FIXED32: "<I",
    FieldDescriptor.TYPE_FIXED64: "<Q",
    FieldDescriptor.TYPE_SFIXED32: "<i",
    FieldDescriptor.TYPE_SFIXED64: "<q",
    FieldDescriptor.TYPE_BOOL: "<?",
}


def _packed(field: FieldDescriptor, values: Iterable[Any]) -> bytes:
    return b"".join(struct.pack(PACKED[field.type], value) for value in values)


@cache
def kinds() -> Codecs:
    """The messages of KINDS."""
    return Codecs(ProtoIndex(compile_text(KINDS)).messages())


@cache
def inference(variant: str) -> Codecs:
    """The messages of package `inference` as a runtime's official protos declare them."""
    descriptors = FileDescriptorSet.FromString((DESCRIPTORS / f"v2_{variant}.binpb").read_bytes())
    found = ProtoIndex(descriptors).messages()
    return Codecs(message for message in found if message.file.package == "inference")


def compile_text(text: str) -> FileDescriptorSet:
    """Descriptors of the text of one .proto file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test.proto").write_text(text, "utf-8")
        command = [sys.executable, "-P", "-m", "grpc_tools.protoc", "--proto_path=.", "-otest.binpb", "test.proto"]
        subprocess.run(command, cwd=folder, check=True)
        return FileDescriptorSet.FromString(Path(folder, "test.binpb").read_bytes())


def is_map(field: FieldDescriptor) -> bool:
    """Whether the field is a map."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def map_fields(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Key and value of a map field's entries."""
    assert field.message_type is not None
    return field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]


# Meaning


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else (value, math.copysign(1.0, value))
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else value


def meaning_of_google(message: Any) -> dict[str, Any]:
    """What a google message says."""
    return {field.name: _google_field(message, field) for field in message.DESCRIPTOR.fields}


def _google_field(message: Any, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    plain = meaning_of_google if field.message_type is not None else _plain
    if is_map(field):
        plain = meaning_of_google if map_fields(field)[1].message_type is not None else _plain
        return {key: plain(value[key]) for key in value}
    if field.is_repeated:
        return [plain(item) for item in value]
    return plain(value) if not field.has_presence or message.HasField(field.name) else None


def meaning_of_struct(value: Any, descriptor: Any) -> dict[str, Any]:
    """What a codec's struct says."""
    return {field.name: _struct_field(getattr(value, attribute(field)), field) for field in descriptor.fields}


def _struct_field(value: Any, field: FieldDescriptor) -> Any:
    inner = field.message_type
    if is_map(field):
        return {key: _struct_field(item, map_fields(field)[1]) for key, item in value.items()}
    if field.is_repeated and field.type in PACKED:
        return [_plain(item) for (item,) in struct.iter_unpack(PACKED[field.type], value)]
    if field.is_repeated:
        return [meaning_of_struct(item, inner) if inner is not None else _plain(item) for item in value]
    return meaning_of_struct(value, inner) if inner is not None and value is not None else _plain(value)


# Random messages


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return st.one_of(st.integers(0, 300), st.sampled_from([low, high, low + 1, high - 1]), st.integers(low, high))


_SIGNED32, _SIGNED64 = _integers(32, signed=True), _integers(64, signed=True)
_UNSIGNED32, _UNSIGNED64 = _integers(32, signed=False), _integers(64, signed=False)
VALUES: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_DOUBLE: st.floats(),
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
    FieldDescriptor.TYPE_INT32: _SIGNED32,
    FieldDescriptor.TYPE_INT64: _SIGNED64,
    FieldDescriptor.TYPE_UINT32: _UNSIGNED32,
    FieldDescriptor.TYPE_UINT64: _UNSIGNED64,
    FieldDescriptor.TYPE_SINT32: _SIGNED32,
    FieldDescriptor.TYPE_SINT64: _SIGNED64,
    FieldDescriptor.TYPE_FIXED32: _UNSIGNED32,
    FieldDescriptor.TYPE_FIXED64: _UNSIGNED64,
    FieldDescriptor.TYPE_SFIXED32: _SIGNED32,
    FieldDescriptor.TYPE_SFIXED64: _SIGNED64,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(max_size=6),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=6),
    FieldDescriptor.TYPE_ENUM: _SIGNED32,
}


@st.composite
def messages(draw: Callable[[st.SearchStrategy[Any]], Any], codecs: Codecs, name: str, depth: int = 3) -> Message:
    """A google message of some of its fields, at most `depth` messages deep."""
    message = codecs.google(name)()
    _fill(draw, message, depth)
    return message


def _fill(draw: Callable[[st.SearchStrategy[Any]], Any], message: Any, depth: int) -> None:
    fields = list(message.DESCRIPTOR.fields)
    if not fields:
        return
    for field in draw(st.lists(st.sampled_from(fields), max_size=5)):
        place = getattr(message, field.name)
        if is_map(field):
            _fill_map(draw, place, field, depth)
        elif field.message_type is None and field.is_repeated:
            place.extend(draw(st.lists(VALUES[field.type], max_size=4)))
        elif field.message_type is None:
            setattr(message, field.name, draw(VALUES[field.type]))
        elif depth:
            if not field.is_repeated:
                place.SetInParent()
            _fill(draw, place.add() if field.is_repeated else place, depth - 1)


def _fill_map(draw: Callable[[st.SearchStrategy[Any]], Any], place: Any, field: FieldDescriptor, depth: int) -> None:
    key, value = map_fields(field)
    for drawn in draw(st.lists(VALUES[key.type], max_size=3)):
        if value.message_type is None:
            place[drawn] = draw(VALUES[value.type])
        elif depth:
            _fill(draw, place[drawn], depth - 1)
