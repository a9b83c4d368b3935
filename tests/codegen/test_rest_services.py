"""The gRPC services made of REST schemas: what is written as .proto is what the gateway serves."""

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from inferbridge_codegen.model.link import load_model
from inferbridge_codegen.model.types import Api
from inferbridge_codegen.places import default_specs
from inferbridge_codegen.render import rest_services

APIS = {api.name: api for api in load_model(default_specs()).apis if rest_services.methods(api)}


@pytest.fixture(params=sorted(APIS))
def api(request: pytest.FixtureRequest) -> Api:
    """An API with endpoints that are REST alone."""
    return APIS[request.param]


def test_the_proto_is_the_descriptor(api: Api, tmp_path: Path) -> None:
    """protoc makes of the text what the generator made itself."""
    place = tmp_path / rest_services.file_name(api)
    place.parent.mkdir()
    place.write_text(rest_services.render_proto(api))
    out = tmp_path / "out.binpb"
    wellknown = Path(protoc.__file__).parent / "_proto"
    arguments = [f"-I{tmp_path}", f"-I{wellknown}", f"--descriptor_set_out={out}", rest_services.file_name(api)]
    assert protoc.main(["protoc", *arguments]) == 0
    (compiled,) = FileDescriptorSet.FromString(out.read_bytes()).file
    assert compiled == rest_services.descriptors(api).file[-1]


def test_every_schema_keeps_its_order() -> None:
    """A field's number is its place in the YAML file, so a field added at the end renumbers nothing."""
    file = rest_services.descriptors(APIS["openai"]).file[-1]
    request = next(message for message in file.message_type if message.name == "CompletionRequest")
    schema = next(schema for schema in APIS["openai"].schemas if schema.name == "CompletionRequest")
    assert [(field.name, field.number) for field in request.field] == [
        (field.name, number) for number, field in enumerate(schema.fields, 1)
    ]


def test_all_of_an_api_that_is_rest_alone_is_there() -> None:
    """Each endpoint that says what it answers has its method, and one more where it can stream."""
    names = {method.name for method in rest_services.methods(APIS["openai"])}
    assert {"Completions", "CompletionsStream", "Chat", "ChatStream", "Embeddings", "Models", "Health"} <= names
    assert "Documentation" not in names
