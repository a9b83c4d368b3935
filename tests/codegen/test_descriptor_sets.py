"""The descriptor set of the services that the gateway answers itself."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from inferbridge_codegen.places import default_specs
from inferbridge_codegen.problems import SpecError
from inferbridge_codegen.protos.index import ProtoIndex
from inferbridge_codegen.render.descriptor_sets import GRPC_SET, render_grpc_services


def write_proto(specs: Path, name: str, text: str) -> None:
    """Put a proto into the folder of the gateway's own services."""
    place = specs / "protos" / "grpc" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_shipped_set_has_health_and_reflection() -> None:
    """The protos that come with the code declare every method that the gateway answers itself."""
    index = ProtoIndex(FileDescriptorSet.FromString(render_grpc_services(default_specs())[GRPC_SET]))
    assert set(index.method_names()) == {
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/List",
        "grpc.health.v1.Health/Watch",
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    }


def test_all_protos_of_the_folder_go_into_one_set(tmp_path: Path) -> None:
    """Files in any subfolder and what they import are in the set, imports first and without comments."""
    write_proto(
        tmp_path, "a/one.proto", 'syntax = "proto3"; package a; import "grpc/b/two.proto"; message A { b.B b = 1; }'
    )
    write_proto(tmp_path, "b/two.proto", 'syntax = "proto3"; package b; // why\nmessage B {}')
    descriptors = FileDescriptorSet.FromString(render_grpc_services(tmp_path)[GRPC_SET])
    assert [file.name for file in descriptors.file] == ["grpc/b/two.proto", "grpc/a/one.proto"]
    assert not any(file.HasField("source_code_info") for file in descriptors.file)


def test_no_protos_give_no_file(tmp_path: Path) -> None:
    """Without the folder nothing is rendered."""
    assert render_grpc_services(tmp_path) == {}


def test_broken_protos_are_problems_with_a_place(tmp_path: Path) -> None:
    """An error of protoc is reported like every other problem of a spec."""
    write_proto(tmp_path, "broken.proto", 'syntax = "proto3";\nmessage A { no.Such a = 1; }\n')
    with pytest.raises(SpecError, match=r"protos/grpc/broken\.proto:2:13: .*no\.Such"):
        render_grpc_services(tmp_path)
