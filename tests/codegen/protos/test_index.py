"""Looking up messages and methods of one descriptor set."""

from collections.abc import Callable, Mapping

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.protos.index import ProtoIndex

type Compile = Callable[..., tuple[FileDescriptorSet | None, list[str]]]

BELOW = 'syntax = "proto3"; package low; message Zed { message Inner { message Core {} } map<string, Zed> all = 1; }'
TOP = """syntax = "proto3"; package top; import "below.proto";
message Last { oneof kind { low.Zed zed = 1; Loop loop = 2; } }
message Loop { repeated Loop loops = 1; }
message Alone {}
service Calls { rpc Do(Last) returns (Alone); rpc Undo(stream Alone) returns (stream Last); }
"""


@pytest.fixture
def index(compile_texts: Compile) -> ProtoIndex:
    """Two files, one importing the other."""
    descriptors, problems = compile_texts({"top.proto": TOP, "below.proto": BELOW}, "top.proto")
    assert descriptors is not None, problems
    return ProtoIndex(descriptors)


def test_messages_are_in_file_order(index: ProtoIndex) -> None:
    """Imported files come first, nested messages after the one that holds them, map entries not at all."""
    names = ("low.Zed", "low.Zed.Inner", "low.Zed.Inner.Core", "top.Last", "top.Loop", "top.Alone")
    assert index.message_names() == names
    assert tuple(message.full_name for message in index.messages()) == names


def test_methods_are_named_as_on_the_wire(index: ProtoIndex) -> None:
    """A method is found as `package.Service/Method`, with its types and streaming."""
    assert index.method_names() == ("top.Calls/Do", "top.Calls/Undo")
    method = index.method("top.Calls/Undo")
    assert method is not None
    assert (method.input_type.full_name, method.output_type.full_name) == ("top.Alone", "top.Last")
    assert (method.client_streaming, method.server_streaming) == (True, True)


def test_unknown_names_are_none(index: ProtoIndex) -> None:
    """What is not declared is None, however near its name."""
    assert index.message("top.last") is None
    assert index.message("low.Zed.AllEntry") is None
    assert index.method("/top.Calls/Do") is None


def test_reachable_follows_fields_and_maps(index: ProtoIndex) -> None:
    """All that a message may hold is reached, recursion ends, the rest is left out."""
    last = index.message("top.Last")
    assert last is not None
    assert [message.full_name for message in index.reachable([last])] == ["low.Zed", "top.Last", "top.Loop"]


def test_variants_with_the_same_names_live_side_by_side(variants: Mapping[str, FileDescriptorSet]) -> None:
    """Two sets may declare one name differently in one process."""
    fields = {}
    for variant, descriptors in variants.items():
        message = ProtoIndex(descriptors).message("inference.RepositoryModelLoadRequest")
        fields[variant] = {field.name: field.number for field in message.fields} if message else None
    assert fields == {
        "triton": {"repository_name": 1, "model_name": 2, "parameters": 3},
        "mlserver": {"repository_name": 1, "model_name": 2, "parameters": 3},
        "kserve": {"model_name": 1},
        "oip": None,
    }
