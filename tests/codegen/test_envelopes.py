"""What the messages of a gRPC stream are wrapped in: fields that must be there, and of the right kind."""

import shutil
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from codegen.test_link import lines_of
from inferbridge_codegen.model.envelopes import link_envelope
from inferbridge_codegen.model.types import Envelope, Field, Operation, Struct
from inferbridge_codegen.problems import Mark, Problems
from inferbridge_codegen.spec.documents import EnvelopeDocument, TypeRef

STRUCTURED = Path(__file__).resolve().parent.parent / "golden" / "structured"
MARK = Mark("a.yaml", 3, 7)
KIND = FieldDescriptorProto


def wrapped() -> Descriptor:
    """message Wrapped {Inner inner = 1; string error = 2; repeated Inner many = 3; int32 number = 4;}"""
    file = FileDescriptorProto(name="w.proto", package="w", syntax="proto3")
    file.message_type.add(name="Inner")
    message = file.message_type.add(name="Wrapped")
    inner = {"type": KIND.TYPE_MESSAGE, "type_name": ".w.Inner"}
    message.field.add(name="inner", number=1, label=KIND.LABEL_OPTIONAL, **inner)
    message.field.add(name="error", number=2, label=KIND.LABEL_OPTIONAL, type=KIND.TYPE_STRING)
    message.field.add(name="many", number=3, label=KIND.LABEL_REPEATED, **inner)
    message.field.add(name="number", number=4, label=KIND.LABEL_OPTIONAL, type=KIND.TYPE_INT32)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool.FindMessageTypeByName("w.Wrapped")


def linked(message: str, error: str, *echo: str) -> tuple[tuple[Envelope, Descriptor] | None, list[str]]:
    """The envelope, and the problems."""
    text = Field("id", TypeRef("string", False, False, MARK))
    operation = Operation(
        "op", "", False, Struct("Ask", "", (text,)), Struct("Reply", "", ()), Struct("Part", "", (text,))
    )
    problems = Problems()
    found = link_envelope(EnvelopeDocument(message, error, echo, MARK), operation, wrapped(), problems)
    return found, [str(problem) for problem in problems.sorted()]


def test_an_envelope_names_its_class_and_the_message_within() -> None:
    """What the generator needs: the codec of the envelope, its attributes, and the type that the lines are about."""
    found, problems = linked("inner", "error", "id")
    assert problems == []
    assert found is not None
    assert found[0] == Envelope("Wrapped", "inner", "error", ("id",))
    assert found[1].full_name == "w.Inner"


@pytest.mark.parametrize(
    ("message", "error", "echo", "problem"),
    [
        ("iner", "error", "id", "message w.Wrapped has no field 'iner'; did you mean 'inner'?"),
        ("inner", "eror", "id", "message w.Wrapped has no field 'eror'; did you mean 'error'?"),
        ("many", "error", "id", "w.Wrapped.many is no message"),
        ("number", "error", "id", "w.Wrapped.number is no message"),
        ("inner", "number", "id", "w.Wrapped.number is no string, so it cannot hold the text of an error"),
        ("inner", "error", "ids", "Ask has no field 'ids' to echo; did you mean 'id'?"),
    ],
)
def test_a_wrong_envelope_is_told_with_its_place(message: str, error: str, echo: str, problem: str) -> None:
    """The field that is wrong, why, and the nearest right one."""
    assert f"a.yaml:3:7: {problem}" in linked(message, error, echo)[1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "method: trips.Planner/Plan\n",
            "method: trips.Planner/Plan\n      envelope: {message: a, error: b}\n",
            "apis/trips.yaml:82:17: envelope does not go with mode unary",
        ),
        (
            "method: trips.Planner/Follow\n",
            "method: trips.Planner/Follow\n      envelope: {message: stop, error: text}\n",
            "apis/trips.yaml:123:17: message trips.Step has no field 'stop'",
        ),
        (
            "method: trips.Planner/Follow\n",
            "method: trips.Planner/Follow\n      envelope: {message: text, eror: text}\n",
            "apis/trips.yaml:123:33: envelope has no key 'eror'; did you mean 'error'?",
        ),
    ],
)
def test_a_specs_envelope_is_checked(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """Where it stands in a spec."""
    root = Path(shutil.copytree(STRUCTURED, tmp_path / "specs"))
    file = root / "apis/trips.yaml"
    text = file.read_text("utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), "utf-8")
    assert any(line.startswith(expected) for line in lines_of(root)), lines_of(root)
