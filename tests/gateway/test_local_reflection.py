"""Server reflection, answered by the gateway itself, and what it can tell of several descriptor sets."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from gateway.local_calls import open_call
from inferbridge.bridge.errors import Code
from inferbridge.gateway.local.descriptors import DescriptorIndex
from inferbridge.gateway.local.health import ServiceStates
from inferbridge.gateway.local.messages import message_class
from inferbridge.gateway.local.reflection import MAX_BYTES, MAX_QUESTIONS
from inferbridge.gateway.local.services import LocalServices

V1, ALPHA = (f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha"))
BASE = """
    name: "base.proto" package: "shop" syntax: "proto2"
    message_type {
      name: "Item"
      field { name: "id" number: 1 label: LABEL_OPTIONAL type: TYPE_INT32 oneof_index: 0 }
      oneof_decl { name: "key" }
      extension_range { start: 100 end: 200 }
      nested_type { name: "Part" enum_type { name: "Size" value { name: "SMALL" number: 0 } } }
    }
    enum_type { name: "Colour" value { name: "RED" number: 0 } }
"""
STORE = """
    name: "store.proto" package: "shop" syntax: "proto2" dependency: "base.proto"
    message_type {
      name: "Order"
      extension { name: "note" extendee: ".shop.Item" number: 101 label: LABEL_OPTIONAL type: TYPE_STRING }
    }
    extension { name: "price" extendee: ".shop.Item" number: 100 label: LABEL_OPTIONAL type: TYPE_INT64 }
    service { name: "Store" method { name: "Buy" input_type: ".shop.Order" output_type: ".shop.Item" } }
"""
TOP = """
    name: "top.proto" package: "top" syntax: "proto3" dependency: "store.proto" dependency: "base.proto"
    message_type { name: "Top" }
