"""Fields of messages made of schemas keep their numbers, and what would change one is refused."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from codegen.broken_specs import BASE
from codegen.test_link import lines_of
from inferbridge.cli import main
from inferbridge_codegen.numbering import numbers_of, renumbered

API = "apis/base.yaml"
REST_ALONE = """
  - name: tell
    operation: ask
    rest:
      method: POST
      paths: [/tell]
      request: {schema: Question, map: {name: name}}
      reply: {schema: Answer, map: {answer: answer, sure: sure}}
"""


@given(given_numbers=st.lists(st.sampled_from([0, 0, 0, 500, 501])), more=st.lists(st.just(0)))
def test_fields_at_the_end_change_nothing(given_numbers: list[int], more: list[int]) -> None:
    """Whatever stands there, the numbers of the fields before stay."""
    assert numbers_of([*given_numbers, *more])[: len(given_numbers)] == numbers_of(given_numbers)


@given(given_numbers=st.lists(st.just(0)), at=st.integers(0, 10))
def test_a_numbered_field_moves_no_other(given_numbers: list[int], at: int) -> None:
    """A field that says its number can stand anywhere."""
    with_one = [*given_numbers[:at], 700, *given_numbers[at:]]
    assert [number for number in numbers_of(with_one) if number != 700] == numbers_of(given_numbers)


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """The small valid set with an endpoint that is REST alone."""
    root = Path(shutil.copytree(BASE, tmp_path / "specs"))
    (root / API).write_text((root / API).read_text() + REST_ALONE)
    return root


def changed(specs: Path, old: str, new: str) -> None:
    """Write the API otherwise."""
    text = (specs / API).read_text()
    assert old in text
    (specs / API).write_text(text.replace(old, new))


def test_two_fields_of_one_number_are_refused(specs: Path) -> None:
    """A declared number may not be one that another field counts to."""
    changed(specs, "sure: {type: bool}", "sure: {type: bool, number: 1}")
    assert lines_of(specs) == ["apis/base.yaml:9:5: sure has the number 1, which is that of answer"]


@pytest.mark.parametrize("number", ["0", "1001", "first"])
def test_a_number_is_one_of_a_thousand(specs: Path, number: str) -> None:
    """Higher ones are the generator's own."""
    changed(specs, "sure: {type: bool}", f"sure: {{type: bool, number: {number}}}")
    (line,) = lines_of(specs)
    assert line.endswith("number must be a whole number from 1 to 1000")


ANSWER = "    answer: {type: string}\n    sure: {type: bool}\n"


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (f"{ANSWER}    more: {{type: any}}\n", ""),
        ("    more: {type: any, number: 3}\n" + ANSWER, ""),
        ("    more: {type: any}\n" + ANSWER, "Answer.sure has the number 2 and would get 3"),
        ("    sure: {type: bool}\n    answer: {type: string}\n", "Answer.answer has the number 1 and would get 2"),
        (ANSWER.replace("sure", "certain"), "Answer.sure was removed, and its number 2 would be that of certain"),
    ],
)
def test_what_is_generated_once_keeps_its_numbers(specs: Path, tmp_path: Path, now: str, words: str) -> None:
    """Generating over an earlier output is refused, and nothing written, where a number would change its meaning."""
    arguments = ["generate", "--specs", str(specs), "--alone", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    recorded = (tmp_path / "out/base/rest_service.binpb").read_bytes()
    changed(specs, ANSWER, now)
    if "certain" in now:
        changed(specs, "map: {answer: answer, sure: sure}", "map: {answer: answer, certain: sure}")
    result = CliRunner().invoke(main, arguments)
    assert words in result.output
    assert result.exit_code == (1 if words else 0), result.output
    assert ((tmp_path / "out/base/rest_service.binpb").read_bytes() == recorded) is bool(words)


def recorded(**numbers: int) -> bytes:
    """A set with one message of these fields."""
    fields = [
        FieldDescriptorProto(name=name, number=number, type=FieldDescriptorProto.TYPE_BOOL)
        for name, number in numbers.items()
    ]
    message = DescriptorProto(name="M", field=fields)
    return FileDescriptorSet(file=[FileDescriptorProto(message_type=[message])]).SerializeToString()


def test_every_change_is_named(tmp_path: Path) -> None:
    """All fields in question, in the order of the record; a field that is gone without a successor is none of them."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rest_service.binpb").write_bytes(recorded(one=1, two=2, three=3, four=4))
    assert renumbered({"a/rest_service.binpb": recorded(two=1, three=2, five=3)}, tmp_path) == [
        "M.one was removed, and its number 1 would be that of two",
        "M.two has the number 2 and would get 1",
        "M.three has the number 3 and would get 2",
    ]


def test_another_type_is_another_field(tmp_path: Path) -> None:
    """Clients would read the bytes of one as the other."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rest_service.binpb").write_bytes(recorded(one=1))
    wider = FileDescriptorSet.FromString(recorded(one=1))
    wider.file[0].message_type[0].field[0].type = FieldDescriptorProto.TYPE_INT64
    assert renumbered({"a/rest_service.binpb": wider.SerializeToString()}, tmp_path) == [
        "M.one would be of another type under the same number"
    ]
