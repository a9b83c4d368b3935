"""Our Open Inference protos against the descriptors that each runtime's own packages carry."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.protos.compile import compile_protos

OFFICIAL = Path(__file__).parents[2] / "golden" / "descriptors"

type Facts = dict[str, tuple[object, ...]]

# numbers of the fields of FileDescriptorProto and what it holds, as paths of comments spell them
_COMMENTED = {
    (): {"message_type": 4, "enum_type": 5, "service": 6},
    ("message_type",): {"field": 2, "nested_type": 3, "enum_type": 4, "oneof_decl": 8},
    ("enum_type",): {"value": 2},
    ("service",): {"method": 2},
}


def facts(descriptors: FileDescriptorSet) -> Facts:
    """All that shows on the wire, in JSON or in a path, by full name."""
    pool = DescriptorPool()
    for file in descriptors.file:
        pool.AddSerializedFile(file.SerializeToString())
    files = [pool.FindFileByName(file.name) for file in descriptors.file]
    return {name: fact for file in files for name, fact in _file_facts(file)}


def _file_facts(file: FileDescriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    for message in file.message_types_by_name.values():
        yield from _message_facts(message)
    for enum in file.enum_types_by_name.values():
        yield _enum_fact(enum)
    for service in file.services_by_name.values():
        yield service.full_name, ("service",)
        for method in service.methods:
            types = (method.input_type.full_name, method.output_type.full_name)
            yield f"/{service.full_name}/{method.name}", (*types, method.client_streaming, method.server_streaming)


def _message_facts(message: Descriptor) -> Iterator[tuple[str, tuple[object, ...]]]:
    yield message.full_name, ("message", bool(message.GetOptions().map_entry), [oneof.name for oneof in message.oneofs])
    for field in message.fields:
        yield field.full_name, _field_fact(field)
    for nested in message.nested_types:
        yield from _message_facts(nested)
    for enum in message.enum_types:
        yield _enum_fact(enum)


def _field_fact(field: FieldDescriptor) -> tuple[object, ...]:
    """Number, type, label, packing, JSON name, oneof (a synthetic one tells proto3's `optional`) and presence."""
    named = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else None
    shape = (field.is_repeated, field.is_required, field.is_packed, field.has_presence)
    return (field.number, field.type, named.full_name if named else None, shape, field.json_name, oneof)


def _enum_fact(enum: EnumDescriptor) -> tuple[str, tuple[object, ...]]:
    return enum.full_name, ("enum", enum.is_closed, {value.name: value.number for value in enum.values})


def _official(variant: str) -> FileDescriptorSet:
    return FileDescriptorSet.FromString((OFFICIAL / f"v2_{variant}.binpb").read_bytes())


VARIANTS = pytest.mark.parametrize("variant", ["triton", "mlserver", "kserve", "oip"])


@VARIANTS
def test_every_official_name_means_the_same_in_ours(variant: str, variants: Mapping[str, FileDescriptorSet]) -> None:
    """Messages, fields, enums and RPCs of the runtime's package and of ours are the same, none missing, none more."""
    official, ours = facts(_official(variant)), facts(variants[variant])
    assert len(official) > 90
    assert {name: fact for name, fact in ours.items() if official.get(name) != fact} == {}
    assert sorted(official.keys() - ours.keys()) == []


def test_a_changed_field_number_is_noticed(variants: Mapping[str, FileDescriptorSet]) -> None:
    """The comparison sees numbers, packing, presence, JSON names and streaming, each of them."""
    before = facts(variants["kserve"])
    for change in (_renumber, _unpack, _make_optional, _rename_json, _stream):
        changed = FileDescriptorSet()
        changed.CopyFrom(variants["kserve"])
        change(changed.file[0])
        assert facts(changed) != before, change.__name__


def _message(file: FileDescriptorProto, name: str) -> int:
    return [message.name for message in file.message_type].index(name)


def _renumber(file: FileDescriptorProto) -> None:
    file.message_type[_message(file, "ServerLiveResponse")].field[0].number = 9


def _unpack(file: FileDescriptorProto) -> None:
    file.message_type[_message(file, "InferTensorContents")].field[0].options.packed = False


def _make_optional(file: FileDescriptorProto) -> None:
    message = file.message_type[_message(file, "ServerLiveResponse")]
    message.oneof_decl.add(name="_live")
    message.field[0].oneof_index, message.field[0].proto3_optional = 0, True


def _rename_json(file: FileDescriptorProto) -> None:
    file.message_type[_message(file, "ServerLiveResponse")].field[0].json_name = "alive"


def _stream(file: FileDescriptorProto) -> None:
    file.service[0].method[0].server_streaming = True


@VARIANTS
def test_everything_declared_has_a_comment(variant: str, variants: Mapping[str, FileDescriptorSet]) -> None:
    """Each message, field, oneof, enum, value, service and RPC says what it is: the comments become docstrings."""
    bare = [name for file in variants[variant].file for name in _uncommented(file)]
    assert bare == []


def _uncommented(file: FileDescriptorProto) -> list[str]:
    spots = {tuple(spot.path): spot for spot in file.source_code_info.location}
    named = dict(_named(file, (), ()))
    assert named
    return [
        f"{file.name}: {name}"
        for path, name in named.items()
        if not (spots[path].leading_comments or spots[path].trailing_comments)
    ]


def _named(holder: object, kind: tuple[str, ...], path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Path and name of all that should have a comment."""
    for member, number in _COMMENTED.get(kind, {}).items():
        for index, child in enumerate(getattr(holder, member)):
            if member == "nested_type" and child.options.map_entry:
                continue
            here = (*path, number, index)
            yield here, child.name
            yield from _named(child, ("message_type",) if member == "nested_type" else (member,), here)


def test_the_generation_service_means_the_same_in_ours() -> None:
    """Names, numbers, types and presence of package fmaas are those of the vLLM adapter, none missing, none more."""
    problems = Problems()
    ours = compile_protos(default_specs(), ("fmaas/generation.proto",), problems, Mark("x", 1, 1))
    assert ours is not None
    official = FileDescriptorSet.FromString((OFFICIAL / "tgis.binpb").read_bytes())
    assert facts(ours) == facts(official)


def test_caikits_text_tasks_mean_the_same_in_ours() -> None:
    """What ours has of caikit's packages is what the runtime's own descriptors say."""
    ours = compile_protos(default_specs(), ("caikit/nlp_service.proto",), Problems(), Mark("x", 1, 1))
    assert ours is not None
    official = facts(FileDescriptorSet.FromString((OFFICIAL / "caikit_nlp.binpb").read_bytes()))
    found = facts(ours)
    assert len(found) > 70
    assert {name: fact for name, fact in found.items() if official.get(name) != fact} == {}