"""


def file_set(*texts: str) -> bytes:
    """A serialized descriptor set of files in text format."""
    files = [text_format.Parse(text, FileDescriptorProto()) for text in texts]
    return FileDescriptorSet(file=files).SerializeToString()


@pytest.fixture(scope="module")
def services() -> LocalServices:
    """Services that tell of a small shop."""
    return LocalServices([file_set(BASE, STORE, TOP)], ServiceStates({}))


def question(version: str = "v1", **asked: Any) -> Any:
    """A request; `host` is always set, so that it must come back."""
    return message_class(f"grpc.reflection.{version}.ServerReflectionRequest")(host="here", **asked)


def ask(services: LocalServices, path: str = V1, **asked: Any) -> Any:
    """The answer to one question."""
    version = path.split(".")[2]
    call = open_call(services, path)
    call.send(question(version, **asked))
    call.sink.on_end()
    assert call.answer.status() == (0, "")
    (answer,) = call.answer.messages(f"grpc.reflection.{version}.ServerReflectionResponse")
    assert answer.original_request == question(version, **asked)
    assert answer.valid_host == "here"
    return answer


def names(answer: Any) -> list[str]:
    """The names of the files in an answer."""
    return [FileDescriptorProto.FromString(data).name for data in answer.file_descriptor_response.file_descriptor_proto]


@pytest.mark.parametrize("path", [V1, ALPHA])
def test_services_are_listed(services: LocalServices, path: str) -> None:
    """list_services names all services, those of health and reflection included, in both versions."""
    listed = [service.name for service in ask(services, path, list_services="*").list_services_response.service]
    assert listed == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "shop.Store",
    ]


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        ("shop.Item", "base.proto"),
        ("shop.Item.id", "base.proto"),
        ("shop.Item.key", "base.proto"),
        ("shop.Item.Part", "base.proto"),
        ("shop.Item.Part.Size", "base.proto"),
        ("shop.Item.Part.SMALL", "base.proto"),
        ("shop.Colour", "base.proto"),
        ("shop.RED", "base.proto"),
        ("shop.Store", "store.proto"),
        ("shop.Store.Buy", "store.proto"),
        ("shop.price", "store.proto"),
        ("shop.Order.note", "store.proto"),
    ],
)
def test_every_kind_of_symbol_is_found(services: LocalServices, symbol: str, file: str) -> None:
    """Messages, fields, oneofs, enums, values, services, methods and extensions lead to their file."""
    assert names(ask(services, file_containing_symbol=symbol))[0] == file


@pytest.mark.parametrize("path", [V1, ALPHA])
def test_asked_file_comes_first_and_all_it_imports_after_it(services: LocalServices, path: str) -> None:
    """The answer is the file asked for, then each import once, which is enough to build it."""
    answer = ask(services, path, file_by_filename="top.proto")
    assert names(answer) == ["top.proto", "store.proto", "base.proto"]
    pool = DescriptorPool()
    for data in reversed(answer.file_descriptor_response.file_descriptor_proto):
        pool.AddSerializedFile(data)
    assert pool.FindMethodByName("shop.Store.Buy").input_type.full_name == "shop.Order"


def test_extensions_are_found(services: LocalServices) -> None:
    """Extensions are found by message and number, and all their numbers are told."""
    extension = {"containing_type": "shop.Item", "extension_number": 101}
    assert names(ask(services, file_containing_extension=extension)) == ["store.proto", "base.proto"]
    found = ask(services, all_extension_numbers_of_type="shop.Item").all_extension_numbers_response
    assert (found.base_type_name, list(found.extension_number)) == ("shop.Item", [100, 101])
    none = ask(services, all_extension_numbers_of_type="shop.Order").all_extension_numbers_response
    assert (none.base_type_name, list(none.extension_number)) == ("shop.Order", [])


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"file_by_filename": "no.proto"}, "file 'no.proto' is not known"),
        ({"file_containing_symbol": "shop"}, "symbol 'shop' is not known"),
        ({"file_containing_symbol": ""}, "symbol '' is not known"),
        (
            {"file_containing_extension": {"containing_type": "shop.Item", "extension_number": 7}},
            "extension 7 of 'shop.Item' is not known",
        ),
        ({"all_extension_numbers_of_type": "shop.Colour"}, "message 'shop.Colour' is not known"),
    ],
)
@pytest.mark.parametrize("path", [V1, ALPHA])
def test_unknown_things_are_not_found(services: LocalServices, path: str, asked: dict[str, Any], text: str) -> None:
    """What is not known is an error in the answer, NOT_FOUND, and the call goes on."""
    error = ask(services, path, **asked).error_response
    assert (error.error_code, error.error_message) == (Code.NOT_FOUND, text)


def test_question_without_content_is_an_error(services: LocalServices) -> None:
    """A request that asks for nothing is answered with an error."""
    assert ask(services).error_response.error_code == Code.INVALID_ARGUMENT


def test_questions_are_answered_as_they_arrive(services: LocalServices) -> None:
    """Each request has its answer before the next is sent, in one call that ends when the client ends it."""
    call = open_call(services, V1)
    for number, symbol in enumerate(["shop.Item", "no.Such", "shop.Store"], 1):
        call.send(question(file_containing_symbol=symbol))
        answers = call.answer.messages("grpc.reflection.v1.ServerReflectionResponse")
        assert len(answers) == number
        assert answers[-1].original_request.file_containing_symbol == symbol
    call.send(question(list_services=""), question(file_by_filename="base.proto"))
    assert len(call.answer.messages("grpc.reflection.v1.ServerReflectionResponse")) == 5
    assert not call.answer.ended
    call.sink.on_end()
    assert call.answer.status() == (0, "")


def test_call_without_questions_ends_well(services: LocalServices) -> None:
    """A client that asks nothing gets an empty stream."""
    call = open_call(services, V1)
    call.sink.on_end()
    assert call.answer.status() == (0, "")


def test_malformed_question_ends_the_call(services: LocalServices) -> None:
    """Bytes that are no request end the call with INVALID_ARGUMENT, after the answers before it."""
    call = open_call(services, V1)
    call.send(question(list_services=""))
    call.sink.on_data(b"\0\0\0\0\1\xff")
    assert len(call.answer.messages("grpc.reflection.v1.ServerReflectionResponse")) == 1
    assert call.answer.status()[0] == Code.INVALID_ARGUMENT


@pytest.mark.parametrize(("size", "count"), [(1, MAX_QUESTIONS), (60_000, MAX_BYTES // 60_000)])
def test_one_call_may_not_ask_without_end(services: LocalServices, size: int, count: int) -> None:
    """Questions of one call are bounded, since its answers wait for a client that may never read."""
    call = open_call(services, V1)
    for _ in range(count):
        call.send(question(file_by_filename="x" * size))
    assert not call.answer.ended
    call.send(question(file_by_filename="x" * size))
    assert call.answer.status()[0] == Code.RESOURCE_EXHAUSTED


def test_own_services_are_told_of_completely(services: LocalServices) -> None:
    """Health and reflection themselves can be reflected, all their methods included."""
    for symbol in ("grpc.health.v1.Health.Watch", "grpc.reflection.v1.ServerReflection.ServerReflectionInfo"):
        assert ask(services, file_containing_symbol=symbol).WhichOneof("message_response") == "file_descriptor_response"


# several sets


def test_first_set_to_declare_a_name_is_served() -> None:
    """A later file that declares a name again is left out, and so is what imports it; the rest is served."""
    other = BASE.replace("base.proto", "other.proto")
    user = """name: "user.proto" package: "user" dependency: "other.proto" message_type { name: "User" }"""
    free = """name: "free.proto" package: "free" message_type { name: "Free" } service { name: "Serves" }"""
    index = DescriptorIndex([file_set(BASE, STORE), file_set(other, user, free)])
    assert index.file_of_symbol("shop.Item") == "base.proto"
    assert index.file_of_symbol("user.User") is None
    assert index.file_of_symbol("free.Free") == "free.proto"
    assert index.services == ("free.Serves", "shop.Store")
    assert index.left_out == {
        "other.proto": "base.proto declares shop.Colour too",
        "user.proto": "it imports other.proto, which is not served",
    }


def test_same_file_in_two_sets_is_served_once() -> None:
    """What sets share, such as the files of google.protobuf, counts once and is usable from both."""
    index = DescriptorIndex([file_set(BASE, STORE), file_set(BASE, STORE, TOP)])
    assert index.left_out == {}
    assert index.services == ("shop.Store",)
    assert index.with_imports("top.proto") is not None


def test_another_file_of_the_same_name_is_left_out() -> None:
    """Two different files of one name cannot both be told of."""
    index = DescriptorIndex([file_set(BASE), file_set(BASE.replace("Item", "Thing"), TOP.replace("store", "base"))])
    assert index.left_out == {
        "base.proto": "another file has its name",
        "top.proto": "it imports base.proto, which is not served",
    }


def test_incomplete_set_is_not_served() -> None:
    """A file whose import is missing is left out, since no client could build it."""
    assert DescriptorIndex([file_set(STORE)]).left_out == {"store.proto": "it imports base.proto, which is not served"}


def test_same_extension_twice_is_left_out() -> None:
    """Two files that extend a message by the same number cannot both be told of."""
    again = STORE.replace("store.proto", "again.proto").replace('package: "shop"', 'package: "again"')
    index = DescriptorIndex([file_set(BASE, STORE), file_set(BASE, again)])
    assert index.left_out == {"again.proto": "store.proto extends shop.Item by 100 too"}


def test_options_files_are_served() -> None:
    """Google's own descriptor file can be told of like any other."""
    file = FileDescriptorProto.FromString(descriptor_pb2.DESCRIPTOR.serialized_pb)
    index = DescriptorIndex([FileDescriptorSet(file=[file]).SerializeToString()])
    assert index.file_of_symbol("google.protobuf.FileDescriptorSet.file") == "google/protobuf/descriptor.proto"
